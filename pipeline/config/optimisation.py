"""How the parameters move, and which of the places they come to is the result."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from pipeline.config.section import MOST, Section


class Optimise(Section):
    """How the parameters move."""

    epochs: int = Field(
        default=100, ge=1, le=MOST, description="updates; every epoch sees every training event"
    )
    epochs_per_job: int = Field(default=50, ge=1, description="epochs per Snakemake job")
    optimiser: Literal["adam", "sgd"] = Field(default="adam", description="optax's optimiser of that name")
    learning_rate: float = Field(
        default=0.03,
        gt=0,
        description="step in units of each parameter's allowed range (bounds mapped to 0..1)",
    )
    final_learning_rate_fraction: float = Field(
        default=0.05, gt=0, le=1, description="cosine decay of the learning rate ends at this fraction"
    )
    first_moment_decay: float = Field(default=0.9, ge=0, lt=1, description="adam: memory of the gradient")
    second_moment_decay: float = Field(
        default=0.9,
        ge=0,
        lt=1,
        description="adam: memory of the gradient's size; short, because full gradients have no noise to average "
        "and their size changes by orders of magnitude as widths shrink",
    )
    values: Literal["relaxed", "exact"] = Field(
        default="relaxed",
        description="the templates at which the objective is differentiated: smooth ones, or those of exact cuts with "
        "the smooth ones' derivative behind them; the cost is the same",
    )
    check_every: int | None = Field(
        default=5,
        ge=1,
        description="look at the objective with exact cuts on training events every so many epochs, at the start and "
        "at the end, half of an epoch each, and keep the best of these epochs, penalties included; null: the last "
        "epoch is kept",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="end a run, or one of its starts, after so many checks (`check_every`) in a row without a smaller "
        "value, penalties included, than the best of them; absent: all epochs are run",
    )
    starts: int = Field(
        default=1,
        ge=1,
        le=MOST,
        description="optimisations one after another, each of `epochs`: from the start values, then from values drawn "
        "inside the bounds, and from arrays and bin edges drawn anew. The best check of them all is the result; the "
        "cost is that of so many runs",
    )
    anneal_fraction: float = Field(
        default=0.8, gt=0, le=1, description="widths are final after this share of epochs"
    )
    seed: int = Field(
        default=1, ge=0, lt=2**32, description="seed of the analysis's own random initial values"
    )
    shifts: Literal["templates", "derivatives"] = Field(
        default="templates",
        description="the relaxed templates of an analysis's `Shift`: observed at its size, or the nominal ones plus "
        "its size times their derivative; exact cuts always observe them",
    )
    halvings: int = Field(
        default=0,
        ge=0,
        le=60,  # 2^-60 of a step is no step in 64 bits
        description="how often an update is halved where the objective after it has no finite value or converged fit; "
        "0: the run stops there",
    )

    leading: Literal["all"] | Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)] = Field(
        default="all",
        description="systematics with templates that the optimisation observes: all; a whole number of those that "
        "matter most for the objective; or as many as together make a share of what all matter, as 0.95. The others' "
        "templates keep their ratio to the nominal. `evaluate` always has all",
    )
    leading_every: int = Field(
        default=10,
        ge=2,
        description="epochs from one choice of `leading` to the next; at the first of them all are observed",
    )
    keep_every: int | None = Field(
        default=None,
        ge=1,
        description="keep the state of every so-manyth epoch in `checkpoints`, besides the latest two; absent: none",
    )

    @pydantic.model_validator(mode="after")
    def _is_checked(self) -> "Optimise":
        for key, value, least in (("patience", self.patience, None), ("starts", self.starts, 1)):
            if self.check_every is None and value != least:
                raise ValueError(
                    f"{key}: {value} needs checks of the exact objective, and check_every is null; set it to a number "
                    f"of epochs, or remove {key}"
                )
        return self

    @property
    def all_epochs(self) -> int:
        """Epochs of all starts, where none ends before its last one."""
        return self.starts * self.epochs

    @property
    def checks(self) -> int:
        """Checks of a start, where it does not end before its last epoch."""
        return 0 if self.check_every is None else len(range(0, self.epochs, self.check_every)) + 1

    @property
    def jobs(self) -> int:
        """Snakemake jobs, each a block of epochs, the last one perhaps a shorter one."""
        return -(-self.all_epochs // self.epochs_per_job)
