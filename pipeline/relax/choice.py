"""Choosing: one object of an event, or one of K alternatives, relaxed to a softmax of temperature ``width``.

A choice is a set of weights over the last axis that sum to 1:

    w_j = e_j exp(s'_j / T) / sum_i e_i exp(s'_i / T),        s'_j = s_min + e_j (s_j - s_min)

with decisions ``e_j`` on who is eligible, and the smallest score ``s_min`` of the event. As ``T`` goes to 0 all
weight goes to the largest score; equal scores share it (the exact choice takes the first). A score counts as
far as its object is eligible: with the factor ``e_j`` alone, an object that fails its cut by many widths of the
cut would still be chosen for a score many ``T`` above the others, however small both widths are. Events in
which nothing may be chosen have all weights 0 and a zero gradient.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Real, Shaped

from pipeline.relax.arrays import allowed_objects, as_float, like, spread
from pipeline.relax.cuts import harden


def soft_choose(
    scores: Real[ArrayLike, "..."],
    *,
    width: Real[ArrayLike, ""],
    mask: Shaped[ArrayLike, "..."] | None = None,
    eligible: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """Return the weights of the softmax choice over the last axis; ``choose(-x)`` chooses the smallest.

    ``mask`` says which objects are real; a score of -inf counts as masked. ``eligible`` are decisions in
    [0, 1], see the formula of the module. Below the smallest normal number of the dtype an eligibility is
    0: the object is masked, and its eligibility gets no gradient.
    """
    values = as_float(scores)
    factor = jnp.ones_like(values) if eligible is None else like(values, as_float(eligible))
    values, factor, real = spread(values, factor, allowed_objects(values, mask))
    allowed = real & ~(factor < np.finfo(values.dtype).tiny) & (values != -jnp.inf)
    if eligible is not None:
        values = _as_far_as_eligible(values, factor, allowed)
    values, factor = jnp.where(allowed, values, 0), jnp.where(allowed, factor, 1)
    temperature = like(values, width)
    logits = jnp.where(allowed, values / temperature + jnp.log(factor), -jnp.inf)
    largest = jnp.max(logits, axis=-1, keepdims=True, initial=-jnp.inf)
    shift = jax.lax.stop_gradient(jnp.where(largest == -jnp.inf, 0, largest))
    exponent = jnp.where(allowed, values / temperature - shift, 0)
    exponentials = jnp.where(allowed, factor * jnp.exp(exponent), 0)
    total = jnp.sum(exponentials, axis=-1, keepdims=True)
    return exponentials / jnp.where(total == 0, 1, total)


def _as_far_as_eligible(
    scores: Float[Array, "..."], eligible: Float[Array, "..."], allowed: Bool[Array, "..."]
) -> Float[Array, "..."]:
    """Return the scores ``s'`` of the formula of the module, for the objects that are allowed."""
    smallest = jnp.min(jnp.where(allowed, scores, jnp.inf), axis=-1, keepdims=True, initial=jnp.inf)
    smallest = jnp.where(jnp.isfinite(smallest), smallest, 0)
    above = jnp.where(allowed, scores - smallest, 0)
    return smallest + jnp.where(allowed, eligible, 0) * above


def hard_choose(
    scores: Real[ArrayLike, "..."],
    *,
    mask: Shaped[ArrayLike, "..."] | None = None,
    eligible: Shaped[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """Return 1 at the first largest score among the real objects with eligibility above 1/2, else 0."""
    values = as_float(scores)
    factor = jnp.ones_like(values) if eligible is None else harden(eligible)
    values, factor, real = spread(values, factor, allowed_objects(values, mask))
    allowed = real & (factor != 0) & (values != -jnp.inf)
    if values.shape[-1] == 0:
        return values
    first = jnp.argmax(jnp.where(allowed, values, -jnp.inf), axis=-1, keepdims=True)
    chosen = jax.lax.broadcasted_iota(first.dtype, values.shape, values.ndim - 1) == first
    return (chosen & allowed).astype(values.dtype)


def take(attribute: Real[ArrayLike, "..."], weights: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the attribute of the chosen object, ``sum_j w_j a_j`` over the last axis.

    It is 0 where nothing is chosen. A NaN or infinite attribute of an object of weight 0 is not looked at.
    """
    values, share = spread(as_float(attribute), like(as_float(attribute), weights))
    ignored = (share == 0) & ~jnp.isfinite(values)
    return jnp.sum(jnp.where(ignored, 0, values) * share, axis=-1)


def extreme(
    x: Real[ArrayLike, "..."], weights: Float[Array, "..."], *, empty: Real[ArrayLike, ""]
) -> Float[Array, "..."]:
    """Return the attribute ``x`` of the chosen object, and ``empty`` where nothing is chosen."""
    chosen = take(x, weights)
    return jnp.where(jnp.all(weights == 0, axis=-1), like(chosen, empty), chosen)


def over_alternatives(
    alternatives: Real[ArrayLike, "..."], weights: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Return the mixture ``sum_k w_k a_k`` of K alternatives, the last axis, with the weights of a choice."""
    values = jnp.asarray(alternatives)
    if values.ndim == 0 or weights.ndim == 0 or values.shape[-1] != weights.shape[-1]:
        raise ValueError(
            f"mixture: {values.shape} alternatives and {weights.shape} logits; allowed: the same length of "
            "the last axis; stack the K alternatives along the last axis and give K logits"
        )
    return take(values, weights)


@jax.custom_jvp
def straight_through(exact: Float[Array, "..."], relaxed: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return ``exact`` with the derivative of ``relaxed``: the straight-through estimator.

    (Y. Bengio, N. Leonard, A. Courville, arXiv:1308.3432.) The derivative is not that of the result: chunks
    still add up to the whole, finite differences do not agree with it.
    """
    return exact


@straight_through.defjvp
def _derivative_of_relaxed(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    return primals[0], tangents[1]
