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

# Events per scatter: large enough that starting one is free, small enough that its operands, 48 bytes per
# event at order 4, stay in a cache of some megabytes.
BLOCK = 2**17


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
    seen = (cell > 0) & (cell < number - 1) | jnp.isnan(place)
    u = jnp.where(seen, 2 * (clipped - cell.astype(float)) - 1, 0)
    return cell + jnp.asarray(grid * number, dtype=jnp.int32), u


def _over_grids(total: Array, grids: int, step: Callable[[Array | int, Array], Array]) -> Array:
    """Return ``total`` after ``step(grid, total)`` over all grids; of one grid, without a loop."""
    return step(0, total) if grids == 1 else lax.fori_loop(0, grids, step, total)


def _slice(events: Array, start: Array | int, length: int) -> Array:
    """Return a block of events; a number stands for all of them."""
    return lax.dynamic_slice(events, (start,), (length,)) if events.ndim else events


def _blocks(total: Array, size: int, step: Callable[[Array, Array | int, int], Array]) -> Array:
    """Return ``total`` after ``step(total, start, length)`` over all events, in order."""
    full = size // BLOCK
    if full:
        total = lax.fori_loop(0, full, lambda i, now: step(now, i * BLOCK, BLOCK), total)
    return step(total, full * BLOCK, size - full * BLOCK) if size % BLOCK else total


def _powers(u: Float[Array, " events"], order: int) -> Float[Array, "events order"]:
    """Return ``u^k`` for ``k < order``, from its squares by the binary digits of ``k``.

    Written without a concatenation, XLA computes it inside the scatter, which is several times faster.
    """
    k, square = np.arange(order)[None, :], u[:, None]
    powers = jnp.ones((u.size, order), dtype=u.dtype)
    for digit in range((order - 1).bit_length()):
        powers = powers * jnp.where((k >> digit) % 2 == 1, square, 1)
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
    values: Array, factor: Array, weights: Array, *cells: Array, number: int, order: int
) -> Float[Array, "grids cells order"]:
    """Return ``sum f w u^k`` for every grid, cell and ``k < order``."""
    grids = cells[0].size

    def add(total: Array, start: Array | int, length: int) -> Array:
        x, w, f = (_slice(array, start, length) for array in (values, weights, factor))

        def on_grid(grid: Array | int, total: Array) -> Array:
            cell, u = _locate(x, Cells(*cells), grid, number)
            weighted = (w.astype(float) * f.astype(float))[..., None] * _powers(u, order)
            return _deposited(total, cell, weighted)

        return _over_grids(total, grids, on_grid)

    total = _blocks(jnp.zeros((grids * number, order), dtype=float), values.size, add)
    return total.reshape(grids, number, order)


def evaluate_polynomials(
    values: Array, factor: Array, coefficients: Array, *cells: Array
) -> Float[Array, " events"]:
    """Return ``f sum_gk G[g, cell, k] u^k`` for every event."""
    grids, number, order = coefficients.shape
    # One gather of each column fuses with the arithmetic, a gather of rows does not.
    columns = coefficients.astype(values.dtype).reshape(-1, order).T

    def put(out: Array, start: Array | int, length: int) -> Array:
        x, f = (_slice(array, start, length) for array in (values, factor))

        def on_grid(grid: Array | int, total: Array) -> Array:
            cell, place = _locate(x, Cells(*cells), grid, number)
            u = place.astype(x.dtype)
            result = columns[-1].at[cell].get(mode="promise_in_bounds")
            for k in reversed(range(order - 1)):
                result = result * u + columns[k].at[cell].get(mode="promise_in_bounds")
            return total + result

        total = _over_grids(jnp.zeros_like(x), grids, on_grid)
        return lax.dynamic_update_slice(out, f * total, (start,))

    return _blocks(values, values.size, put)  # any array to begin with: all of it is overwritten
