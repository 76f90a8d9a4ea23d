"""The kinds of ``objective``: what each is called, whether less of it is better, and the options it has."""

import typing
from typing import ClassVar, Literal

import pydantic
from pydantic import Field

from pipeline.config.fit.groups import Groups
from pipeline.config.fit.model import DATA_STATISTICS
from pipeline.config.kinds import BesideKind
from pipeline.config.quantity import Names, OfCombination, Quantity


class PoiUncertainty(OfCombination):
    """Uncertainty on the POI, another parameter, or a combination, by the Hessian."""

    label: ClassVar[str] = "uncertainty on the parameter of interest"
    kind: Literal["poi_uncertainty"] = "poi_uncertainty"

    @property
    def title(self) -> str:
        """Whose uncertainty it is."""
        return f"uncertainty on {self.of_what}"


class UncertaintyPart(OfCombination):
    """The part of the same that a group of systematics contributes, or the events of the data."""

    label: ClassVar[str] = "part of the uncertainty on the parameter of interest"
    kind: Literal["uncertainty_part"] = "uncertainty_part"
    group: str | None = Field(
        default=None,
        min_length=1,
        description="group of the model, or its parameter without one; `data_statistics`: the events of the data, "
        "`mc_statistics`: the simulated ones",
    )
    sources: Names = Field(default=None, min_length=1, description="nuisance parameters, in place of `group`")

    @pydantic.model_validator(mode="after")
    def _of_a_group(self) -> "UncertaintyPart":
        if (self.group is None) == (self.sources is None):
            raise ValueError(
                f"'uncertainty_part' needs either group or sources (group {self.group!r}, sources {self.sources}); "
                f"group: {DATA_STATISTICS} is the part of the data themselves"
            )
        return self

    @property
    def parameter_names(self) -> frozenset[str]:
        """Those of the combination, and the sources where they are named."""
        return super().parameter_names | (frozenset() if self.group else frozenset(self.sources or ()))

    @property
    def title(self) -> str:
        """Whose part it is."""
        return f"part of the uncertainty on {self.of_what} by {self.group or ', '.join(self.sources or ())}"

    def with_groups(self, groups: Groups) -> "UncertaintyPart":
        """Return the same with the parameters of its group as sources; none for that of the data."""
        return self if self.group is None else self.model_copy(update={"sources": groups[self.group]})


class ProfileInterval(Quantity):
    """Half of the POI's profile-likelihood interval."""

    label: ClassVar[str] = "half of the profile-likelihood interval"
    kind: Literal["profile_interval"] = "profile_interval"


class GeneralisedVariance(Quantity):
    """Determinant of the covariance of some parameters."""

    label: ClassVar[str] = "generalised variance"
    kind: Literal["generalised_variance"] = "generalised_variance"
    parameters: Names = Field(default=None, min_length=1, description="absent: the POI")

    @property
    def parameter_names(self) -> frozenset[str]:
        """Those whose covariance it is."""
        return frozenset(self.parameters or ())


class ExpectedVariance(Quantity):
    """A parameter's variance expected at the Asimov point, without a fit."""

    label: ClassVar[str] = "expected variance"
    kind: Literal["inferno"] = "inferno"
    parameter: str | None = Field(default=None, description="absent: the POI")

    @property
    def parameter_names(self) -> frozenset[str]:
        """The one whose variance it is."""
        return frozenset() if self.parameter is None else frozenset({self.parameter})


class OfStrength(Quantity):
    """A number of one signal strength."""

    mu: float = Field(default=1.0, gt=0, description="signal strength")

    @property
    def is_given(self) -> bool:
        """Whether the strength is not the default one."""
        return "mu" in self.model_fields_set


class Discovery(OfStrength):
    """Expected significance of a signal."""

    label: ClassVar[str] = "expected discovery significance"
    unit: ClassVar[str] = "sigma"
    sense: ClassVar[Literal["minimise", "maximise"]] = "maximise"
    kind: Literal["discovery"] = "discovery"


class DiscoveryPValue(OfStrength):
    """Logarithm of the p-value of the same."""

    label: ClassVar[str] = "logarithm of the expected p-value"
    kind: Literal["discovery_p_value"] = "discovery_p_value"


class Cls(OfStrength):
    """Logarithm of the CLs of a signal strength on data without signal."""

    label: ClassVar[str] = "logarithm of the expected CLs"
    kind: Literal["cls"] = "cls"


