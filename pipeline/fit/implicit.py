"""The derivative of a minimum, by the implicit function theorem, to any order."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.fit.global_search import minimise
from pipeline.fit.newton import FitOptions, FitProblem, NewtonState
from pipeline.likelihood import Bordered


def solve_information(
    problem: FitProblem,
    parameters: Float[Array, " params"],
    information: Bordered,
    vector: Float[Array, " params"],
) -> Float[Array, " params"]:
    """Return ``H^-1 v`` over the free parameters, differentiable to any order in the problem and the parameters.

    ``information`` is H as a constant, used to solve; its derivative is that of the product ``H v``, one
    directional derivative instead of a second Hessian in the program.
    """
    free = information.free
    factor = information.factor()

    def product(v: Float[Array, " params"]) -> Float[Array, " params"]:
        inside = jnp.where(free, v, 0.0)
        _, along = jax.jvp(jax.grad(problem.nll), (parameters,), (inside,))
        return jnp.where(free, along, v)

    def solve(_: Any, v: Float[Array, " params"]) -> Float[Array, " params"]:
        return information.solve(v, factor)

    masked = jnp.where(free, vector, 0.0)
    solution: Float[Array, " params"] = jax.lax.custom_linear_solve(product, masked, solve, symmetric=True)
    return solution


@eqx.filter_custom_jvp
def minimum(
    problem: FitProblem, options: FitOptions
) -> tuple[Float[Array, " params"], Float[Array, ""], NewtonState]:
    """Return the fitted parameters and ``-ln L`` there (both differentiable) and the final state (a constant)."""
    state = minimise(problem, options)
    return state.point.parameters, state.point.nll, state


@minimum.def_jvp  # type: ignore[untyped-decorator]  # equinox leaves it untyped
def _minimum_jvp(primals: Any, tangents: Any) -> Any:
    """Return implicit function theorem at ``g(theta, x) = 0`` over the free parameters f, the others c held.

    ``d theta_f = -H_ff^-1 (dg_f/dx dx + H_fc d theta_c)``; ``d theta_c`` is the tangent of the starting value
    for fixed parameters and 0 at an active bound (Krantz, Parks, The Implicit Function Theorem, theorem
    3.3.1).
    """
    (problem, options), (moved, _) = primals, tangents
    parameters, nll, state = minimum(problem, options)
    value, direction, held = _explicit(problem, moved)
    at = (parameters, eqx.filter(problem, eqx.is_inexact_array))
    _, change = jax.jvp(jax.grad(value), at, direction)
    followed = held - solve_information(problem, parameters, state.point.hessian, change)
    _, gained = jax.jvp(value, at, direction)
    return (parameters, nll, state), (followed, gained, _zero_tangents(state))


@eqx.filter_custom_jvp
def profiled(problem: FitProblem, options: FitOptions) -> tuple[Float[Array, ""], NewtonState]:
    """Return ``-ln L`` at the minimum (differentiable) and the final state (a constant)."""
    state = minimise(problem, options)
    return state.point.nll, state


@profiled.def_jvp  # type: ignore[untyped-decorator]  # equinox leaves it untyped
def _profiled_jvp(primals: Any, tangents: Any) -> Any:
    """Return envelope theorem: ``d min f(theta, x) = df/dx dx + df/d theta_c d theta_c``, nothing from d theta_f.

    At the parameters of ``minimum``, whose own derivative makes the second order right.
    """
    (problem, options), (moved, _) = primals, tangents
    parameters, nll, state = minimum(problem, options)
    value, direction, _ = _explicit(problem, moved)
    _, gained = jax.jvp(value, (parameters, eqx.filter(problem, eqx.is_inexact_array)), direction)
    return (nll, state), (gained, _zero_tangents(state))


def _explicit(problem: FitProblem, moved: Any) -> tuple[Callable[..., Array], Any, Float[Array, " params"]]:
    """Return ``-ln L`` as a function of parameters and the problem's numbers, and the direction in which both move.

    Only held parameters move, with their starting values.
    """
    rest = eqx.filter(problem, eqx.is_inexact_array, inverse=True)
    tangent = eqx.combine(moved, _zero_tangents(problem))
    held = jnp.where(problem.fixed, tangent.init, 0.0)

    def value(parameters: Float[Array, " params"], numbers: Any) -> Float[Array, ""]:
        nll: Float[Array, ""] = eqx.combine(numbers, rest).nll(parameters)
        return nll

    return value, (held, tangent), held


def _zero_tangents(tree: Any) -> Any:
    """Return tangents of constants: zeros for real numbers, none for integers and flags."""
    return jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else None, tree)
