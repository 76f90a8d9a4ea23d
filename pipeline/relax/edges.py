"""Free bin edges that stay ordered by construction, with no clip that stops a derivative.

The bins between two fixed or free ends share what is left above a least width ``s`` by a softmax of one
number ``l_b`` per bin,

    width_b = s + (high - low - B s) exp(l_b) / sum_c exp(l_c),        e_b = low + sum_{c < b} width_c

for B bins, so that every logit is a good one and an optimiser may move them all at once. Adding a constant to
all logits changes nothing.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real

from pipeline.relax.arrays import as_float, like


def _check_range(bins: int, low: ArrayLike, high: ArrayLike, smallest: ArrayLike) -> None:
    if bins == 0:
        raise ValueError("ordered_edges: 0 logits; allowed: 1 or more; give one per bin")
    if any(isinstance(number, jax.core.Tracer) for number in (low, high, smallest)):
        return
    start, end, least = (np.asarray(number).item() for number in (low, high, smallest))
    if not 0 <= bins * least < end - start < np.inf:
        raise ValueError(
            f"ordered_edges: {bins} bins of at least {least} from {start} to {end}; allowed: finite ends, high "
            "above low, smallest at least 0 and below (high - low) / bins; give fewer bins or a smaller least "
            "width"
        )


@jax.custom_jvp
def _without_falls(edges: Float[Array, " edges"]) -> Float[Array, " edges"]:
    """Return the edges without the falls that rounding of the sums left; the derivative does not see it."""
    return jnp.clip(jax.lax.cummax(edges), edges[0], edges[-1])


@_without_falls.defjvp
def _as_before(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _without_falls(*primals), *tangents


def ordered_edges(
    logits: Real[ArrayLike, " bins"],
    low: Real[ArrayLike, ""],
    high: Real[ArrayLike, ""],
    *,
    smallest: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, " bins+1"]:
    """Return rising edges from ``low`` to ``high`` exactly, one logit per bin (formula in the module).

    ``smallest`` is the least width of a bin, in the unit of the edges. A width below the resolution of the
    dtype makes two edges equal, never falling; a ``smallest`` of 8 times the dtype's epsilon times the larger
    end keeps them apart. The dtype is that of the logits.

    Ends or a least width that leave no room are a ValueError; traced ones make all inner edges NaN.
    """
    scores = as_float(logits)
    if scores.ndim != 1:
        raise ValueError(f"ordered_edges: logits of shape {scores.shape}; allowed: [bins]; vmap over more")
    _check_range(scores.size, low, high, smallest)
    start, end, least = (like(scores, number) for number in (low, high, smallest))
    free = end - start - scores.size * least
    free = jnp.where((free > 0) & (free < jnp.inf), free, jnp.nan)
    inner = start + jnp.cumsum(least + free * jax.nn.softmax(scores))[:-1]
    edges: Array = _without_falls(jnp.concatenate([start[None], inner, end[None]]))
    return edges


def edge_logits(
    edges: Real[ArrayLike, " edges"], *, smallest: Real[ArrayLike, ""] = 0.0
) -> Float[Array, " edges-1"]:
    """Return the logits, of mean 0, for which :func:`ordered_edges` gives these edges: its start values.

    ``log(width_b - smallest)`` less its mean. A bin that is not wider than ``smallest``, or not finite, is a
    ValueError; a traced one makes all logits NaN.
    """
    rising = as_float(edges)
    if rising.ndim != 1 or rising.size < 2:
        raise ValueError(
            f"edge_logits: edges of shape {rising.shape}; allowed: one axis of 2 or more; give bins + 1 edges"
        )
    above = rising[1:] - rising[:-1] - like(rising, smallest)
    usable = (above > 0) & (above < jnp.inf)
    if not isinstance(usable, jax.core.Tracer) and not np.all(usable):
        raise ValueError(
            f"edge_logits: edges {rising.tolist()} with a least width of {smallest}; allowed: finite numbers, "
            "each above the one before by more than that; sort them, merge narrow bins or give a smaller one"
        )
    logits = jnp.log(jnp.where(usable, above, jnp.nan))
    return logits - jnp.mean(logits)
