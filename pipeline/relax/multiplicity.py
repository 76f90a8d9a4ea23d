"""Counting objects that pass: the Poisson-binomial distribution of N, plain counts, the n-th that passes.

With independent decisions ``p_j`` of the objects of an event, ``P(N = k)`` follows from the recursion

    P_j(k) = P_{j-1}(k) (1 - p_j) + P_{j-1}(k - 1) p_j,        P_0(k) = [k = 0]

(Y. Hong, Comput. Stat. Data Anal. 59 (2013) 41, and references there). Every term is a product of numbers
in [0, 1], so tiny probabilities keep their relative precision, and the result is linear in each ``p_j``:
its gradient is exact and finite everywhere, also at 0 and 1. A padded object has decision 0 and counts for
nothing. With 0/1 decisions the probabilities are the exact answers.

Object ``j`` is the n-th that passes with probability ``P_{j-1}(n - 1) p_j``: n - 1 of the objects before it
pass, and it does. Over the objects these add up to ``P(N >= n)``.
"""

from itertools import pairwise

import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.relax.cuts import harden


def _check_count(n: int) -> None:
    if n < 0:
        raise ValueError(
            f"number of objects: got n = {n}; allowed: 0 or more; use at_least, exactly, at_most"
        )


def _check_place(n: object) -> None:
    if not isinstance(n, int) or n < 1:
        raise ValueError(
            f"n-th object that passes: got n = {n}; allowed: 1 or more, a Python integer; 1 is the first"
        )


def _state(passes: Float[Array, "*events objects"], n: int) -> list[Float[Array, "*events"]]:
    none_yet = jnp.zeros(passes.shape[:-1], dtype=passes.dtype)
    return [jnp.ones_like(none_yet)] + [none_yet] * n


def _one_more(
    state: list[Float[Array, "*events"]], passes: Float[Array, "*events"]
) -> list[Float[Array, "*events"]]:
    fails = 1 - passes
    moved = [now * fails + before * passes for before, now in pairwise(state)]
    return [state[0] * fails, *moved]


def probabilities(passes: Float[Array, "*events objects"], n: int) -> list[Float[Array, "*events"]]:
    """Return ``[P(N = 0), ..., P(N = n)]`` per event; more than the objects of an event has probability 0.

    The loop over objects is unrolled: XLA fuses it into one pass over the events, ten times faster than
    ``lax.scan`` for ten objects (200 000 events, value and gradient, 12 against 150 ms on two cores). Objects are
    unstacked, not indexed: the derivative of an index is a full-size array of zeros for each.
    """
    _check_count(n)
    state = _state(passes, n)
    for one in jnp.unstack(passes, axis=-1):
        state = _one_more(state, one)
    return state


def exactly(passes: Float[Array, "*events objects"], n: int) -> Float[Array, "*events"]:
    """Return the probability that exactly ``n`` objects pass, ``P(N = n)``."""
    return probabilities(passes, n)[n]


def at_least(passes: Float[Array, "*events objects"], n: int) -> Float[Array, "*events"]:
    """Return the probability that at least ``n`` objects pass, ``P(N >= n)``; 1 for ``n = 0``.

    The last state of the recursion is absorbing (``n`` or more): ``1 - P(N < n)`` would lose tiny
    probabilities.
    """
    _check_count(n)
    state = _state(passes, n)
    if n == 0:
        return state[0]
    for one in jnp.unstack(passes, axis=-1):
        reached = state[n] + state[n - 1] * one
        state = [*_one_more(state[:n], one), reached]
    return state[n]


def at_most(passes: Float[Array, "*events objects"], n: int) -> Float[Array, "*events"]:
    """Return the probability that at most ``n`` objects pass, ``P(N <= n)``, a sum of terms of one sign."""
    return jnp.sum(jnp.stack(probabilities(passes, n)), axis=0)


def count(passes: Float[Array, "*events objects"]) -> Float[Array, "*events"]:
    """Return the expected number of objects that pass, ``sum_j p_j``; 0 without objects."""
    return jnp.sum(passes, axis=-1)


def nth_passing(passes: Float[Array, "*events objects"], n: int) -> Float[Array, "*events objects"]:
    """Return the probability of each object to be the ``n``-th that passes, in the order of the objects.

    Calls with several ``n`` on the same decisions share one recursion under ``jax.jit``, the derivatives do
    not. The decisions are unstacked because the derivative of an index is a padded array for every object.
    """
    _check_place(n)
    if passes.shape[-1] == 0:
        return passes
    state, weights = _state(passes, n - 1), []
    for decision in jnp.unstack(passes, axis=-1):
        weights.append(state[-1] * decision)
        state = _one_more(state, decision)
    return jnp.stack(weights, axis=-1)


def hard_count(passes: Float[Array, "*events objects"]) -> Float[Array, "*events"]:
    """Return the number of objects whose decision is above 1/2."""
    return count(harden(passes))


def hard_exactly(passes: Float[Array, "*events objects"], n: int) -> Float[Array, "*events"]:
    """Return 1 where exactly ``n`` decisions are above 1/2, else 0."""
    _check_count(n)
    return (hard_count(passes) == n).astype(passes.dtype)


def hard_at_least(passes: Float[Array, "*events objects"], n: int) -> Float[Array, "*events"]:
    """Return 1 where at least ``n`` decisions are above 1/2, else 0."""
    _check_count(n)
    return (hard_count(passes) >= n).astype(passes.dtype)


def hard_at_most(passes: Float[Array, "*events objects"], n: int) -> Float[Array, "*events"]:
    """Return 1 where at most ``n`` decisions are above 1/2, else 0."""
    _check_count(n)
    return (hard_count(passes) <= n).astype(passes.dtype)


def hard_nth_passing(passes: Float[Array, "*events objects"], n: int) -> Float[Array, "*events objects"]:
    """Return 1 at the ``n``-th object whose decision is above 1/2, else 0; all 0 of fewer than ``n``."""
    _check_place(n)
    chosen = harden(passes)
    return jnp.where(jnp.cumsum(chosen, axis=-1) == n, chosen, 0)
