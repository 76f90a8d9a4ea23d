"""Sections of the number to optimise: an objective or a sum of several, and penalties."""

from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

from pipeline.config.section import Section


class _WithOptions(Section):
    """A kind, and options of which each kind knows some."""

    known: ClassVar[dict[str, tuple[str, ...]]]
    kind: str

    @property
    def options(self) -> dict[str, Any]:
        """What was given of the kind's options."""
        names = {name for options in self.known.values() for name in options}
        return {name: getattr(self, name) for name in sorted(names) if getattr(self, name) is not None}

    @pydantic.model_validator(mode="after")
    def _used(self) -> "_WithOptions":
        known = self.known.get(self.kind, ())
        for key in self.options:
            if key not in known:
                raise ValueError(
                    f"{key} means nothing to {self.kind!r}, which has {', '.join(known) or 'no options'}; remove it"
                )
        return self


def _different(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if names is not None and len(set(names)) < len(names):
        raise ValueError(f"{list(names)} name one twice; name each once")
    return names


SUMS = ("channel", "events")  # options that name a channel outside the fit; a kind that knows one needs it
Names = Annotated[tuple[str, ...] | None, pydantic.AfterValidator(_different)]


class _Quantity(_WithOptions):
    """The options of objectives."""

    known: ClassVar[dict[str, tuple[str, ...]]] = {
        "discovery": ("mu",),
        "discovery_p_value": ("mu",),
        "cls": ("mu",),
        "upper_limit": ("level", "band"),
        "generalised_variance": ("parameters",),
        "inferno": ("parameter",),
        "asimov_significance": ("background_uncertainty",),
        "cross_entropy": ("channel",),
        "mean": ("channel", "events"),
    }

    mu: float | None = Field(
        default=None,
        gt=0,
        description="signal strength of `discovery`, `discovery_p_value` and `cls`; absent: 1",
    )
    level: float | None = Field(
        default=None, gt=0, lt=1, description="CLs at the limit of `upper_limit`; absent: 0.05"
    )
    band: Literal[-2, -1, 0, 1, 2] | None = Field(
        default=None, description="edge of the expected band of `upper_limit` in sigma; absent: 0, the median"
    )
    parameter: str | None = Field(default=None, description="of `inferno`; absent: the POI")
    parameters: Names = Field(
        default=None, min_length=1, description="of `generalised_variance`; absent: the POI"
    )
    background_uncertainty: float | None = Field(
        default=None, gt=0, description="relative, in each bin, of `asimov_significance`; absent: 0"
    )
    channel: str | None = Field(
        default=None,
        description="of `cross_entropy` and `mean`: a channel with `in_fit: false`, the sum of weights times values",
    )
    events: str | None = Field(
        default=None, description="of `mean`: a channel with `in_fit: false`, the sum of the weights"
    )

    @pydantic.model_validator(mode="after")
    def _named(self) -> "_Quantity":
        for key in self.known.get(self.kind, ()):
            if key in SUMS and key not in self.options:
                raise ValueError(
                    f"{self.kind!r} needs {key}, the name of a channel with in_fit: false; add it"
                )
        return self

    @property
    def channels(self) -> set[str]:
        """Channels outside the fit that it is made of."""
        return {name for key, name in self.options.items() if key in SUMS}


ObjectiveKind = Literal[
    "poi_uncertainty",
    "profile_interval",
    "generalised_variance",
    "inferno",
    "discovery",
    "discovery_p_value",
    "cls",
    "upper_limit",
    "asimov_significance",
    "cross_entropy",
    "mean",
    "merit",
]
WITHOUT_FIT = ("cross_entropy", "mean", "merit")


class WeightedTerm(_Quantity):
    """One objective of a weighted sum."""

    kind: ObjectiveKind = Field(description="as `objective.kind`")
    weight: float = Field(default=1.0, gt=0, description="factor; what is to be maximised enters negated")


class Penalty(_WithOptions):
    """Something that keeps the fit physical: 0 where all is well, else the sum of squared excesses."""

    known: ClassVar[dict[str, tuple[str, ...]]] = {
        "overconstrained": ("floor", "parameters"),
        "pulls": ("most", "mu", "parameters"),
        "expected_events": ("least",),
        "mc_statistics": ("most",),
    }

    kind: Literal["overconstrained", "pulls", "expected_events", "mc_statistics"] = Field(
        description="`overconstrained`: width after the fit below `floor` of that before; `pulls`: beyond `most` "
        "widths with the POI held at `mu`; `expected_events`: a bin below `least`; `mc_statistics`: relative "
        "uncertainty of a bin above `most`"
    )
    weight: float = Field(default=1.0, gt=0, description="factor on the penalty, in units of the objective")
    floor: float | None = Field(default=None, gt=0, description="of `overconstrained`; absent: 0.5")
    most: float | None = Field(
        default=None, gt=0, description="of `pulls`, absent: 1, and of `mc_statistics`, absent: 0.2"
    )
    least: float | None = Field(default=None, gt=0, description="of `expected_events`; absent: 1")
    mu: float | None = Field(default=None, description="of `pulls`; absent: 0")
    parameters: Names = Field(
        default=None,
        min_length=1,
        description="nuisance parameters to look at; absent: all but those of single bins",
    )


class Objective(_Quantity):
    """The number to optimise."""

    kind: Literal[ObjectiveKind, "weighted_sum"] = Field(
        description="`poi_uncertainty`, `discovery`, ...: see docs/objectives.md"
    )
    terms: tuple[WeightedTerm, ...] = Field(default=(), description="of `weighted_sum`: what is added up")
    penalties: tuple[Penalty, ...] = Field(
        default=(), description="added to what is minimised, not to the number that is reported"
    )

    @pydantic.model_validator(mode="after")
    def _summed(self) -> "Objective":
        if (self.kind == "weighted_sum") != bool(self.terms):
            raise ValueError(
                "objective.terms belong to kind 'weighted_sum', which needs at least one; "
                f"kind is {self.kind!r} with {len(self.terms)} terms"
            )
        return self

    @property
    def parts(self) -> tuple[_Quantity, ...]:
        """The objectives that are added up: itself, or its terms."""
        return self.terms or (self,)

    @property
    def sums(self) -> set[str]:
        """Channels that are not in the fit, whose sums it names."""
        return {name for part in self.parts for name in part.channels}

    @property
    def is_merit(self) -> bool:
        """Whether the analysis's own figure of merit is in it, which may be made of any channel not in the fit."""
        return any(part.kind == "merit" for part in self.parts)

    @property
    def needs_fit(self) -> bool:
        """Whether it means nothing without a model."""
        return bool(self.penalties) or any(part.kind not in WITHOUT_FIT for part in self.parts)

    @property
    def parameter_names(self) -> set[str]:
        """Parameters of the fit that are named anywhere in it."""
        single = {part.parameter for part in self.parts if part.parameter is not None}
        several = [part.parameters for part in self.parts] + [part.parameters for part in self.penalties]
        return single | {name for names in several for name in names or ()}
