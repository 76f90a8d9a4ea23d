"""Sections of what scales samples freely: normalisations of samples in channels."""

from collections.abc import Collection
from typing import Any

import pydantic
from pydantic import Field

from pipeline.config.section import Name, Section

CHANNELS: Any = Field(
    default=None, min_length=1, description="channels of the fit in which it acts; absent: all"
)


def acts(names: Collection[str] | None, name: str) -> bool:
    """Return whether a name is among those that are meant, where None means all."""
    return names is None or name in names


class NormFactor(Section):
    """A free normalisation of some samples."""

    name: str = Field(min_length=1, description="name of the parameter")
    samples: tuple[Name, ...] = Field(min_length=1, description="samples it scales")
    channels: tuple[Name, ...] | None = CHANNELS
    nominal: float = Field(
        default=1.0, description="start value, and the value in Asimov data; inside `bounds`"
    )
    bounds: tuple[float, float] = Field(default=(0.0, 10.0), description="bounds of the fit, lower first")

    @pydantic.model_validator(mode="after")
    def _inside(self) -> "NormFactor":
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"bounds {list(self.bounds)} must be two ascending numbers")
        if not low <= self.nominal <= high:
            raise ValueError(f"nominal {self.nominal} is outside its bounds {list(self.bounds)}")
        return self

    def acts_on(self, sample: str, channel: str) -> bool:
        """Return whether it scales a sample in a channel."""
        return sample in self.samples and acts(self.channels, channel)
