"""What the operations take for an array: dtype and broadcasting, stated once and never implicit.

Columns are often float32 and parameters float64. JAX's strict promotion refuses to mix them and its strict
rank promotion refuses ``[events, objects] > [objects]``; here both are decided in the open, under any
setting.
"""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, Real, Shaped

RealArrays = Real[ArrayLike, "..."]
Decisions = Shaped[ArrayLike, "..."]
Mask = Shaped[ArrayLike, "..."] | None
Floats = Float[Array, "..."]


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
) -> tuple[Real[Array, "..."], Real[Array, "..."]]:
    """Return both as NumPy compares them: in the wider dtype, whole numbers as such.

    A single number takes the dtype of floating ``x``, as a Python number does in NumPy: 0.3 beside float32 is the
    nearest float32.
    """
    values = jnp.asarray(x)
    if jnp.issubdtype(values.dtype, jnp.integer) and _is_whole(other):
        return _comparable_whole(values, other)
    first = as_float(values)
    if np.ndim(other) == 0 and jnp.issubdtype(values.dtype, jnp.floating):
        return first, like(first, other)
    second = as_float(other)
    wider = np.promote_types(first.dtype, second.dtype)
    return first.astype(wider), second.astype(wider)


def _is_whole(number: Real[ArrayLike, "..."]) -> bool:
    if isinstance(number, bool | int | float):
        return type(number) is int
    return bool(jnp.issubdtype(jnp.asarray(number).dtype, jnp.integer))


def _comparable_whole(
    x: Integer[Array, "..."], other: Integer[ArrayLike, "..."]
) -> tuple[Integer[Array, "..."], Integer[Array, "..."]]:
    """Return both in a dtype that holds them, without rounding; beyond the range of ``x``, two that compare alike."""
    if isinstance(other, int):
        limits = np.iinfo(x.dtype)
        if limits.min <= other <= limits.max:
            return x, jnp.asarray(other, dtype=x.dtype)
        return jnp.zeros_like(x, dtype=np.int32), jnp.asarray(-1 if other < 0 else 1, dtype=np.int32)
    second = jnp.asarray(other)
    wider = np.promote_types(x.dtype, second.dtype)
    if np.issubdtype(wider, np.integer):
        return x.astype(wider), second.astype(wider)
    if x.dtype == np.uint64:
        signed, unsigned = _signed_and_unsigned(second, x)
        return unsigned, signed
    return _signed_and_unsigned(x, second)


def _signed_and_unsigned(
    signed: Integer[Array, "..."], unsigned: Integer[Array, "..."]
) -> tuple[Integer[Array, "..."], Integer[Array, "..."]]:
    """Return both in int64, in which they compare as the numbers do; uint64 and int64 have no common type."""
    signed, unsigned = spread(signed.astype(np.int64), unsigned)
    most = np.iinfo(np.int64).max
    beyond = unsigned > np.uint64(
        most
    )  # above whatever the other is, also where that is the largest there is
    below = jnp.where(beyond & (signed == most), most - 1, signed)
    return below, jnp.where(beyond, most, unsigned.astype(np.int64))


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
