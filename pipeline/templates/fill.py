"""Columns and parameters -> templates; templates of disjoint events add."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from pipeline.analysis import Analysis, Shift
from pipeline.analysis.systematics import changed, declared, identity
from pipeline.containers import AnyArray, Columns, Message, Parameters, Templates
from pipeline.data.datasets import NOMINAL
from pipeline.relax import Exact, Relaxed, fraction_of_bin
from pipeline.templates import variations
from pipeline.templates.binning import Binning
from pipeline.templates.surrogate import LocalSurrogate
from pipeline.templates.variations import Family, families, observe


class Widths(Message):
    """Widths of the relaxed operations by name, and of the histograms' kernels by channel, in the binning's unit.

    `surrogate` stands in for the analysis's stage without a derivative, where it has one.
    """

    operations: dict[str, Float[AnyArray, ""]]
    bandwidths: dict[str, Float[AnyArray, ""]]
    surrogate: LocalSurrogate | None = None


class ExactCuts(Message):
    """No widths: hard decisions and plain histograms."""


EXACT = ExactCuts()
Mode = Widths | ExactCuts


class Recipe(NamedTuple):
    """What makes templates of events: analysis, bins, variations.

    `linear`: relaxed templates of a shift are the nominal ones plus its size times their derivative.
    """

    analysis: Analysis
    binnings: tuple[Binning, ...]
    variations: tuple[str, ...]
    linear: bool = False


def fill(
    recipe: Recipe,
    parameters: Mapping[str, ArrayLike],
    columns: Columns,
    mode: Mode,
    factor: Float[AnyArray, " events"] | None = None,
    copies: Float[AnyArray, " events"] | None = None,
) -> Templates:
    """Templates of one chunk of one sample: yields [variations, bins], nominal first, and sumw2 [bins].

    Arguments:
        mode: widths of the relaxed operations, or `EXACT`.
        factor: on every weight that is observed; None for 1.
        copies: how often each event is there; None for once. So n events of weight w make sumw2 n w^2.
    """
    relax, free = _operations(parameters, mode)
    columns = _completed(free, columns, mode)
    draw = functools.partial(_draw, free, relax, mode)
    linear = _shifts(recipe) if recipe.linear and isinstance(mode, Widths) else {}
    finite = [name for name in recipe.variations if name not in linear]
    found = families(recipe.analysis, recipe.binnings, finite, free, columns, relax)
    slopes = _slopes(recipe, linear, free, columns, relax, lambda b, w, v: draw(b, _times(w, factor), v))
    yields, sumw2 = {}, {}
    for binning in recipe.binnings:
        rows: dict[str, Array] = {}
        for family in found:
            weights, values = _of(family, binning)
            weights = _times(_times(weights, factor), copies)
            rows |= zip(family.variations, draw(binning, weights, values), strict=True)
        for name, shift in linear.items():
            rows[name] = rows[NOMINAL] + float(shift.size) * slopes[binning.channel][identity(shift.change)]
        yields[binning.channel] = jnp.stack([rows[name] for name in (NOMINAL, *recipe.variations)])
        weights, values = _of(found[0], binning)
        weights = _times(weights[:1], factor)
        unit = _unit(weights[0])
        squares = _times((weights[:1] / unit) ** 2, copies)
        sumw2[binning.channel] = (
            draw(binning, squares, values)[0].astype(jnp.float64) * unit.astype(jnp.float64) ** 2
        )
    return Templates(yields=yields, sumw2=sumw2)


def bad_events(
    recipe: Recipe, parameters: Mapping[str, ArrayLike], columns: Columns, mode: Mode
) -> list[str]:
    """What makes the templates of :func:`fill`, same arguments, not finite: columns first, then observables."""
    relax, free = _operations(parameters, mode)
    columns = _completed(free, columns, mode)
    found = families(recipe.analysis, recipe.binnings, recipe.variations, free, columns, relax)
    return variations.bad_events(recipe.binnings, found)


def _operations(parameters: Mapping[str, ArrayLike], mode: Mode) -> tuple[Exact | Relaxed, Parameters]:
    """The operations, and the parameters whose arrays they know as thresholds."""
    free = Parameters({name: jnp.asarray(array) for name, array in parameters.items()})
    if isinstance(mode, ExactCuts):
        return Exact(), free
    return Relaxed(mode.operations, thresholds=free.arrays), free


def _completed(free: Parameters, columns: Columns, mode: Mode) -> Columns:
    """With the columns that a surrogate makes."""
    if isinstance(mode, ExactCuts) or mode.surrogate is None:
        return columns
    return mode.surrogate.completed(free, columns)


def _shifts(recipe: Recipe) -> dict[str, Shift]:
    """The variations that are a shift, in the order of the recipe."""
    known = declared(recipe.analysis)
    return {name: v for name in recipe.variations if isinstance(v := known[name], Shift)}


def _slopes(
    recipe: Recipe,
    shifts: Mapping[str, Shift],
    free: Parameters,
    columns: Columns,
    relax: Exact | Relaxed,
    draw: Callable[..., Array],
) -> dict[str, dict[tuple[int, int], Float[Array, " bins"]]]:
    """Derivative of the nominal templates with respect to the size of each shift at 0, by channel and function.

    In forward mode, all at once.
    """
    if not shifts:
        return {}
    first: dict[tuple[int, int], str] = {}  # variation of each function: up and down have the same one
    for name, shift in shifts.items():
        first.setdefault(identity(shift.change), name)

    def templates(sizes: Float[Array, " shifts"]) -> dict[str, Array]:
        moved = columns
        for name, size in zip(first.values(), sizes, strict=True):
            moved = changed(recipe.analysis, name, moved, functools.partial(_at, shifts[name], size))
        weights, values = observe(recipe.analysis, recipe.binnings, free, moved, relax)
        drawn = {b.channel: draw(b, weights[b.channel][None], values.get(b.channel)) for b in recipe.binnings}
        return {channel: rows[0] for channel, rows in drawn.items()}

    at = jnp.zeros(len(first), dtype=columns.weight.dtype)
    directions = jnp.eye(len(first), dtype=at.dtype)
    slopes = jax.vmap(lambda direction: jax.jvp(templates, (at,), (direction,))[1])(directions)
    return {channel: dict(zip(first, array, strict=True)) for channel, array in slopes.items()}


def _at(shift: Shift, size: Float[Array, ""], columns: Columns) -> Any:
    return shift.change(columns, size)


def _times(
    weights: Float[Array, "variations events"], factor: Float[AnyArray, " events"] | None
) -> Float[Array, "variations events"]:
    return weights if factor is None else weights * factor[None].astype(weights.dtype)


def _unit(weights: Float[Array, " events"]) -> Float[Array, ""]:
    """The power of 2 above all weights, a constant: in units of it, squares do not vanish in single precision."""
    if weights.dtype == jnp.float64:
        return jnp.ones((), dtype=weights.dtype)
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(weights)))
    return jnp.ldexp(jnp.ones_like(largest), jnp.frexp(largest)[1])


def _of(family: Family, binning: Binning) -> tuple[Array, Array | None]:
    return family.weights[binning.channel], family.values.get(binning.channel)


def _draw(
    free: Parameters,
    relax: Exact | Relaxed,
    mode: Mode,
    binning: Binning,
    weights: Float[Array, "variations events"],
    values: Array | None,
) -> Float[Array, "variations bins"]:
    """Histograms of one channel."""
    if values is not None and binning.shares is not None:
        shares = jnp.broadcast_to(values, (*weights.shape, binning.shares))
        return jnp.sum(weights[:, :, None] * shares, axis=1, dtype=jnp.float64)
    edges = binning.edges_at(free.arrays)
    if edges is None or values is None:
        return weights.sum(axis=1, keepdims=True, dtype=jnp.float64)
    if isinstance(relax, Exact) or isinstance(mode, ExactCuts):
        return Exact().histogram(values, binning.filled(edges), weights=weights)
    bandwidth = mode.bandwidths[binning.channel]
    if binning.unit == "bin":
        bandwidth = fraction_of_bin(edges, bandwidth)
    return relax.histogram(values, binning.filled(edges), bandwidth=bandwidth, weights=weights)
