"""The section ``objective``: the number to optimise, and penalties beside it."""

import typing
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.config.fit.groups import Groups
from pipeline.config.fit.model import Model
from pipeline.config.kinds import BesideKind, Kind
from pipeline.config.quantities import (
    AsimovSignificance,
    ExpectedLimit,
    JointSignificance,
    Merit,
    OfStrength,
    ProfileInterval,
    Single,
    WeightedSum,
)
from pipeline.config.quantity import Names, Quantity


class Penalty(Kind):
    """Something that keeps the fit physical: 0 where all is well, else the sum of squared excesses."""

    common: ClassVar[frozenset[str]] = frozenset({"kind", "weight"})
    weight: float = Field(default=1.0, gt=0, description="factor on the penalty, in units of the objective")


class OfNuisanceParameters(Penalty):
    """A penalty on nuisance parameters."""

    parameters: Names = Field(
        default=None, min_length=1, description="those to look at; absent: all but those of single bins"
    )


class Overconstrained(OfNuisanceParameters):
    """Nuisance parameters whose width after the fit is too small a part of that before."""

    kind: Literal["overconstrained"] = "overconstrained"
    floor: float = Field(default=0.5, gt=0, description="smallest part that costs nothing")


class Pulls(OfNuisanceParameters):
    """Nuisance parameters that go far to pass for the signal."""

    kind: Literal["pulls"] = "pulls"
    most: float = Field(default=1.0, gt=0, description="largest pull that costs nothing, in widths")
    mu: float = Field(default=0.0, description="what the POI is held at")


class ExpectedEvents(Penalty):
    """Bins with few expected events."""

    kind: Literal["expected_events"] = "expected_events"
    least: float = Field(default=1.0, gt=0, description="fewest that cost nothing")


class McStatistics(Penalty):
    """Bins with few simulated events."""

    kind: Literal["mc_statistics"] = "mc_statistics"
    most: float = Field(
        default=0.2, gt=0, description="largest relative statistical uncertainty that costs nothing"
    )


AnyPenalty = Overconstrained | Pulls | ExpectedEvents | McStatistics
PENALTIES: dict[str, type[Penalty]] = {kind.named(): kind for kind in typing.get_args(AnyPenalty)}
"""The kinds by their names in the configuration."""


class Objective(BesideKind):
    """The number to optimise."""

    quantity: Single | WeightedSum = Field(discriminator="kind")
    penalties: tuple[Annotated[AnyPenalty, Field(discriminator="kind")], ...] = Field(
        default=(), description="added to what is minimised, not to the number that is reported"
    )
    template_noise: bool = Field(
        default=False,
        description="true: what is minimised is without what the noise of simulated events in varied templates is "
        "expected to add to it, by a jackknife of two halves of the events; the objective is evaluated three times",
    )

    @property
    def kind(self) -> str:
        """That of the quantity."""
        return self.quantity.kind

    @property
    def parts(self) -> tuple[Quantity, ...]:
        """The quantities that are added up: itself, or those of a sum."""
        quantity = self.quantity
        if isinstance(quantity, WeightedSum):
            return tuple(term.quantity for term in quantity.terms)
        return (quantity,)

    def with_groups(self, groups: Groups) -> "Objective":
        """Return the same with the parameters of the groups that it names."""
        return self.model_copy(update={"quantity": self.quantity.with_groups(groups)})

    @property
    def channels(self) -> set[str]:
        """Channels that are not in the fit, whose sums it names."""
        return {name for part in self.parts for name in part.channels}

    @property
    def is_merit(self) -> bool:
        """Whether the analysis's own figure of merit is in it, which may be made of any channel not in the fit."""
        return any(isinstance(part, Merit) for part in self.parts)

    @property
    def needs_fit(self) -> bool:
        """Whether it means nothing without a model."""
        return bool(self.penalties) or not all(part.of_sums for part in self.parts)

    @property
    def parameter_names(self) -> set[str]:
        """Parameters of the fit that are named anywhere in it."""
        watched = (p.parameters for p in self.penalties if isinstance(p, OfNuisanceParameters))
        of_penalties = {name for names in watched for name in names or ()}
        return of_penalties.union(*(part.parameter_names for part in self.parts))


def require_measurable(model: Model, objective: Objective, leading: object) -> None:
    """Raise where something is asked for that the templates of a theory's monomials do not have.

    Raises:
        ValueError: a number of a signal strength, or something that leaves templates out or changes them.
    """
    of_strength = (OfStrength, ExpectedLimit, AsimovSignificance, JointSignificance)
    asked = [type(part).named() for part in objective.parts if isinstance(part, of_strength)]
    if asked and model.is_of_theory:
        raise ValueError(
            f"objective: {asked[0]!r} is of a signal strength, and the POI {model.poi!r} is a coefficient of "
            "model.theory; take poi_uncertainty, profile_interval, generalised_variance or inferno"
        )
    held = [own for own in objective.penalties if isinstance(own, Pulls)]
    at = {entry.name: entry.nominal for entry in model.theory}.get(model.poi)
    if any(own.mu == at for own in held):
        raise ValueError(
            f"objective: penalty 'pulls' holds {model.poi!r} at mu {at:g}, its nominal value, where nothing is pulled; "
            "give another mu"
        )
    if objective.template_noise or leading != "all":
        raise ValueError(
            "model.theory: not with objective.template_noise, nor with optimise.leading other than all; remove it"
        )
    if model.pseudodata:
        raise ValueError(
            "model.pseudodata: its fit is pyhf's, which has no coefficients of model.theory; remove it"
        )


def require_inside_bounds(model: Model, objective: Objective) -> None:
    """Raise where the number is of a value of the POI that its bounds do not allow.

    Raises:
        ValueError: a signal strength above the upper bound, or an interval around a nominal value at a bound.
    """
    poi = next(n for n in model.free_parameters if n.name == model.poi)
    low, high = poi.bounds
    for part in objective.parts:
        if isinstance(part, OfStrength) and part.is_given and not part.mu <= high:
            raise ValueError(
                f"objective: mu {part.mu} of {part.kind!r} is above the upper bound {high} of {poi.name!r}; "
                "raise the bound or lower mu"
            )
        if isinstance(part, ProfileInterval) and not low < poi.nominal < high:
            raise ValueError(
                f"objective: 'profile_interval' needs the POI's nominal {poi.nominal} inside its bounds "
                f"{list(poi.bounds)}, not at one; widen the bounds of {poi.name!r}"
            )
