"""Sections of what scales samples: free normalisations, free factors of bins, uncorrelated uncertainties of bins."""

import math
from collections.abc import Collection
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from pipeline.config.section import Name, Section

CHANNELS: Any = Field(
    default=None, min_length=1, description="channels of the fit in which it acts; absent: all"
)


GROUP = "the group whose part of the uncertainty it is in the breakdown; absent: one of its own name"


def acts(names: Collection[str] | None, name: str) -> bool:
    """Return whether a name is among those that are meant, where None means all."""
    return names is None or name in names


def require_inside(nominal: float, bounds: tuple[float, float]) -> None:
    """Raise where bounds are not ascending, or a start value is not inside."""
    low, high = bounds
    if not low < high:
        raise ValueError(f"bounds {list(bounds)} must be two ascending numbers")
    if not low <= nominal <= high:
        raise ValueError(f"nominal {nominal} is outside its bounds {list(bounds)}")


def _size(given: object) -> object:
    """Return a size as it is given; what is none is one error, not one for each of the three kinds.

    Raises:
        ValueError: it is neither a positive number, nor a list of these, nor ``statistical``.
    """
    numbers = given if isinstance(given, list | tuple) and given else [given]
    are_sizes = all(
        isinstance(own, int | float) and not isinstance(own, bool) and 0 < own < math.inf for own in numbers
    )
    if given != "statistical" and not are_sizes:
        raise ValueError(
            f"{given!r} is no size; give a number above 0, a list of such numbers, one for each bin, or statistical"
        )
    return given


class NormFactor(Section):
    """A free normalisation of some samples."""

    name: str = Field(min_length=1, description="name of the parameter")
    samples: tuple[Name, ...] = Field(min_length=1, description="samples it scales")
    channels: tuple[Name, ...] | None = CHANNELS
    nominal: float = Field(
        default=1.0, description="start value, and the value in Asimov data; inside `bounds`"
    )
    bounds: tuple[float, float] = Field(default=(0.0, 10.0), description="bounds of the fit, lower first")
    group: str | None = Field(default=None, min_length=1, description=GROUP)

    @pydantic.model_validator(mode="after")
    def _inside(self) -> "NormFactor":
        require_inside(self.nominal, self.bounds)
        return self

    def acts_on(self, sample: str, channel: str) -> bool:
        """Return whether it scales a sample in a channel."""
        return sample in self.samples and acts(self.channels, channel)


class ShapeFactor(Section):
    """A free factor of every bin (pyhf: shapefactor), which channels of as many bins share, bin by bin."""

    name: str = Field(min_length=1, description="name of the parameter, which has a component per bin")
    samples: tuple[Name, ...] = Field(min_length=1, description="samples it scales")
    channels: tuple[Name, ...] | None = CHANNELS
    bounds: tuple[float, float] = Field(
        default=(0.0, 10.0), description="bounds of each bin's factor in the fit, lower first; 1 is inside"
    )

    @pydantic.model_validator(mode="after")
    def _inside(self) -> "ShapeFactor":
        require_inside(1.0, self.bounds)
        return self

    def acts_on(self, sample: str, channel: str) -> bool:
        """Return whether it scales a sample in a channel."""
        return sample in self.samples and acts(self.channels, channel)


class ShapeUncertainty(Section):
    """An uncertainty of a sample in every bin, none correlated with another (pyhf: shapesys)."""

    name: str = Field(min_length=1, description="name of the parameters, one per channel: `name_channel`")
    sample: Name = Field(description="the sample that it affects")
    channels: tuple[Name, ...] | None = CHANNELS
    size: Annotated[
        Annotated[float, Field(gt=0)]
        | Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
        | Literal["statistical"],
        pydantic.BeforeValidator(_size),
    ] = Field(
        description="relative size: one number for all bins, or one for each; or `statistical`, that of the "
        "sample's simulated events, which are then not in `mc_statistics`"
    )

    @property
    def is_statistical(self) -> bool:
        """Whether it takes the place of the sample's share of the MC statistics."""
        return self.size == "statistical"

    def acts_on(self, sample: str, channel: str) -> bool:
        """Return whether it affects a sample in a channel."""
        return sample == self.sample and acts(self.channels, channel)

    def parameter(self, channel: str) -> str:
        """Return the name of its parameter in a channel: pyhf has one for each sample of each channel."""
        return f"{self.name}_{channel}"
