"""Ordering the few objects of an event: sorted values, ranks, the k largest, all relaxed by one projection.

The permutahedron of ``w`` is the convex hull of its permutations. Projecting on it relaxes what a sort does,

    P(z, w) = argmin |y - z|^2  over y in the permutahedron of w
    sort: P(rho / width, x)    ranks: P(x / width, rho)    top k: P(x / width, (1, .., 1, 0, .., 0))

with ``rho = (n, .., 2, 1)`` for n real objects (M. Blondel, O. Teboul, Q. Berthet, J. Djolonga, ICML 2020,
arXiv:2002.08871; ``width`` is their epsilon, quadratic regularisation). With ``z`` and ``w`` falling it is an
isotonic regression (their Section 5): neighbours are pooled in blocks until the means of ``z - w`` fall, and

    P_i = mean(w) + z_i - mean(z)    over the block of i, so exactly w_i in a block of one.

The blocks are constants of the derivative. A width and its inverse are normal numbers of the dtype, above 0.
A NaN among the real objects makes the soft results of its event NaN; the hard ones take it for the last.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Real

from pipeline.relax.arrays import Mask, RealArrays, allowed_objects, as_float, like, spread

Scalar = Real[ArrayLike, ""]
PerObject = Float[Array, "*events objects"]
Bools = Bool[Array, "*events objects"]
Places = Int[Array, "*events objects"]


class _Falling(NamedTuple):
    """The objects of every event from the largest to the smallest, the padded ones behind them."""

    order: Places
    values: PerObject  # 0 in the padding
    rho: PerObject  # n, .., 2, 1 for the real objects, then 0
    real: Bools


def _fall(x: RealArrays, mask: Mask, *, negate: bool = False) -> _Falling:
    values, real = spread(as_float(x), allowed_objects(as_float(x), mask))
    values = jnp.where(real, -values if negate else values, 0)
    place = lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 1)
    order = lax.sort((~real, -lax.stop_gradient(values), place), num_keys=2)[-1]
    rho = jnp.maximum(jnp.sum(real, axis=-1, keepdims=True, dtype=place.dtype) - place, 0)
    return _Falling(order, jnp.take_along_axis(values, order, -1), rho.astype(values.dtype), rho > 0)


def _restore(falling: _Falling, result: PerObject) -> PerObject:
    result = jnp.where(falling.real, result, 0)
    return jnp.put_along_axis(jnp.zeros_like(result), falling.order, result, -1, inplace=False)


def _pool(rises: Float[Array, " objects"]) -> Int[Array, " objects"]:
    """Return the first object of everyone's block, from how much each object lies above the one before it.

    Pool adjacent violators in 2 n - 1 steps: each closes a block and opens one, or merges two. ``head`` and
    ``tail`` are the block's mean above its first and below its last object: no large numbers cancel.
    """
    size = rises.shape[0]

    def step(_: Int[Array, ""], state: tuple[Array, ...]) -> tuple[Array, ...]:
        following, start, head, tail, closed = state
        head_before, tail_before, start_before = closed.at[start - 1].get(mode="clip")
        excess = tail_before + rises.at[start].get(mode="fill", fill_value=-jnp.inf) + head
        merge, first = excess > 0, start_before.astype(start.dtype)
        row = jnp.stack([head, tail, start.astype(head.dtype)])
        closed = closed.at[jnp.where(merge, size, following - 1)].set(row, mode="drop")
        share = (following - start).astype(head.dtype) / (following - first).astype(head.dtype)
        merged = (following, first, head_before + excess * share, tail + excess * (1 - share))
        opened = (following + 1, following, jnp.zeros_like(head), jnp.zeros_like(tail))
        return *(jnp.where(merge, *either) for either in zip(merged, opened, strict=True)), closed

    start, none = jnp.zeros((), dtype=jnp.int32), jnp.zeros((), dtype=rises.dtype)
    closed = jnp.full((size, 3), size, dtype=rises.dtype)
    closed = lax.fori_loop(0, 2 * size - 1, step, (start + 1, start, none, none, closed))[-1]
    # Row j is the block that ended at j. One merged later began inside the block that swallowed it.
    return lax.cummin(closed[:, 2].astype(start.dtype), reverse=True)


_first_of_block = jnp.vectorize(_pool, signature="(n)->(n)")
_block_sum = jnp.vectorize(lambda x, to: jnp.zeros_like(x).at[to].add(x)[to], signature="(n),(n)->(n)")


def _rises(z: PerObject, w: PerObject, width: Float[Array, ""], real: Bools) -> PerObject:
    """Return how much ``z / width - w`` rises to each object; -inf to the first one and the padded ones."""
    # A difference of differences: equal z still rise, and what overflows has the right sign.
    rises = jnp.diff(z, axis=-1) / width - jnp.diff(w, axis=-1)
    return jnp.full_like(z, -jnp.inf).at[..., 1:].set(jnp.where(real[..., 1:], rises, -jnp.inf))


def _means(x: PerObject, first: Places) -> tuple[PerObject, PerObject, Bools]:
    """Return half the mean of everyone's block, half the distance to it, and who is alone in a block."""
    size = _block_sum(jnp.ones_like(x), first)
    # Measured from the block's first object, exactly for equal ones; halved, so that no distance overflows.
    base = lax.stop_gradient(jnp.take_along_axis(x, first, -1) / 2)
    above = x / 2 - base
    mean = _block_sum(above / size, first)
    return base + mean, above - mean, size == 1


