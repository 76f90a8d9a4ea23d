"""Count faults of events (NaN, infinity) inside traced code, which cannot raise."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Int, Real

from pipeline.relax.arrays import as_float


class Status(NamedTuple):
    """Numbers of bad events; those of disjoint events add (``jax.tree.map(jnp.add, a, b)``)."""

    nan_values: Int[Array, "..."]
    infinite_values: Int[Array, "..."]
    bad_weights: Int[Array, "..."]

    @property
    def ok(self) -> bool:
        """Whether contents are finite: infinite values count as flow. Not inside ``jit``."""
        return not bool(jnp.any(self.nan_values) | jnp.any(self.bad_weights))


def status(values: Real[ArrayLike, "..."], weights: Real[ArrayLike, "..."] | None = None) -> Status:
    """Count over the last axis: NaN values, infinite values, and weights that are NaN or infinite.

    An event of weight 0 counts too: it is as visible to ``histogram``, whose contents are all NaN for a
    NaN value or a bad weight.
    """
    x, w = as_float(values), as_float(0.0 if weights is None else weights)
    bad = jnp.sum(~jnp.isfinite(w), axis=-1) if w.ndim else jnp.zeros((), dtype=int)
    return Status(jnp.sum(jnp.isnan(x), axis=-1), jnp.sum(jnp.isinf(x), axis=-1), bad)
