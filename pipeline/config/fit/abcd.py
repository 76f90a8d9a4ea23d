"""Section of a background that is estimated from data in four regions: N_A = N_B N_C / N_D.

With n the yield in the control region D and two transfer factors, the yields are D = n, B = n a, C = n b, A = n a b:
free factors, which a fit of all four regions finds. Each is relative to simulation, which gives the start values.
"""

from collections import Counter
from collections.abc import Mapping

import pydantic
from pydantic import Field

from pipeline.config.fit.factors import NormFactor, ShapeFactor, require_inside
from pipeline.config.section import Name, Section


class Abcd(Section):
    """A background estimated from data: in `signal`, the product of the `sidebands` divided by `control`."""

    name: str = Field(
        min_length=1,
        description="first part of its parameters' names: `name_yield`, `name_to_B`, `name_to_C`, `name_closure`",
    )
    samples: tuple[Name, ...] = Field(
        min_length=1, description="the samples estimated together; simulation gives start values"
    )
    signal: Name = Field(description="channel A, where the estimate is used")
    sidebands: tuple[Name, Name] = Field(
        description="channels B and C, each one cut away from the signal region"
    )
    control: Name = Field(description="channel D, both cuts away")
    per_bin: bool = Field(
        default=False,
        description="true: an estimate of its own in every bin (pyhf: shapefactor), the channels of as many bins; "
        "false: of the yields (normfactor), with the shapes of simulation",
    )
    closure_uncertainty: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="relative uncertainty of the estimate in `signal` (normsys); absent: none",
    )
    closure_from_simulation: bool = Field(
        default=False,
        description="true: the estimate is times what simulation has in `signal`, divided by its own B C / D",
    )
    bounds: tuple[float, float] = Field(
        default=(0.0, 10.0),
        description="bounds of its factors in the fit, relative to simulation; 1 is inside",
    )

    @pydantic.model_validator(mode="after")
    def _four(self) -> "Abcd":
        repeated = sorted(name for name, times in Counter(self.channels).items() if times > 1)
        if repeated:
            raise ValueError(
                f"abcd {self.name!r}: channel {repeated[0]!r} is more than one of signal, sidebands and control; "
                "name four channels"
            )
        require_inside(1.0, self.bounds)
        return self

    @property
    def channels(self) -> tuple[str, str, str, str]:
        """The four: signal, sidebands, control."""
        return self.signal, *self.sidebands, self.control

    @property
    def closure(self) -> str:
        """Name of the nuisance parameter of the closure."""
        return f"{self.name}_closure"

    @property
    def needs_simulation(self) -> bool:
        """Whether the estimate itself depends on simulation: by its shapes, or by the closure."""
        return self.closure_from_simulation or not self.per_bin

    def estimates(self, sample: str, channel: str) -> bool:
        """Return whether a sample in a channel is of the estimate."""
        return sample in self.samples and channel in self.channels

    @property
    def normfactors(self) -> tuple[NormFactor, ...]:
        """Its free factors, where these are of whole channels."""
        if self.per_bin:
            return ()
        return tuple(
            NormFactor(
                name=name, samples=self.samples, channels=channels, bounds=self.bounds, group=self.name
            )
            for name, channels in self._factors.items()
        )

    @property
    def shapefactors(self) -> tuple[ShapeFactor, ...]:
        """Its free factors, where these are of single bins."""
        if not self.per_bin:
            return ()
        return tuple(
            ShapeFactor(name=name, samples=self.samples, channels=channels, bounds=self.bounds)
            for name, channels in self._factors.items()
        )

    @property
    def _factors(self) -> Mapping[str, tuple[str, ...]]:
        """Names of n, a and b, and where each acts."""
        to = {f"{self.name}_to_{sideband}": (self.signal, sideband) for sideband in self.sidebands}
        return {f"{self.name}_yield": self.channels, **to}

    @property
    def names(self) -> list[str]:
        """Names of its parameters."""
        return [*self._factors, *([self.closure] if self.closure_uncertainty is not None else [])]
