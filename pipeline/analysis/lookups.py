"""Tables that ``observe`` looks up by NumPy, at what is known only there: values without a derivative.

What a function raises inside a compiled program, XLA would make a text of, and a process print once more at its end.
So its values are then NaN, and what was raised is in ``Columns.failures``, which those have who look for the cause of
numbers that are not finite.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from pipeline.containers import Columns
from pipeline.errors import AnalysisError, Noting


def lookup(c: Columns, function: Callable[..., Any], *arrays: ArrayLike) -> jax.Array:
    """Return what a NumPy function makes of arrays, number by number, in the type of the weights.

    It is for corrections that depend on a free parameter, as that of jets tagged above ``p.btag`` does; what depends
    on the event alone belongs into ``columns``. Smooth cuts and exact ones have the same values. The derivative is 0:
    the gradient takes the correction as a constant, and has all the rest.

    Args:
        c: columns, as ``observe`` has them.
        function: of NumPy arrays of one shape to numbers of that shape; each is a function of its own entries alone.
        arrays: its arguments, brought to one shape: columns, and parameters, which are single numbers.
    """
    shape = np.broadcast_shapes(*map(jnp.shape, arrays))
    constant = [jax.lax.stop_gradient(jnp.broadcast_to(array, shape)) for array in arrays]
    result = jax.ShapeDtypeStruct(shape, c.weight.dtype)

    def called(*given: Any) -> np.ndarray:
        values = [np.asarray(array) for array in given]
        try:
            with Noting("in the function of a lookup(...)"):
                return _values(function, values).astype(result.dtype)
        except AnalysisError as error:
            if c.failures is not None:
                c.failures.note(error)
            return np.full(values[0].shape, np.nan, result.dtype)

    found: jax.Array = jax.pure_callback(called, result, *constant, vmap_method="broadcast_all")
    return found


def _values(function: Callable[..., Any], values: list[np.ndarray]) -> np.ndarray:
    """Return what the function makes, which is one number for each entry."""
    found = np.asarray(function(*values), dtype=np.float64)
    if found.shape != values[0].shape:
        raise ValueError(
            f"it returns an array of shape {found.shape} for arguments of shape {values[0].shape}; it must return a "
            "number for each entry"
        )
    return found
