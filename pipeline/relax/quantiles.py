"""Quantiles of weighted events, differentiable, and the bin edges of equal yield.

The sorted values ``x_(i)`` are the knots of a piecewise linear function of the probability, each in the
middle of its weight,

    p_i = (sum_{j <= i} w_(j) - w_(i) / 2) / sum w

constant beyond the first and the last. For equal weights that is Hazen's rule, NumPy's
``method="hazen"`` (R. Hyndman, Y. Fan, Am. Stat. 50 (1996) 361, definition 5).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Real

from pipeline.relax.arrays import like, weighted


def _check_probabilities(probabilities: Real[ArrayLike, " quantiles"]) -> None:
    if isinstance(probabilities, jax.core.Tracer):
        return
    known = np.asarray(probabilities)
    if not np.all((known >= 0) & (known <= 1)):
        raise ValueError(
            f"quantiles: probabilities {known.tolist()}; allowed: from 0 to 1; divide percentages by 100"
        )


def _in_order(
    x: Float[Array, " events"], w: Float[Array, " events"]
) -> tuple[Float[Array, " events"], Float[Array, " events"]]:
    """Return values and weights by rising value, events of weight 0 last.

    Equal values rank by weight, so that the order of the events does not matter.
    """
    order = jnp.lexsort((w, jnp.where(w == 0, jnp.nan, x)))  # NaN sorts behind infinity
    return x[order], w[order]


def _neighbours(
    positions: Float[Array, " events"], target: Float[Array, " quantiles"], last: Int[Array, ""]
) -> tuple[Int[Array, " quantiles"], Int[Array, " quantiles"]]:
    """Return the knots below and above every target; from the last knot on, the last two."""
    above = jnp.searchsorted(positions, target)
    last = last.astype(above.dtype)
    above = jnp.where(target >= positions[last], last, jnp.clip(above, 1, last))
    return jnp.maximum(above - 1, 0), above


def _interpolated(
    x: Float[Array, " events"], w: Float[Array, " events"], probabilities: Float[Array, " quantiles"]
) -> Float[Array, " quantiles"]:
    """Return the quantiles of sorted events of positive weight, those of weight 0 last."""
    cumulative = jnp.cumsum(w)
    positions = jnp.where(w > 0, cumulative - w / 2, jnp.inf)
    last = jnp.sum(w > 0) - 1
    target = jnp.clip(probabilities * cumulative[last], positions[0], positions[last])
    low, high = _neighbours(positions, target, last)
    gap = positions[high] - positions[low]
    # One event only, or a last weight lost in the sum: no gap, the upper knot.
    t = jnp.where(gap > 0, (target - positions[low]) / jnp.where(gap > 0, gap, 1), 1)
    step = x[high] - x[low]
    return jnp.where(t < 0.5, x[low] + t * step, x[high] - (1 - t) * step)  # exact at both knots


def quantiles(
    values: Real[ArrayLike, " events"],
    probabilities: Real[ArrayLike, " quantiles"],
    *,
    weights: Real[ArrayLike, "..."] | None = None,
) -> Float[Array, " quantiles"]:
    """Return the quantiles of weighted events (formula in the module), in the wider dtype of both.

    Events of weight 0 are not looked at, not even a NaN, and get no derivative. A negative weight, one that
    is not finite, a NaN value, or no event make all quantiles NaN. An infinite value makes NaN of those
    between it and its neighbour.

    The derivative holds the order of the events fixed. In a value it is its share of the interpolation; in
    weights and probabilities it is as noisy as the distance between two neighbouring events, whose inverse
    estimates the density. Events of equal value rank by weight; where two of unequal weight cross, the
    quantiles between them jump, by less than the distance to a neighbouring event.

    In float32 the positions are good to some 1e-7 of the total weight: one event in ten million.
    """
    _check_probabilities(probabilities)
    x, w = weighted("quantiles", values, weights)
    p = like(x, probabilities)
    if x.size == 0:
        return jnp.full(p.shape, jnp.nan, dtype=x.dtype)
    good = jnp.all((w >= 0) & (w < jnp.inf)) & jnp.any(w > 0) & ~jnp.any(jnp.isnan(x) & (w > 0))
    return jnp.where(good, _interpolated(*_in_order(x, w), p), jnp.nan)


def equal_yield_edges(
    values: Real[ArrayLike, " events"], bins: int, *, weights: Real[ArrayLike, "..."] | None = None
) -> Float[Array, " edges"]:
    """Return bins + 1 edges from the smallest to the largest value between which the yields are equal.

    ``np.histogram`` of the same events differs from equal yields by the weight of one event at most, where
    no two values are equal. Fewer distinct values than bins give equal edges, which are empty bins.
    Everything else as in ``quantiles``.
    """
    if bins < 1:
        raise ValueError(f"equal_yield_edges: {bins} bins; allowed: 1 or more; give the number of bins")
    return quantiles(values, np.linspace(0, 1, bins + 1), weights=weights)
