"""Bin contents event by event and edge by edge: the formula as it is written, for few events."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

NO_TAIL = 40.0  # bandwidths; beyond, the tail is 0 in float64 too, and the square of a distance may overflow


def _tails(
    values: Float[Array, " events"], edges: Float[Array, " edges"], bandwidth: Float[Array, " edges"]
) -> tuple[Float[Array, "events edges"], Bool[Array, "events edges"]]:
    """Return the share of each event beyond each edge, on its far side, and whether that side is below.

    An infinite edge or value leaves no tail and no gradient, whatever the bandwidth.
    """
    is_open = jnp.isinf(edges)[None, :]
    distance = jnp.where(is_open[0], 0, edges)[None, :] - values[:, None]
    beyond = (jnp.abs(distance / bandwidth[None, :]) > NO_TAIL) | is_open
    z = jnp.where(beyond, 0, distance) / bandwidth[None, :]
    tail = 0.5 * jax.lax.erfc(jnp.where(z < 0, -z, z) * np.sqrt(0.5).item())
    below = jnp.where(is_open, edges[None, :] < 0, distance < 0)
    return jnp.where(beyond, 0, tail), below


def bin_shares(
    values: Float[Array, " events"], edges: Float[Array, " edges"], bandwidth: Float[Array, " edges"]
) -> Float[Array, "events bins"]:
    """Return the share of every smeared event in every bin, ``Phi(z_{b+1}) - Phi(z_b)``, ``z = (e - x) / s``.

    Taken as a difference of tails, never of numbers close to 1, so that shares far from the event keep their
    relative precision also in float32.
    """
    tail, below = _tails(values, edges, bandwidth)
    low, high = tail[:, :-1], tail[:, 1:]
    across = jnp.where(below[:, :-1], 1 - low - high, low - high)
    return jnp.where(below[:, 1:], high - low, across)


def direct_contents(
    values: Float[Array, " events"],
    weights: Float[Array, " events"],
    edges: Float[Array, " edges"],
    bandwidth: Float[Array, " edges"],
) -> Float[Array, " bins"]:
    """Return the bKDE of one set of values; all NaN where a value is NaN or a weight is not finite."""
    contents = jnp.matmul(weights, bin_shares(values, edges, bandwidth), precision="highest")
    bad = jnp.any(jnp.isnan(values) | ~jnp.isfinite(weights))
    return contents + jnp.where(bad, jnp.nan, 0).astype(contents.dtype)
