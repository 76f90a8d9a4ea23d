"""Columns and parameters -> templates; templates of disjoint events add."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from pipeline.analysis import Analysis, Shift
from pipeline.analysis.systematics import changed, declared, identity
from pipeline.containers import AnyArray, Columns, Message, Parameters, Templates
from pipeline.data.datasets import NOMINAL
from pipeline.relax import Exact, Relaxed, fraction_of_bin
from pipeline.templates.binning import Binning
from pipeline.templates.blocks import at_once, held_by_pullback, made_by, mapped
from pipeline.templates.surrogate import LocalSurrogate
from pipeline.templates.variations import (
    WEIGHT,
    Family,
    Observer,
    bad_columns,
    bad_observables,
    families,
    observe_rows,
    of_weight,
    rows_of,
)

LOOKED_AT = 8  # variations at a time, where it is asked which events are bad


class Widths(Message):
    """Widths of the relaxed operations by name, and of the histograms' kernels by channel, in the binning's unit.

    ``surrogate`` stands in for the analysis's stage without a derivative, where it has one.
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

    ``linear``: relaxed templates of a shift are the nominal ones plus its size times their derivative.
    ``memory``: bytes for the variations of one chunk that are observed at once.
    """

    analysis: Analysis
    binnings: tuple[Binning, ...]
    variations: tuple[str, ...]
    linear: bool = False
    memory: float = math.inf


class _Look(NamedTuple):
    """All that the templates of a chunk depend on, at one point; ``given`` lacks the columns that a surrogate makes."""

    recipe: Recipe
    mode: Mode
    given: Columns
    factor: Float[AnyArray, " events"] | None
    copies: Float[AnyArray, " events"] | None
    observer: Observer
    columns: Columns

    def drawn(self, weights: Mapping[str, Array], values: Mapping[str, Array]) -> dict[str, Array]:
        """Return histograms [variations, bins] of each channel, of what is observed."""
        found = {}
        for binning in self.recipe.binnings:
            counted = _times(_times(weights[binning.channel], self.factor), self.copies)
            found[binning.channel] = _draw(self, binning, counted, values.get(binning.channel))
        return found

    def rows(self, changed: dict[str, Array]) -> dict[str, Array]:
        """Return the same under variations of some columns [variations, events, ...]."""
        return self.drawn(*observe_rows(self.observer, self.columns, changed))


def fill(
    recipe: Recipe,
    parameters: Mapping[str, ArrayLike],
    columns: Columns,
    mode: Mode,
    factor: Float[AnyArray, " events"] | None = None,
    copies: Float[AnyArray, " events"] | None = None,
) -> Templates:
    """Return templates of one chunk of one sample: yields [variations, bins], nominal first, and sumw2 [bins].

    Args:
        mode: widths of the relaxed operations, or ``EXACT``.
        factor: on every weight that is observed; None for 1.
        copies: how often each event is there; None for once. So n events of weight w make sumw2 n w^2.
    """
    look = _at(parameters, recipe, mode, columns, factor, copies)
    shifts = _shifts(recipe) if recipe.linear and isinstance(mode, Widths) else {}
    finite = [name for name in recipe.variations if name not in shifts]
    nominal, *others = rows_of(recipe.analysis, finite, look.columns)
    seen = of_weight(look.observer, finite, look.columns, nominal)
    names, parts = [*seen.variations], [look.drawn(seen.weights, seen.values)]
    for rows in others:
        names += rows.variations
        parts.append(_in_blocks(look, _Look.rows, rows.changed))
    if shifts:
        names += shifts
        parts.append(_shifted(look, shifts, parts[0]))
    order = np.array([names.index(name) for name in (NOMINAL, *recipe.variations)])
    yields = {
        b.channel: jnp.concatenate([part[b.channel] for part in parts])
        .at[order]
        .get(unique_indices=True, mode="promise_in_bounds")
        for b in recipe.binnings
    }
    return Templates(yields=yields, sumw2={b.channel: _squared(look, b, seen) for b in recipe.binnings})


def bad_events(
    recipe: Recipe, parameters: Mapping[str, ArrayLike], columns: Columns, mode: Mode
) -> list[str]:
    """Return why templates of ``fill``, same arguments, are not finite: columns first, then observables."""
    look = _at(parameters, recipe, mode, columns, None, None)
    found = [
        why for rows in rows_of(recipe.analysis, recipe.variations, look.columns) for why in bad_columns(rows)
    ]
    for start in range(0, max(len(recipe.variations), 1), LOOKED_AT):
        some = recipe.variations[start : start + LOOKED_AT]
        for family in families(look.observer, some, look.columns):
            found += bad_observables(recipe.binnings, family)
    return list(dict.fromkeys(found))


def _at(
    parameters: Mapping[str, ArrayLike],
    recipe: Recipe,
    mode: Mode,
    columns: Columns,
    factor: Float[AnyArray, " events"] | None,
    copies: Float[AnyArray, " events"] | None,
) -> _Look:
    """Return the look at a chunk at a point.

    Its operations know the parameters' arrays as thresholds, and its columns are complete.
    """
    free = Parameters({name: jnp.asarray(array) for name, array in parameters.items()})
    complete: Columns = columns
    relax: Exact | Relaxed = Exact()
    if isinstance(mode, Widths):
        complete = columns if mode.surrogate is None else mode.surrogate.completed(free, columns)
        relax = Relaxed(mode.operations, thresholds=free.arrays)
    observer = Observer(recipe.analysis, recipe.binnings, free, relax)
    return _Look(recipe, mode, columns, factor, copies, observer, complete)


def _in_blocks(look: _Look, see: Callable[[_Look, Any], dict[str, Array]], rows: Any) -> dict[str, Array]:
    """Return the templates of rows, as many at a time as the recipe's memory allows.

    Decided by shapes alone, so the same everywhere.
    """
    number = len(jax.tree.leaves(rows)[0])
    most = number
    if number > 1 and math.isfinite(look.recipe.memory):

        def again(parameters: Mapping[str, ArrayLike]) -> dict[str, Array]:
            return see(_at(parameters, look.recipe, look.mode, look.given, look.factor, look.copies), rows)

        held = made_by if isinstance(look.mode, ExactCuts) else held_by_pullback
        most = at_once(number, held(again, look.observer.parameters.arrays), look.recipe.memory)
    return mapped(functools.partial(see, look), rows, most)


def _shifts(recipe: Recipe) -> dict[str, Shift]:
    """Return the variations that are a shift, in the order of the recipe."""
    known = declared(recipe.analysis)
    return {name: v for name in recipe.variations if isinstance(v := known[name], Shift)}


def _shifted(look: _Look, shifts: Mapping[str, Shift], nominal: Mapping[str, Array]) -> dict[str, Array]:
    """Return nominal templates plus the size of each shift times their derivative in it, by channel, [shifts, bins].

    In forward mode; shifts of one function, as up and down, have one derivative.
    """
    first: dict[tuple[int, int], str] = {}
    for name, shift in shifts.items():
        first.setdefault(identity(shift.change), name)

    def templates(look: _Look, sizes: Float[Array, " functions"]) -> dict[str, Array]:
        moved = look.columns
        for name, size in zip(first.values(), sizes, strict=True):
            change = functools.partial(_sized, shifts[name], size)
            moved = changed(look.recipe.analysis, name, moved, change)
        rows = look._replace(columns=moved).rows({WEIGHT: moved.weight[None]})
        return {channel: row[0] for channel, row in rows.items()}

    def slopes(look: _Look, directions: Float[Array, "chosen functions"]) -> dict[str, Array]:
        at = jnp.zeros(len(first), dtype=look.columns.weight.dtype)
        one = functools.partial(jax.jvp, functools.partial(templates, look), (at,))
        made: dict[str, Array] = jax.vmap(lambda direction: one((direction,))[1])(directions)
        return made

    found = _in_blocks(look, slopes, jnp.eye(len(first), dtype=look.columns.weight.dtype))
    sizes = np.zeros((len(shifts), len(first)))  # a product, as the transpose of a choice would add up
    for row, shift in enumerate(shifts.values()):
        sizes[row, list(first).index(identity(shift.change))] = float(shift.size)
    return {
        channel: rows[:1] + sizes.astype(found[channel].dtype) @ found[channel]
        for channel, rows in nominal.items()
    }


def _sized(shift: Shift, size: Float[Array, ""], columns: Columns) -> Any:
    return shift.change(columns, size)


def _squared(look: _Look, binning: Binning, seen: Family) -> Float[Array, " bins"]:
    """Return sums of squared nominal weights."""
    weights = _times(seen.weights[binning.channel][:1], look.factor)
    unit = _unit(weights[0])
    squares = _times((weights / unit) ** 2, look.copies)
    rows = _draw(look, binning, squares, seen.values.get(binning.channel))
    return rows[0].astype(jnp.float64) * unit.astype(jnp.float64) ** 2


def _times(
    weights: Float[Array, "variations events"], factor: Float[AnyArray, " events"] | None
) -> Float[Array, "variations events"]:
    return weights if factor is None else weights * factor[None].astype(weights.dtype)


def _unit(weights: Float[Array, " events"]) -> Float[Array, ""]:
    """Return the power of 2 above all weights, as a constant.

    In units of it, squares of weights do not vanish in single precision.
    """
    if weights.dtype == jnp.float64:
        return jnp.ones((), dtype=weights.dtype)
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(weights)))
    return jnp.ldexp(jnp.ones_like(largest), jnp.frexp(largest)[1])


def _draw(
    look: _Look, binning: Binning, weights: Float[Array, "variations events"], values: Array | None
) -> Float[Array, "variations bins"]:
    """Return histograms of one channel."""
    if values is not None and binning.shares is not None:
        shares = jnp.broadcast_to(values, (*weights.shape, binning.shares))
        return jnp.sum(weights[:, :, None] * shares, axis=1, dtype=jnp.float64)
    edges = binning.edges_at(look.observer.parameters.arrays)
    if edges is None or values is None:
        return weights.sum(axis=1, keepdims=True, dtype=jnp.float64)
    if isinstance(look.observer.relax, Exact) or isinstance(look.mode, ExactCuts):
        return Exact().histogram(values, binning.filled(edges), weights=weights)
    bandwidth = look.mode.bandwidths[binning.channel]
    if binning.unit == "bin":
        bandwidth = fraction_of_bin(edges, bandwidth)
    return look.observer.relax.histogram(values, binning.filled(edges), bandwidth=bandwidth, weights=weights)