@jax.jit  # outside of any jit, too, the loop compiles once per shape
def _project(z: PerObject, w: PerObject, width: Float[Array, ""], real: Bools) -> PerObject:
    """Return the projection of ``z / width`` on the permutahedron of ``w``, both falling, 0 in the padding."""
    if z.shape[-1] == 0:
        return w
    first = _first_of_block(_rises(*lax.stop_gradient((z, w, width)), real))
    _, distance, alone = _means(z, first)
    scale = lax.stop_gradient(width)  # the derivative of distance / width would contain 1 / width^2: overflow
    moved = (jnp.where(alone, 0, distance) / scale) / (width / scale)
    projected = 2 * (_means(w, first)[0] + moved)
    return jnp.where(real & jnp.isnan(z + w).any(axis=-1, keepdims=True), jnp.nan, projected)


def soft_sort(
    x: RealArrays, *, width: Scalar, mask: Mask = None, descending: bool = False, empty: Scalar = 0.0
) -> PerObject:
    """Return the relaxed sorted values of the real objects, then ``empty`` in the places of the padded ones.

    ``width`` has the inverse unit of ``x``: only neighbours more than ``1 / width`` apart are drawn together.
    """
    _, values, rho, real = _fall(x, mask, negate=not descending)
    result = _project(rho, values, like(values, width), real)
    return jnp.where(real, result if descending else -result, like(result, empty))


def hard_sort(
    x: RealArrays, *, mask: Mask = None, descending: bool = False, empty: Scalar = 0.0
) -> PerObject:
    """Return the sorted values of the real objects, then ``empty`` in the places of the padded ones."""
    _, values, _, real = _fall(x, mask, negate=not descending)
    return jnp.where(real, values if descending else -values, like(values, empty))


def soft_rank(x: RealArrays, *, width: Scalar, mask: Mask = None, descending: bool = False) -> PerObject:
    """Return relaxed ranks from 1, the smallest (``descending``: the largest); 0 for the padded objects.

    ``width`` has the unit of ``x``: exact where all objects lie further apart, one mean rank for equal ones.
    """
    _, values, rho, real = falling = _fall(x, mask, negate=descending)
    return _restore(falling, _project(values, rho, like(values, width), real))


def hard_rank(x: RealArrays, *, mask: Mask = None, descending: bool = False) -> PerObject:
    """Return the ranks from 1, the smallest (``descending``: the largest); equal objects share their mean."""
    _, values, rho, real = falling = _fall(x, mask, negate=descending)
    equal = real & (values == jnp.roll(values, 1, axis=-1))
    first = lax.cummax(jnp.where(equal, 0, (rho[..., :1] - rho).astype(jnp.int32)), axis=rho.ndim - 1)
    return _restore(falling, 2 * _means(rho, first)[0])


def _check(name: str, got: int, least: int) -> None:
    if got < least:
        raise ValueError(
            f"largest objects: got {name} = {got}; allowed: {least} or more, an integer; 1 is the largest"
        )


def _top(falling: _Falling, k: int) -> PerObject:
    _check("k", k, 0)
    return jnp.clip(falling.rho - jnp.maximum(falling.rho[..., :1] - k, 0), 0, 1)


def _within(y: PerObject) -> PerObject:
    """Return ``y`` without what rounding puts outside [0, 1]; its derivative stays."""
    return y + lax.stop_gradient(jnp.clip(y, 0, 1) - y)


def _soft_top(falling: _Falling, k: int, width: Scalar) -> PerObject:
    return _within(_project(falling.values, _top(falling, k), like(falling.values, width), falling.real))


def soft_top(x: RealArrays, k: int, *, width: Scalar, mask: Mask = None) -> PerObject:
    """Return in [0, 1] how much each object is one of the ``k`` largest; of fewer real objects, all are.

    ``width`` has the unit of ``x``: exact where the k-th and the next one lie further apart.
    """
    falling = _fall(x, mask)
    return _restore(falling, _soft_top(falling, k, width))


def hard_top(x: RealArrays, k: int, *, mask: Mask = None) -> PerObject:
    """Return 1 for the ``k`` largest real objects (of equal ones the first are chosen), else 0."""
    falling = _fall(x, mask)
    return _restore(falling, _top(falling, k))


def soft_nth(x: RealArrays, n: int, *, width: Scalar, mask: Mask = None) -> PerObject:
    """Return the weights of the ``n``-th largest object, top n less top n - 1; all 0 of fewer than n objects."""
    _check("n", n, 1)
    falling = _fall(x, mask)
    return _restore(falling, _within(_soft_top(falling, n, width) - _soft_top(falling, n - 1, width)))


def hard_nth(x: RealArrays, n: int, *, mask: Mask = None) -> PerObject:
    """Return 1 at the ``n``-th largest real object (equal ones in the order they come), else 0."""
    _check("n", n, 1)
    falling = _fall(x, mask)
    return _restore(falling, _top(falling, n) - _top(falling, n - 1))
