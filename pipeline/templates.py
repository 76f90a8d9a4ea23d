"""Columns and parameters -> templates; templates of disjoint events add."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from pipeline.analysis import Analysis
from pipeline.containers import Columns, Observation, Parameters, Templates
from pipeline.datasets import NOMINAL
from pipeline.errors import ConfigError, Noting, nearest
from pipeline.relax import Exact, Relaxed, fraction_of_bin, ordered_edges, status

WEIGHT = "weight"  # the column of the event weights; an observable never depends on it


@dataclasses.dataclass(frozen=True)
class Binning:
    """A channel and its bin edges; `edges=None` is one bin that counts every event.

    With a `smallest` bin width the inner edges are free: the parameter `edges_<channel>` holds a number per bin. Edges
    at infinity make bins of what lies outside. `unit` is that of the bandwidth: 'value', or 'bin' for a fraction of the
    narrower bin at each edge.
    """

    channel: str
    edges: tuple[float, ...] | None
    smallest: float | None = None
    unit: str | None = None

    @property
    def bins(self) -> int:
        """Number of bins."""
        return 1 if self.edges is None else len(self.edges) - 1

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


class Widths(eqx.Module):
    """Widths of the relaxed operations by name, and of the histograms' kernels by channel, in the binning's unit."""

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
    relax, families = _see(analysis, binnings, variations, parameters, columns, widths)
    order = [name for family in families for name in family.variations]
    rows = jnp.array([order.index(name) for name in (NOMINAL, *variations)])
    yields, sumw2 = {}, {}
    for binning in binnings:
        draw = functools.partial(_histogram, binning, widths, relax, binning.edges_at(parameters))
        parts = [draw(f.weights[binning.channel], f.values.get(binning.channel)) for f in families]
        yields[binning.channel] = jnp.concatenate(parts)[rows]
        first = families[0]
        squares = first.weights[binning.channel][:1] ** 2
        sumw2[binning.channel] = draw(squares, first.values.get(binning.channel))[0]
    return Templates(yields=yields, sumw2=sumw2)


def bad_events(
    analysis: Analysis,
    binnings: tuple[Binning, ...],
    variations: tuple[str, ...],
    parameters: Mapping[str, ArrayLike],
    columns: Columns,
    widths: Widths | None,
) -> list[str]:
    """What makes the templates of :func:`fill`, same arguments, not finite: columns first, then observables."""
    _, families = _see(analysis, binnings, variations, parameters, columns, widths)
    return [
        *itertools.chain.from_iterable(map(_bad_columns, families)),
        *itertools.chain.from_iterable(map(_bad_observables, families)),
    ]


def _bad_columns(family: "_Family") -> Iterator[str]:
    for name, rows in family.changed.items():
        for variation, array in zip(family.variations, rows, strict=True):
            bad = int(jnp.sum(~jnp.isfinite(array)))
            if bad:
                yield f"column {name!r} of variation {variation!r} holds {bad} values that are not finite"


def _bad_observables(family: "_Family") -> Iterator[str]:
    for channel, weights in family.weights.items():
        found = status(family.values.get(channel, jnp.zeros(1)), weights)
        for row, variation in enumerate(family.variations):
            nan, bad = (int(n if n.ndim == 0 else n[row]) for n in (found.nan_values, found.bad_weights))
            events = f"of {weights.shape[-1]} events in channel {channel!r}, variation {variation!r}"
            if nan:
                yield f"the value is NaN for {nan} {events}, also where the weight is 0"
            if bad:
                yield f"the weight is not finite for {bad} {events}"


def check_variations(analysis: Analysis, names: tuple[str, ...]) -> None:
    """Raise where the model names a variation that the analysis does not define."""
    known = analysis.variation_names
    for name in names:
        if name not in known or name == NOMINAL:
            raise ConfigError(
                f"model.systematics: {type(analysis).__name__} has no variation {name!r}; {nearest(name, known)}"
            )


class _Family(NamedTuple):
    """Variations that change the same columns, and what is observed under them."""

    variations: tuple[str, ...]
    changed: dict[str, Array]  # columns [variations, events, ...]
    weights: dict[str, Array]  # [variations, events] per channel
    values: dict[str, Array]  # [variations, events], or [events] where they cannot vary


def _see(
    analysis: Analysis,
    binnings: tuple[Binning, ...],
    variations: tuple[str, ...],
    parameters: Mapping[str, ArrayLike],
    columns: Columns,
    widths: Widths | None,
) -> tuple[Exact | Relaxed, list[_Family]]:
    """The operations, and the families of variations, the nominal first among those of the weight alone."""
    free = {name: jnp.asarray(array) for name, array in parameters.items()}
    relax = Exact() if widths is None else Relaxed(widths.operations, thresholds=free)
    transforms = analysis.variations()
    factors = _factors(
        analysis, [n for n in variations if n not in transforms], Parameters(free), columns, relax
    )
    varied = {NOMINAL: columns, **{n: transforms[n](columns) for n in variations if n in transforms}}
    members: dict[tuple[str, ...], list[str]] = {(WEIGHT,): []}
    for name, arrays in varied.items():
        changed = tuple(n for n, array in arrays.arrays.items() if array is not columns.arrays[n])
        members.setdefault(changed or (WEIGHT,), []).append(name)
    families = []
    for changed, names in members.items():
        stacked = {n: jnp.stack([varied[v].arrays[n] for v in names]) for n in changed}
        seen = _observe(analysis, binnings, Parameters(free), columns, relax, stacked)
        families.append(_Family(tuple(names), stacked, *seen))
    return relax, [_with_factors(families[0], factors), *families[1:]]


def _factors(
    analysis: Analysis, names: Sequence[str], parameters: Parameters, columns: Columns, relax: Exact | Relaxed
) -> dict[str, Float[Array, " events"]]:
    """The factors on the nominal weight that make the analysis's weight variations."""
    if not names:
        return {}
    with Noting(f"in {type(analysis).__name__}.weights(p, c, relax)"):
        made = analysis.weights(parameters, columns, relax)
    missing = [name for name in names if name not in made]
    if missing:
        raise ConfigError(
            f"{type(analysis).__name__}.weights() gives no {missing[0]!r}, which weight_variations names; "
            f"{nearest(missing[0], made)}"
        )
    return {name: made[name] for name in names}


def _with_factors(nominal: _Family, factors: Mapping[str, Float[Array, " events"]]) -> _Family:
    """The family of the weight alone with rows for the weight variations, from its first row."""
    rows = {
        channel: jnp.stack([*weights, *(weights[0] * factor for factor in factors.values())])
        for channel, weights in nominal.weights.items()
    }
    return nominal._replace(variations=(*nominal.variations, *factors), weights=rows)


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
    edges: Float[Array, " edges"] | None,
    weights: Float[Array, "variations events"],
    values: Float[Array, " events"] | Float[Array, "variations events"] | None,
) -> Float[Array, "variations bins"]:
    if edges is None or values is None:
        return weights.sum(axis=1, keepdims=True)
    if isinstance(relax, Exact) or widths is None:
        return Exact().histogram(values, edges, weights=weights)
    bandwidth = widths.bandwidths[binning.channel]
    if binning.unit == "bin":
        bandwidth = fraction_of_bin(edges, bandwidth)
    return relax.histogram(values, edges, bandwidth=bandwidth, weights=weights)