class ExpectedLimit(Quantity):
    """Signal strength that is excluded on data without signal."""

    label: ClassVar[str] = "expected upper limit"
    kind: Literal["upper_limit"] = "upper_limit"
    level: float = Field(default=0.05, gt=0, lt=1, description="CLs at the limit")
    band: Literal[-2, -1, 0, 1, 2] = Field(
        default=0, description="edge of the expected band in sigma, 0 the median"
    )


class AsimovSignificance(Quantity):
    """Counting significance of all bins in quadrature."""

    label: ClassVar[str] = "Asimov counting significance"
    unit: ClassVar[str] = "sigma"
    sense: ClassVar[Literal["minimise", "maximise"]] = "maximise"
    kind: Literal["asimov_significance"] = "asimov_significance"
    background_uncertainty: float | None = Field(
        default=None, gt=0, description="relative, in each bin; absent: the background is known exactly"
    )


class JointSignificance(Quantity):
    """Geometric mean of the significances of several signals, each with the others in its background."""

    label: ClassVar[str] = "geometric mean of significances"
    unit: ClassVar[str] = "sigma"
    sense: ClassVar[Literal["minimise", "maximise"]] = "maximise"
    kind: Literal["joint_significance"] = "joint_significance"
    signals: Names = Field(min_length=2, description="the norm factors of the signals, each at 1")
    fitted: bool = Field(
        default=True,
        description="true: by fits, in which all nuisance parameters and the other signals are free; false: counting "
        "significance of all bins in quadrature, without an uncertainty of the background",
    )

    @property
    def parameter_names(self) -> frozenset[str]:
        """Those of the signals."""
        return frozenset(self.signals or ())


class CrossEntropy(Quantity):
    """A loss that the analysis observes, summed over the events."""

    label: ClassVar[str] = "cross-entropy"
    of_sums: ClassVar[bool] = True
    kind: Literal["cross_entropy"] = "cross_entropy"
    channel: str = Field(
        description="the name of a channel with in_fit: false, the sum of weights times losses"
    )

    @property
    def channels(self) -> frozenset[str]:
        """The one of the loss."""
        return frozenset({self.channel})


class Mean(Quantity):
    """The mean over events of what the analysis observes."""

    label: ClassVar[str] = "mean over events"
    of_sums: ClassVar[bool] = True
    kind: Literal["mean"] = "mean"
    channel: str = Field(
        description="the name of a channel with in_fit: false, the sum of weights times values"
    )
    events: str = Field(description="the name of a channel with in_fit: false, the sum of the weights")

    @property
    def channels(self) -> frozenset[str]:
        """Both sums."""
        return frozenset({self.channel, self.events})


class Merit(Quantity):
    """The analysis's own figure of merit, which names label and unit itself."""

    label: ClassVar[str] = "figure of merit"
    of_sums: ClassVar[bool] = True
    kind: Literal["merit"] = "merit"


Single = (
    PoiUncertainty
    | ProfileInterval
    | GeneralisedVariance
    | ExpectedVariance
    | UncertaintyPart
    | Discovery
    | DiscoveryPValue
    | Cls
    | ExpectedLimit
    | AsimovSignificance
    | JointSignificance
    | CrossEntropy
    | Mean
    | Merit
)


class WeightedTerm(BesideKind):
    """One objective of a weighted sum."""

    quantity: Single = Field(discriminator="kind")
    weight: float = Field(default=1.0, gt=0, description="factor; what is to be maximised enters negated")

    @property
    def factor(self) -> float:
        """Weight and sign."""
        return self.quantity.sign * self.weight


class WeightedSum(Quantity):
    """Sum of several objectives."""

    label: ClassVar[str] = "weighted sum of objectives"
    kind: Literal["weighted_sum"] = "weighted_sum"
    terms: tuple[WeightedTerm, ...] = Field(min_length=1, description="what is added up")

    def with_groups(self, groups: Groups) -> "WeightedSum":
        """Return the same with the parameters of the groups in its terms."""
        terms = tuple(
            term.model_copy(update={"quantity": term.quantity.with_groups(groups)}) for term in self.terms
        )
        return self.model_copy(update={"terms": terms})


OBJECTIVES: dict[str, type[Quantity]] = {
    kind.named(): kind for kind in (*typing.get_args(Single), WeightedSum)
}
"""The kinds by their names in the configuration."""
