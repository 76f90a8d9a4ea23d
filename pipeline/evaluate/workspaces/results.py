"""Results of a given workspace, as values that are written as JSON: a fit, a test, an upper limit."""

from collections.abc import Iterable
from typing import SupportsFloat

from pydantic import Field

from pipeline.data.written import Written


class FittedValue(Written):
    """One parameter of a fit; the uncertainty is 0 where it is held, by the user, the model or a bound."""

    name: str
    value: float
    uncertainty: float
    start: float
    bounds: tuple[float, float]
    held: str = Field(
        description="`fixed`, `at bound`, `no effect` of one that nothing depends on, or nothing"
    )


class ByPyhf(Written):
    """The same by pyhf with Minuit."""

    twice_nll: float | None = None
    values: dict[str, float] = Field(default_factory=dict)
    uncertainties: dict[str, float] = Field(default_factory=dict)
    numbers: dict[str, float] = Field(
        default_factory=dict, description="of a test or a limit, by the names of ours"
    )
    error: str = Field(default="", description="why there are none")
    seconds: float


def bands(name: str, values: Iterable[SupportsFloat]) -> dict[str, float]:
    """Return the numbers of the bands, -2 ... +2 sigma, each by its own name."""
    return {f"{name}[{band:+d}]": float(value) for band, value in zip(range(-2, 3), values, strict=True)}


class OfWorkspace(Written):
    """What is said of every result: data, seconds, and pyhf's answer where that was asked for."""

    is_asimov: bool
    seconds_compiling: float
    seconds: float
    pyhf: ByPyhf | None = None

    @property
    def answer(self) -> ByPyhf | None:
        """Pyhf's answer where it has one."""
        return None if self.pyhf is None or self.pyhf.error else self.pyhf


class WorkspaceFit(OfWorkspace):
    """A maximum-likelihood fit: minimum, parameters, correlations of those that are not held."""

    status: str
    steps: int
    twice_nll: float = Field(description="-2 ln L at the minimum, as pyhf has it")
    edm: float = Field(description="-ln L still to gain, estimated")
    gradient_norm: float
    bins_below_zero: tuple[int, ...] = Field(
        description="bins that expect fewer than no events at the minimum"
    )
    poi: str | None
    parameters: tuple[FittedValue, ...]
    correlated: tuple[str, ...] = Field(description="names of the rows and columns of `correlation`")
    correlation: tuple[tuple[float, ...], ...]


class WorkspaceTest(OfWorkspace):
    """CLs of a hypothesis, observed and as expected without signal for -2 ... +2 sigma of the background."""

    poi: str
    mu: float
    cls: float
    clsb: float
    clb: float
    cls_expected: tuple[float, ...]

    @property
    def numbers(self) -> dict[str, float]:
        """All of them, by the names that pyhf's have beside them."""
        return {
            "cls": self.cls,
            "clsb": self.clsb,
            "clb": self.clb,
            **bands("cls_expected", self.cls_expected),
        }


class WorkspaceLimit(OfWorkspace):
    """Upper limit on the POI, observed and as expected without signal for -2 ... +2 sigma of the background."""

    poi: str
    level: float
    observed: float
    expected: tuple[float, ...]

    @property
    def numbers(self) -> dict[str, float]:
        """All of them, by the names that pyhf's have beside them."""
        return {"observed": self.observed, **bands("expected", self.expected)}
