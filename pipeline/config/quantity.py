"""What every number that can be optimised has: a name, a label, and whether less of it is better."""

from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from pipeline.config.fit.groups import Groups
from pipeline.config.kinds import Kind


def _different(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if names is not None and len(set(names)) < len(names):
        raise ValueError(f"{list(names)} name one twice; name each once")
    return names


Names = Annotated[tuple[str, ...] | None, pydantic.AfterValidator(_different)]


def _open(schema: JsonDict) -> None:
    """Allow keys beside a quantity's; ``BesideKind`` says that there are no further ones."""
    schema.pop("additionalProperties")


class Quantity(Kind):
    """A number that can be optimised."""

    model_config = ConfigDict(json_schema_extra=_open)

    label: ClassVar[str]  # in tables
    unit: ClassVar[str] = ""
    sense: ClassVar[Literal["minimise", "maximise"]] = "minimise"
    of_sums: ClassVar[bool] = False  # of channels that are not in the fit, instead of model and templates

    @property
    def sign(self) -> float:
        """Factor that makes it something to minimise."""
        return -1.0 if self.sense == "maximise" else 1.0

    @property
    def channels(self) -> frozenset[str]:
        """The channels outside the fit that it is made of."""
        return frozenset()

    @property
    def parameter_names(self) -> frozenset[str]:
        """The parameters of the fit that it names."""
        return frozenset()

    @property
    def title(self) -> str:
        """The label, with what the options make of it."""
        return self.label

    def with_groups(self, groups: Groups) -> "Quantity":
        """Return the same with the parameters of the groups that it names."""
        return self


class OfCombination(Quantity):
    """A number of the POI, of another parameter, or of a linear combination of several."""

    parameter: str | None = Field(default=None, description="absent: the POI")
    combination: dict[str, float] | None = Field(
        default=None, min_length=1, description="the factor on each of several parameters that are added up"
    )

    @pydantic.model_validator(mode="after")
    def _of_one(self) -> "OfCombination":
        if self.parameter is not None and self.combination is not None:
            raise ValueError(
                f"parameter {self.parameter!r} and combination {dict(self.combination)}: which is it of? Remove either"
            )
        if self.combination is not None and not all(self.combination.values()):
            raise ValueError(
                f"combination {dict(self.combination)} has a factor of 0; leave that parameter out"
            )
        return self

    @property
    def coefficients(self) -> dict[str, float]:
        """The factor on each parameter; none at all for the POI."""
        return self.combination or ({} if self.parameter is None else {self.parameter: 1.0})

    @property
    def parameter_names(self) -> frozenset[str]:
        """Those of the combination."""
        return frozenset(self.coefficients)

    @property
    def of_what(self) -> str:
        """What it is a number of, in words."""
        if self.combination is None:
            return self.parameter or "the parameter of interest"
        return " ".join(f"{factor:+g} {name}" for name, factor in self.combination.items())
