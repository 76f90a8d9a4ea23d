"""The bins of a channel."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from pipeline.config import Config
from pipeline.relax import ordered_edges


@dataclasses.dataclass(frozen=True)
class Binning:
    """A channel and its bins.

    The bins have ``edges`` of the channel's observable, or are ``shares`` that the analysis divides every
    event into itself. With neither it is one bin that counts every event. With a ``smallest`` bin width the
    inner edges are free: the parameter ``edges_<channel>`` holds a number per bin. Edges at infinity make
    bins of what lies outside; with ``overflow`` the outermost bins count that too. ``unit`` is that of the
    bandwidth: 'value', or 'bin' for a fraction of the narrower bin at each edge.
    """

    channel: str
    edges: tuple[float, ...] | None
    smallest: float | None = None
    unit: str | None = None
    shares: int | None = None
    overflow: bool = False

    @property
    def bins(self) -> int:
        """Number of bins."""
        return self.shares or (1 if self.edges is None else len(self.edges) - 1)

    @property
    def parameter(self) -> str:
        """Name of the parameter that free edges are made of."""
        return f"edges_{self.channel}"

    def edges_at(self, parameters: Mapping[str, ArrayLike]) -> Float[Array, " edges"] | None:
        """Bin edges at a point."""
        if self.edges is None or self.smallest is None:
            return None if self.edges is None else jnp.asarray(self.edges)
        low, high = self.edges[0], self.edges[-1]
        return ordered_edges(jnp.asarray(parameters[self.parameter]), low, high, smallest=self.smallest)

    def filled(self, edges: Float[Array, " edges"]) -> Float[Array, " edges"]:
        """Return the edges between which events count."""
        return edges.at[jnp.array([0, -1])].set(jnp.array([-jnp.inf, jnp.inf])) if self.overflow else edges


def binnings_of(config: Config) -> tuple[Binning, ...]:
    """Return the channels' bins."""
    return tuple(
        Binning(
            name,
            channel.edges,
            None if channel.free_edges is None else channel.free_edges.smallest,
            None if channel.bandwidth is None else channel.bandwidth.unit,
            channel.shares,
            channel.overflow,
        )
        for name, channel in config.channels.items()
    )
