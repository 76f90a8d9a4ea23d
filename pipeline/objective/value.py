"""What an objective returns: its number, and how far the fit behind it can be trusted."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pipeline.fit import FitResult


class ObjectiveValue(eqx.Module):
    """The value of an objective and the state of its fit (a formula without a fit has converged with EDM 0)."""

    value: Float[Array, ""]
    converged: Bool[Array, ""]
    edm: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    steps: Int[Array, ""]


def with_fit(value: Float[Array, ""], result: FitResult) -> ObjectiveValue:
    """Return a value that is as good as its fit."""
    converged = result.converged & jnp.isfinite(value)
    return ObjectiveValue(value, converged, result.edm, result.gradient_norm, result.steps)


def without_fit(value: Float[Array, ""], converged: Bool[Array, ""] | None = None) -> ObjectiveValue:
    """Return a value that needed no fit, or one whose solver says itself whether it converged."""
    zero = jnp.zeros_like(value)
    good = jnp.isfinite(value) & (jnp.ones_like(value, dtype=bool) if converged is None else converged)
    return ObjectiveValue(value, good, zero, zero, jnp.zeros((), dtype=jnp.int32))


def together(value: Float[Array, ""], parts: Sequence[ObjectiveValue]) -> ObjectiveValue:
    """Return one value with the worst state of several fits."""
    worst = jax.tree.map(lambda *states: jnp.max(jnp.stack(states)), *parts)
    converged = jnp.all(jnp.stack([part.converged for part in parts]))
    return ObjectiveValue(value, converged, worst.edm, worst.gradient_norm, worst.steps)
