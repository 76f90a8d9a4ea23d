"""Columns and parameters -> templates; templates of disjoint events add."""

import dataclasses
import functools
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from pipeline.analysis import Analysis
from pipeline.containers import Columns, Observation, Parameters, Templates
from pipeline.datasets import NOMINAL
from pipeline.errors import ConfigError, Noting, nearest
from pipeline.relax import Exact, Relaxed

WEIGHT = "weight"  # the column of the event weights; an observable never depends on it


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
    parameters: Mapping[str, ArrayLike],
    columns: Columns,
    widths: Widths | None,
) -> Templates:
    """Templates of one chunk of one sample: yields [variations, bins], nominal first, and sumw2 [bins].

    Variations that change the same columns are observed together: with `vmap`, all that does not depend on those
    columns is computed once, and a variation of the weight alone costs no selection of its own.

    Arguments:
        variations: names of the analysis's variations to evaluate besides the nominal.
        widths: of the relaxed operations; None for exact cuts and plain histograms.
    """
    free = {name: jnp.asarray(array) for name, array in parameters.items()}
    relax = Exact() if widths is None else Relaxed(widths.operations, thresholds=free)
    transforms = analysis.variations()
    varied = {NOMINAL: columns, **{name: transforms[name](columns) for name in variations}}
    families = _families(varied, columns)
    observe = functools.partial(_observe, analysis, binnings, Parameters(free), columns, relax)
    observed = [
        observe({n: jnp.stack([varied[v].arrays[n] for v in names]) for n in changed})
        for changed, names in families
    ]
    order = [name for _, names in families for name in names]
    rows = jnp.array([order.index(name) for name in varied])
    yields, sumw2 = {}, {}
    for binning in binnings:
        draw = functools.partial(_histogram, binning, widths, relax)
        parts = [draw(weights[binning.channel], values.get(binning.channel)) for weights, values in observed]
        yields[binning.channel] = jnp.concatenate(parts)[rows]
        weights, values = observed[0]
        sumw2[binning.channel] = draw(weights[binning.channel][:1] ** 2, values.get(binning.channel))[0]
    return Templates(yields=yields, sumw2=sumw2)


def check_variations(analysis: Analysis, names: tuple[str, ...]) -> None:
    """Raise where the model names a variation that the analysis does not define."""
    known = analysis.variations()
    for name in names:
        if name not in known or name == NOMINAL:
            raise ConfigError(
                f"model.systematics: {type(analysis).__name__} has no variation {name!r}; {nearest(name, known)}"
            )


def _families(varied: Mapping[str, Columns], nominal: Columns) -> list[tuple[tuple[str, ...], list[str]]]:
    """Variations by the columns they change, the nominal first among those of the weight alone."""
    families: dict[tuple[str, ...], list[str]] = {(WEIGHT,): []}
    for name, columns in varied.items():
        changed = tuple(n for n, array in columns.arrays.items() if array is not nominal.arrays[n])
        families.setdefault(changed or (WEIGHT,), []).append(name)
    return list(families.items())


def _observe(
    analysis: Analysis,
    binnings: tuple[Binning, ...],
    parameters: Parameters,
    columns: Columns,
    relax: Exact | Relaxed,
    changed: dict[str, Float[Array, "variations ..."]],
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Weights [variations, events] and values of each channel, the values [events] where they cannot vary."""

    def one(arrays: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        with Noting(f"in {type(analysis).__name__}.observe(p, c, relax)"):
            seen = analysis.observe(parameters, columns.replace(**arrays), relax)
        found = {binning.channel: _observation(analysis, seen, binning) for binning in binnings}
        values = {channel: o.value for channel, o in found.items() if o.value is not None}
        return {channel: o.weight for channel, o in found.items()}, values

    return jax.vmap(one, out_axes=(0, None if tuple(changed) == (WEIGHT,) else 0))(changed)


def _observation(
    analysis: Analysis, observations: Mapping[str, Observation], binning: Binning
) -> Observation:
    if binning.channel not in observations:
        raise ConfigError(
            f"channels.{binning.channel}: {type(analysis).__name__} observes no such channel; "
            f"{nearest(binning.channel, observations)}"
        )
    found = observations[binning.channel]
    if binning.edges is not None and found.value is None:
        raise ConfigError(
            f"channels.{binning.channel}: has edges, but the analysis only counts there; remove them"
        )
    return found


def _histogram(
    binning: Binning,
    widths: Widths | None,
    relax: Exact | Relaxed,
    weights: Float[Array, "variations events"],
    values: Float[Array, " events"] | Float[Array, "variations events"] | None,
) -> Float[Array, "variations bins"]:
    if binning.edges is None or values is None:
        return weights.sum(axis=1, keepdims=True)
    edges = jnp.asarray(binning.edges, dtype=values.dtype)
    if isinstance(relax, Exact) or widths is None:
        return Exact().histogram(values, edges, weights=weights)
    return relax.histogram(values, edges, bandwidth=widths.bandwidths[binning.channel], weights=weights)
