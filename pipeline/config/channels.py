"""Sections of the regions: their bins, free or not, and the kernels of their histograms."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import Field

from pipeline.config.section import AUTO, MOST, Bandwidth, Section


class FreeEdges(Section):
    """The inner bin edges are parameters to optimise; the outer ones stay."""

    smallest: float = Field(gt=0, description="least width of a bin, in the unit of the values")


class Regular(Section):
    """Bins of equal width."""

    bins: int = Field(ge=1, le=MOST, description="number of bins")
    low: float = Field(description="lower edge of the first")
    high: float = Field(description="upper edge of the last")

    @pydantic.model_validator(mode="after")
    def _rising(self) -> "Regular":
        if not self.low < self.high:
            raise ValueError(f"low {self.low} and high {self.high} must be ascending")
        return self

    @property
    def edges(self) -> tuple[float, ...]:
        """The bin edges."""
        return tuple(float(edge) for edge in np.linspace(self.low, self.high, self.bins + 1))


BANDWIDTH = Bandwidth(initial=0.3, final=0.1, unit="bin")  # of a channel that gives none


class Channel(Section):
    """One region of the fit; its name is that of an observation of the analysis."""

    edges: tuple[float, ...] | None = Field(
        default=None, description="bin edges, ascending; absent: one bin that counts every selected event"
    )
    free_edges: FreeEdges | None = Field(
        default=None, description="the inner edges are free, `edges` their start values; absent: they stay"
    )
    overflow: bool = Field(
        default=False, description="true: the first and the last bin count what lies outside `edges` too"
    )
    histogram: Regular | None = Field(
        default=None, description="bins of the file of exact histograms; absent: those of the fit"
    )
    shares: int | None = Field(
        default=None,
        ge=2,
        le=MOST,
        description="number of bins among which the analysis divides every event itself, in place of `edges`",
    )
    bandwidth: Annotated[
        Bandwidth | None,
        pydantic.BeforeValidator(
            lambda given: None if given == AUTO else given,
            json_schema_input_type=Bandwidth | Literal["auto"] | None,
        ),
    ] = Field(
        default=None,
        description="width of the kernel of the relaxed histogram; absent or `auto`, where there are edges: from 0.3 "
        "to 0.1 of a bin",
    )
    label: str = Field(default="events", description="axis label, with unit")
    in_fit: bool = Field(
        default=True, description="false: no region of the fit, but a sum for an objective that needs none"
    )
    variations: bool = Field(
        default=False,
        description="of a channel with `in_fit: false`: its sum counts systematic variations as further events",
    )

    @property
    def bins(self) -> int:
        """Number of bins in the fit."""
        return self.shares or (1 if self.edges is None else len(self.edges) - 1)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _has_bandwidth(cls, given: Any) -> Any:
        """Fill in the bandwidth of a channel with edges, which has one always."""
        if (
            isinstance(given, Mapping)
            and given.get("edges") is not None
            and given.get("bandwidth") in (None, AUTO)
        ):
            return {**given, "bandwidth": BANDWIDTH}
        return given

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> "Channel":
        if self.in_fit and self.variations:
            raise ValueError("variations belongs to a channel with in_fit: false; remove it, or add that")
        if self.edges is None:
            for key in ("free_edges", "overflow", "histogram"):
                if getattr(self, key):
                    raise ValueError(f"{key} belongs to a channel with edges; this one has none")
            return self
        if self.shares is not None:
            raise ValueError("give edges or shares: a channel has one kind of bins")
        if len(self.edges) < 2 or any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError(f"edges {list(self.edges)} must be at least two ascending numbers")
        narrowest = min(b - a for a, b in zip(self.edges, self.edges[1:], strict=False))
        if self.free_edges is not None and not self.free_edges.smallest < narrowest:
            raise ValueError(
                f"free_edges.smallest {self.free_edges.smallest} must be below the narrowest bin of edges, {narrowest}"
            )
        return self
