"""What the operations take for an array: dtype and broadcasting, stated once and never implicit.

Columns are often float32 and parameters float64. JAX's strict promotion refuses to mix them and its strict
rank promotion refuses ``[events, objects] > [objects]``; here both are decided in the open, under any
setting.
"""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real, Shaped


def as_float(x: Shaped[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Return ``x`` as a floating-point array; integers and booleans take JAX's default float type."""
    array = jnp.asarray(x)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.result_type(float))


def like(x: Float[Array, "..."], other: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Return ``other`` in the dtype of ``x``: a float64 threshold on a float32 column acts in float32."""
    return jnp.asarray(other, dtype=x.dtype)


def spread(*arrays: Shaped[ArrayLike, "..."]) -> list[Shaped[Array, "..."]]:
    """Broadcast against each other by NumPy's rule (trailing axes aligned), explicitly."""
    return list(jnp.broadcast_arrays(*(jnp.asarray(array) for array in arrays)))


def comparable(
    x: Real[ArrayLike, "..."], other: Real[ArrayLike, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return both in the wider dtype, as NumPy compares them; a Python number takes the dtype of ``x``."""
    first, second = as_float(x), as_float(other)
    if isinstance(other, int | float):
        return first, like(first, second)
    wider = np.promote_types(first.dtype, second.dtype)
    return first.astype(wider), second.astype(wider)


def allowed_objects(x: Shaped[Array, "..."], mask: Shaped[ArrayLike, "..."] | None) -> Shaped[Array, "..."]:
    """Return where ``mask`` (booleans, or zeros and ones) says an object is real; everywhere without one."""
    return jnp.ones(x.shape, dtype=bool) if mask is None else jnp.asarray(mask).astype(bool)


def weighted(
    of: str, values: Real[ArrayLike, "..."], weights: Real[ArrayLike, "..."] | None
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return [events] values and their weights, 1 by default, in the wider dtype; ``of`` names the caller."""
    x = as_float(values)
    x, w = comparable(x, jnp.ones_like(x) if weights is None else as_float(weights))
    if x.ndim != 1 or x.shape != w.shape:
        raise ValueError(
            f"{of}: values of shape {x.shape} with weights of shape {w.shape}; allowed: [events] both; give "
            "one weight per value"
        )
    return x, w
