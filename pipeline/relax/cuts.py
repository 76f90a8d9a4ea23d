"""Cuts: decisions on values, relaxed (``soft_``) and exact (``hard_``), and their logic.

A decision is a number in [0, 1] per value, in the dtype of the values: 1 passes, 0 fails. A relaxed cut of
width ``w`` decides ``E((x - threshold) / w)`` with the edge ``E``

- ``"logistic"``: ``E(z) = 1 / (1 + exp(-z))``
- ``"gaussian"``: ``E(z) = Phi(z) = erfc(-z / sqrt(2)) / 2``, the share that passes of a value smeared by
  ``w``

Both reach 0 and 1 exactly, at the ends of the floating-point range, with zero gradient there and no floor.
"""

from collections.abc import Callable
from functools import reduce
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real, Shaped

from pipeline.relax.arrays import allowed_objects, as_float, comparable, like, spread

Edge = Literal["logistic", "gaussian"]


def _gaussian(z: Float[Array, "..."]) -> Float[Array, "..."]:
    return 0.5 * jax.lax.erfc(-z * np.sqrt(0.5).item())


EDGES: dict[Edge, Callable[[Float[Array, "..."]], Float[Array, "..."]]] = {
    "logistic": jax.nn.sigmoid,
    "gaussian": _gaussian,
}


def soft_step(
    distance: Float[Array, "..."], width: Float[Array, ""], *, edge: Edge = "logistic"
) -> Float[Array, "..."]:
    """Return ``E(distance / width)``, the relaxed decision ``distance > 0``.

    A distance that overflows in units of the width (infinite values or thresholds) decides as the exact cut,
    with zero gradient. NaN stays NaN.
    """
    overflows = jnp.isinf(distance / width)
    z = jnp.where(overflows, 0, distance) / width
    return jnp.where(overflows, (distance > 0).astype(distance.dtype), EDGES[edge](z))


def soft_greater(
    x: Real[ArrayLike, "..."],
    threshold: Real[ArrayLike, "..."],
    *,
    width: Real[ArrayLike, ""],
    edge: Edge = "logistic",
    mask: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """Return the relaxed decision ``x > threshold``: ``E((x - threshold) / width)``.

    The threshold broadcasts against the values by NumPy's rule. Where ``mask`` is zero the decision is 0
    exactly and nothing, not even a NaN in the padding, reaches the gradient. At ``x == threshold`` the
    decision is 1/2.
    """
    values = as_float(x)
    values, cut, real = spread(values, like(values, threshold), allowed_objects(values, mask))
    distance = jnp.where(real, values - cut, 0)
    return jnp.where(real, soft_step(distance, like(values, width), edge=edge), 0)


def soft_less(
    x: Real[ArrayLike, "..."],
    threshold: Real[ArrayLike, "..."],
    *,
    width: Real[ArrayLike, ""],
    edge: Edge = "logistic",
    mask: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """Return the relaxed decision ``x < threshold``: ``E((threshold - x) / width)``, see ``soft_greater``."""
    values = as_float(x)
    return soft_greater(-values, -like(values, threshold), width=width, edge=edge, mask=mask)


def soft_between(
    x: Real[ArrayLike, "..."],
    low: Real[ArrayLike, "..."],
    high: Real[ArrayLike, "..."],
    *,
    widths: tuple[Real[ArrayLike, ""], Real[ArrayLike, ""]],
    edge: Edge = "logistic",
    mask: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """Return the relaxed decision ``low < x < high``: the product of both cuts, each edge with its own width.

    A window narrower than its widths never decides 1, not even in its middle.
    """
    above = soft_greater(x, low, width=widths[0], edge=edge, mask=mask)
    below = soft_less(x, high, width=widths[1], edge=edge, mask=mask)
    return jnp.multiply(*spread(above, below))


def hard_greater(
    x: Real[ArrayLike, "..."],
    threshold: Real[ArrayLike, "..."],
    *,
    mask: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """Return 1 where ``x > threshold`` (strictly) and the object is real, else 0; NaN fails, as in NumPy.

    Values and thresholds are compared in the wider of their dtypes, a single threshold in that of floating values;
    the decision has the dtype of the values, of whole numbers and booleans JAX's default float type.
    """
    values, cut = comparable(x, threshold)
    values, cut, real = spread(values, cut, allowed_objects(values, mask))
    return ((values > cut) & real).astype(as_float(x).dtype)


def hard_less(
    x: Real[ArrayLike, "..."],
    threshold: Real[ArrayLike, "..."],
    *,
    mask: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """Return 1 where ``x < threshold`` (strictly) and the object is real, else 0, as ``hard_greater``."""
    values, cut = comparable(x, threshold)
    values, cut, real = spread(values, cut, allowed_objects(values, mask))
    return ((values < cut) & real).astype(as_float(x).dtype)


def hard_between(
    x: Real[ArrayLike, "..."],
    low: Real[ArrayLike, "..."],
    high: Real[ArrayLike, "..."],
    *,
    mask: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """Return 1 where ``low < x < high`` (both strictly) and the object is real, else 0."""
    return jnp.multiply(*spread(hard_greater(x, low, mask=mask), hard_less(x, high, mask=mask)))


def _same_shape(decisions: tuple[Shaped[ArrayLike, "..."], ...]) -> list[Float[Array, "..."]]:
    arrays = [as_float(decision) for decision in decisions]
    shapes = [array.shape for array in arrays]
    if not arrays or any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"logic of decisions: got shapes {shapes}; allowed: one or more decisions of one shape; "
            "reduce decisions per object to decisions per event first (at_least, exactly, ...)"
        )
    return arrays


def soft_all(*decisions: Shaped[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Return the probability that all independent decisions pass: ``prod d``."""
    return reduce(jnp.multiply, _same_shape(decisions))


def soft_any(*decisions: Shaped[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Return the probability that any of the independent decisions passes: ``1 - prod (1 - d)``.

    Evaluated as ``a + (1 - a) b``, which keeps the relative precision of tiny decisions.
    """
    return reduce(lambda a, b: a + (1 - a) * b, _same_shape(decisions))


def soft_not(decision: Shaped[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Return the opposite decision: ``1 - d``."""
    return 1 - as_float(decision)


def harden(decision: Shaped[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Return 1 where the decision is above 1/2, the rounding that every exact operation applies, else 0."""
    values = as_float(decision)
    return (values > 0.5).astype(values.dtype)
