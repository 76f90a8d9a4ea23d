"""The kinds of ``objective``: what each is called, whether less of it is better, and the options it has."""

import typing
from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from pipeline.config.kinds import BesideKind, Kind


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


class PoiUncertainty(Quantity):
    """Uncertainty on the POI by the Hessian."""

    label: ClassVar[str] = "uncertainty on the parameter of interest"
    kind: Literal["poi_uncertainty"] = "poi_uncertainty"


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


OBJECTIVES: dict[str, type[Quantity]] = {
    kind.named(): kind for kind in (*typing.get_args(Single), WeightedSum)
}
"""The kinds by their names in the configuration."""
