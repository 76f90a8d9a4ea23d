"""How a result is judged: further models, and the errors of the change, of the optimum and of the optimisation."""

import pydantic
from pydantic import Field

from pipeline.config.fit.model import Model
from pipeline.config.objective import Objective
from pipeline.config.section import MOST, Name, Section

MOST_TOYS = 10_000_000


class Alternative(Section):
    """Another model and its objective, for the events and parameters of the run."""

    model: Model
    objective: Objective


class Evaluate(Section):
    """How the result is judged."""

    also: dict[Name, Alternative] = Field(
        default={},
        description="further models by name: what the same parameters are worth in them, on the same templates",
    )
    bootstrap: int = Field(
        default=0,
        ge=0,
        le=MOST,
        description="replicas of the events, each event weighted by a Poisson number of mean 1, that give the "
        "statistical uncertainty of the improvement; 0: none",
    )
    certificate: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="points per scalar parameter, around the result, at which what is minimised is looked at with "
        "exact cuts on training events: is one better beyond its error? Each takes a sweep over these events, and "
        "`certificate_replicas` more for the error; 0: none",
    )
    certificate_replicas: int = Field(
        default=10,
        ge=5,
        le=MOST,
        description="replicas of the training events that give the errors of the certificate's points",
    )
    polish: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="rounds of moves, one parameter after the other, to the best point of the certificate's that is "
        "better beyond its error; the third point, `polished`, is evaluated as the others are; 0: none",
    )
    refits: int = Field(
        default=0,
        ge=0,
        le=MOST,
        description="optimisations of bootstrap replicas of the training events, each as long as the run's own: the "
        "spread of the parameters and of the held-out objective; 0: none",
    )
    toys: int = Field(
        default=0,
        ge=0,
        le=MOST_TOYS,
        description="pseudo-experiments of the final model, of each kind: coverage of the interval and of an upper "
        "limit, bias, distribution of the test statistic, goodness of fit of the pseudodata (docs/toys.md); 0: none; "
        "not 1, which has no spread",
    )
    toys_seed: int = Field(
        default=20261130,
        ge=0,
        lt=2**32,
        description="seed of their random numbers; runs of one seed differ by their models alone",
    )

    @pydantic.field_validator("toys")
    @classmethod
    def _have_errors(cls, toys: int) -> int:
        if toys == 1:
            raise ValueError(
                "1 toy has no spread, so nothing that it says has an error; give 2 or more, thousands for a tail, or 0"
            )
        return toys
