"""Where a falling function of a fit crosses zero, with its derivative: limits and ends of intervals."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Valued = Callable[[Float[Array, ""]], tuple[Float[Array, ""], Bool[Array, ""]]]
"""Place -> value there, and whether it is to be trusted."""


class _Bracket(NamedTuple):
    """Both ends, the values there, whether the last one is to be trusted, and the steps taken."""

    a: Float[Array, ""]
    b: Float[Array, ""]
    of_a: Float[Array, ""]
    of_b: Float[Array, ""]
    is_good: Bool[Array, ""]
    steps: Int[Array, ""]


def falling_root(
    function: Valued,
    low: Float[Array, ""],
    high: Float[Array, ""],
    *,
    tolerance: float = 1e-12,
    residual: float = 1e-8,
    max_steps: int = 200,
    furthest: float = 1.0,
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """Return where a falling function crosses 0 between ``low`` and ``high``, differentiable in what it closes over.

    Regula falsi with the Illinois rule (M. Dowell, P. Jarratt, BIT 11 (1971) 168), bisection while a value is
    infinite; the derivative is that of the implicit function. ``tolerance`` is relative to ``high - low``. A crossing
    beyond ``high`` is looked for up to ``furthest`` times ``high - low``. False where there is no crossing, where it
    was not found to ``residual`` in the function, or where the value there is not to be trusted. The function is once
    in the program, and once more in that of its derivative.
    """
    width, end = high - low, low + furthest * (high - low)

    def unfinished(state: _Bracket) -> Bool[Array, ""]:
        narrow = jnp.abs(state.b - state.a) <= tolerance * width
        ended = (state.of_a > 0) & (state.of_b > 0) & (state.b >= end) | (state.of_a < 0) & (state.of_b < 0)
        found = (state.of_a == 0) | (state.of_b == 0)
        return (state.steps < 2) | ((state.steps < max_steps) & ~narrow & ~found & ~ended)

    def step(state: _Bracket) -> _Bracket:
        place = jnp.where(state.steps == 0, low, jnp.where(state.steps == 1, high, _next(state, low, end)))
        value, is_good = function(place)
        outwards = (state.of_a > 0) & (state.of_b > 0)
        crossed = outwards | (value * state.of_b <= 0) | (state.steps == 1)
        kept = jnp.where(crossed, state.b, state.a)
        of_kept = jnp.where(crossed, state.of_b, 0.5 * state.of_a)
        return _Bracket(kept, place, of_kept, value, is_good, state.steps + 1)

    def solve(_: Callable[[Array], Array], guess: Array) -> tuple[Array, Array]:
        unknown = jnp.ones_like(guess)
        no_steps = jnp.zeros((), dtype=jnp.int32)
        start = _Bracket(low, high, unknown, unknown, jnp.ones((), dtype=bool), no_steps)
        final = jax.lax.while_loop(unfinished, step, start)
        nearest = jnp.where(jnp.abs(final.of_a) < jnp.abs(final.of_b), final.a, final.b)
        left = jnp.minimum(jnp.abs(final.of_a), jnp.abs(final.of_b))
        crosses = (final.of_a * final.of_b <= 0) & (left < residual) & final.is_good
        return nearest, crosses.astype(nearest.dtype)  # custom_root wants a float

    def tangent_solve(g: Callable[[Array], Array], y: Array) -> Array:
        return y / g(jnp.ones_like(y))

    def value_of(place: Float[Array, ""]) -> Float[Array, ""]:
        return function(place)[0]

    found, crosses = jax.lax.custom_root(value_of, 0.5 * (low + high), solve, tangent_solve, has_aux=True)
    return found, crosses > 0


def _next(state: _Bracket, low: Float[Array, ""], end: Float[Array, ""]) -> Float[Array, ""]:
    """Return where to look next: outwards without a crossing, else between both ends."""
    a, b, of_a, of_b = state.a, state.b, state.of_a, state.of_b
    usable = jnp.isfinite(of_a) & jnp.isfinite(of_b) & (of_a != of_b)
    secant = (a * of_b - b * of_a) / jnp.where(usable, of_b - of_a, 1.0)
    between = jnp.where(usable, secant, 0.5 * (a + b))
    return jnp.where((of_a > 0) & (of_b > 0), jnp.minimum(2.0 * b - low, end), between)
