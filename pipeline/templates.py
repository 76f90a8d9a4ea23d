"""Columns and parameters -> templates; templates of disjoint events add."""

import dataclasses
from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.analysis import Analysis
from pipeline.containers import Columns, Observation, Parameters, Templates
from pipeline.datasets import NOMINAL
from pipeline.errors import ConfigError, nearest
from pipeline.relax import Exact, Relaxed


@dataclasses.dataclass(frozen=True)
class Binning:
    """A channel and its bin edges; `edges=None` is one bin that counts every event."""

    channel: str
    edges: tuple[float, ...] | None

    @property
    def bins(self) -> int:
        """Number of bins."""
        return 1 if self.edges is None else len(self.edges) - 1


class Widths(eqx.Module):
    """Widths of the relaxed operations by name, and of the histograms' kernels by channel."""

    operations: dict[str, Float[Array, ""]]
    bandwidths: dict[str, Float[Array, ""]]


def fill(
    analysis: Analysis,
    binnings: tuple[Binning, ...],
    variations: tuple[str, ...],
    parameters: Mapping[str, Array],
    columns: Columns,
    widths: Widths | None,
) -> Templates:
    """Templates of one chunk of one sample: yields [variations, bins], nominal first, and sumw2 [bins].

    Arguments:
        variations: names of the analysis's variations to evaluate besides the nominal.
        widths: of the relaxed operations; None for exact cuts and plain histograms.
    """
    relax = Exact() if widths is None else Relaxed(widths.operations, thresholds=dict(parameters))
    transforms = analysis.variations()
    varied = [columns, *(transforms[name](columns) for name in variations)]
    observed = [analysis.observe(Parameters(dict(parameters)), c, relax) for c in varied]
    yields, sumw2 = {}, {}
    for binning in binnings:
        seen = [_observation(analysis, observations, binning) for observations in observed]
        bandwidth = None if widths is None else widths.bandwidths.get(binning.channel)
        yields[binning.channel] = _histogram(seen, binning, bandwidth, relax)
        nominal = seen[0]
        squared = Observation(weight=nominal.weight**2, value=nominal.value)
        sumw2[binning.channel] = _histogram([squared], binning, bandwidth, relax)[0]
    return Templates(yields=yields, sumw2=sumw2)


def check_variations(analysis: Analysis, names: tuple[str, ...]) -> None:
    """Raise where the model names a variation that the analysis does not define."""
    known = analysis.variations()
    for name in names:
        if name not in known or name == NOMINAL:
            raise ConfigError(
                f"model.systematics: {type(analysis).__name__} has no variation {name!r}; {nearest(name, known)}"
            )


def _observation(analysis: Analysis, observations: Mapping[str, Observation], binning: Binning) -> Observation:
    if binning.channel not in observations:
        raise ConfigError(
            f"channels.{binning.channel}: {type(analysis).__name__} observes no such channel; "
            f"{nearest(binning.channel, observations)}"
        )
    found = observations[binning.channel]
    if binning.edges is not None and found.value is None:
        raise ConfigError(f"channels.{binning.channel}: has edges, but the analysis only counts there; remove them")
    return found


def _histogram(
    observations: list[Observation],
    binning: Binning,
    bandwidth: Float[Array, ""] | None,
    relax: Exact | Relaxed,
) -> Float[Array, "variations bins"]:
    weights = jnp.stack([o.weight for o in observations])
    if binning.edges is None:
        return weights.sum(axis=1, keepdims=True)
    values = jnp.stack([o.value for o in observations if o.value is not None])
    edges = jnp.asarray(binning.edges, dtype=values.dtype)
    if isinstance(relax, Exact):
        return relax.histogram(values, edges, weights=weights)
    return relax.histogram(values, edges, bandwidth=bandwidth, weights=weights)
