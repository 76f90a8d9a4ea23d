"""Loops over blocks of events: filling cells with moments, evaluating polynomials on the cells.

An event costs one scatter, or one gather, of ``order`` numbers; no array of the size of the events is held
besides arguments and results. Written for a float64 session, in which ``pipeline.relax.moments`` compiles
them whatever JAX's setting: sums of float32 weights would drift.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

# Events at a time. On a processor their powers, 64 bytes per event at order 8, go through its second cache,
# which a neighbour's work doesn't slow as it does a shared one; on a GPU a launch wants many.
BLOCK = 2**12
GPU_BLOCK = 2**17
# Columns that a processor adds in one instruction; a scatter of 6 or 7 takes longer than one of 8.
VECTOR = 4


class Cells(NamedTuple):
    """Cells of one width on every grid; the first has the number ``first`` counted from ``origin``. Constants."""

    origin: Float[Array, " grids"]
    first: Int[Array, " grids"]
    width: Float[Array, " grids"]


def _locate(
    values: Float[Array, " events"], cells: Cells, grid: Array | int, number: int
) -> tuple[Int[Array, " events"], Float[Array, " events"]]:
    """Return the cell of every event, counted through all grids, and its place ``u`` there, in float64."""
    origin, first, width = (constant[grid].astype(float) for constant in cells)
    place = (values.astype(float) - origin) * (1 / width) - first
    clipped = jnp.maximum(jnp.minimum(place, number - 0.5), 0.5)  # NaN stays NaN
    cell = jnp.maximum(clipped.astype(jnp.int32), 0)  # of NaN: the first
    outermost = (place < 1) | (place >= number - 1)  # not NaN
    u = jnp.where(outermost, 0, 2 * (clipped - jnp.floor(clipped)) - 1)
    return cell + jnp.asarray(grid * number, dtype=jnp.int32), u


def _over_grids(total: Array, grids: int, step: Callable[[Array | int, Array], Array]) -> Array:
    """Return ``total`` after ``step(grid, total)`` over all grids; of one grid, without a loop."""
    return step(0, total) if grids == 1 else lax.fori_loop(0, grids, step, total)


def _slice(events: Array, start: Array | int, length: int) -> Array:
    """Return a block of events; a number stands for all of them."""
    return lax.dynamic_slice(events, (start,), (length,)) if events.ndim else events


def _blocks(total: Array, size: int, block: int, step: Callable[[Array, Array | int, int], Array]) -> Array:
    """Return ``total`` after ``step(total, start, length)`` over all events, in order."""
    full = size // block
    if full:
        total = lax.fori_loop(0, full, lambda i, now: step(now, i * block, block), total)
    return step(total, full * block, size - full * block) if size % block else total


def _times_powers(
    weights: Float[Array, " events"], u: Float[Array, " events"], order: int
) -> Float[Array, "events order"]:
    """Return ``w u^k`` for ``k < order``, from the squares of ``u`` by the binary digits of ``k``.

    A concatenation of columns takes XLA several times as long, a product of powers with 1 where a digit is 0 a
    quarter longer.
    """
    k, square = np.arange(order)[None, :], u[:, None]
    powers = jnp.broadcast_to(weights[:, None], (u.size, order))
    for digit in range((order - 1).bit_length()):
        powers = jnp.where((k >> digit) % 2 == 1, powers * square, powers)
        square = square * square
    return powers


def rows_of(total: Float[Array, "cells order"], cell: Int[Array, "..."]) -> Float[Array, "..."]:
    """Return the rows of some cells, clipped to those that are there.

    On a GPU it is a product with ones, whose transpose adds nothing at places that collide, as that of a choice does.
    """

    def chosen(total: Array, cell: Array) -> Array:
        return total.at[cell].get(mode="clip")

    def product(total: Array, cell: Array) -> Array:
        inside = jnp.clip(cell, 0, total.shape[0] - 1)
        ones = jax.nn.one_hot(inside, total.shape[0], dtype=total.dtype)
        return jnp.einsum("...c,ck->...k", ones, total, precision="highest")

    found: Array = lax.platform_dependent(total, cell, cuda=product, rocm=product, default=chosen)
    return found


def _deposited(total: Array, cell: Int[Array, " events"], weighted: Float[Array, "events order"]) -> Array:
    """Return cells with one more block of events in them; on a GPU as whole numbers, whose sum knows no order."""
    found: Array = lax.platform_dependent(
        total,
        cell,
        weighted,
        cuda=_deposited_in_fixed_point,
        rocm=_deposited_in_fixed_point,
        default=_deposited_in_turn,
    )
    return found


def _deposited_in_turn(total: Array, cell: Array, weighted: Array) -> Array:
    return total.at[cell].add(weighted, mode="promise_in_bounds")


def _deposited_in_fixed_point(total: Array, cell: Array, weighted: Array) -> Array:
    """Return the same by sums of int64: of units of the largest weight's 2^44th part at ``BLOCK`` events.

    Adding whole numbers has no order, so a GPU may do it as it likes. What is not finite makes its cells NaN.
    """
    good = jnp.isfinite(weighted)
    largest = jnp.max(jnp.where(good, jnp.abs(weighted), 0.0))
    _, exponent = jnp.frexp(largest)  # largest < 2^exponent
    bits = 62 - (weighted.shape[0] - 1).bit_length() - exponent
    whole = jnp.round(jnp.ldexp(jnp.where(good, weighted, 0.0), bits)).astype(jnp.int64)
    added = jnp.zeros(total.shape, dtype=jnp.int64).at[cell].add(whole, mode="promise_in_bounds")
    bad = (
        jnp.zeros(total.shape, dtype=jnp.int32)
        .at[cell]
        .add((~good).astype(jnp.int32), mode="promise_in_bounds")
    )
    return total + jnp.where(bad > 0, jnp.nan, jnp.ldexp(added.astype(float), -bits))


def sum_moments(
    values: Array, factor: Array, weights: Array, *cells: Array, number: int, order: int, block: int = BLOCK
) -> Float[Array, "grids cells order"]:
    """Return ``sum f w u^k`` for every grid, cell and ``k < order``."""
    grids = cells[0].size
    columns = order if order == 1 else order + -order % VECTOR

    def add(total: Array, start: Array | int, length: int) -> Array:
        x, w, f = (_slice(array, start, length) for array in (values, weights, factor))
        weighted = jnp.broadcast_to(w.astype(float) * f.astype(float), x.shape)

        def on_grid(grid: Array | int, total: Array) -> Array:
            cell, u = _locate(x, Cells(*cells), grid, number)
            return _deposited(total, cell, _times_powers(weighted, u, columns))

        return _over_grids(total, grids, on_grid)

    total = _blocks(jnp.zeros((grids * number, columns), dtype=float), values.size, block, add)
    return total[:, :order].reshape(grids, number, order)


def evaluate_polynomials(
    values: Array, factor: Array, coefficients: Array, *cells: Array, block: int = BLOCK
) -> Float[Array, " events"]:
    """Return ``f sum_gk G[g, cell, k] u^k`` for every event."""
    grids, number, order = coefficients.shape
    # Gathers of single numbers fuse with the arithmetic, one of rows does not; a row's are in one line of the cache.
    rows = coefficients.astype(values.dtype).reshape(-1, order)

    def put(out: Array, start: Array | int, length: int) -> Array:
        x, f = (_slice(array, start, length) for array in (values, factor))

        def on_grid(grid: Array | int, total: Array) -> Array:
            cell, place = _locate(x, Cells(*cells), grid, number)
            u, result = place.astype(x.dtype), jnp.zeros_like(x)
            for k in reversed(range(order)):
                column = rows.at[cell, k].get(mode="promise_in_bounds", wrap_negative_indices=False)
                result = result * u + column
            return total + result

        total = _over_grids(jnp.zeros_like(x), grids, on_grid)
        return lax.dynamic_update_slice(out, f * total, (start,))

    # All of it is overwritten. Two arrays that begin alike (lax.empty's zeros, values) XLA makes once and copies twice.
    beginning = jnp.full(values.shape, rows[0, 0])
    return _blocks(beginning, values.size, block, put)
