"""Maximum-likelihood fits: bounded damped Newton, their derivative by the implicit function theorem.

A fit never fails in silence: its status, the estimated distance to the minimum and the parameters at their
bounds come back with it, and under ``vmap`` every member of the batch has its own.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Bool, Float, Int

from pipeline.likelihood import DenseTemplates, HistFactory, Templates


class FitStatus(IntEnum):
    """How a fit ended; only CONVERGED is a minimum."""

    CONVERGED = 0
    STEPS_EXHAUSTED = 1
    STALLED = 2  # no step improves, however much damped: a kink, or a likelihood without a minimum
    NOT_FINITE = 3  # the starting point has no finite likelihood


class FitResult(eqx.Module):
    """A fitted point and how far it can be trusted.

    ``twice_nll`` is ``-2 ln L`` in pyhf's convention. ``edm`` is ``g^T H^-1 g / 2`` over the free parameters:
    the ``-ln L`` still to gain, so a parameter is off by at most ``sqrt(2 edm)`` of its uncertainty.
    ``gradient_norm`` is that of ``-ln L`` over the free parameters. ``at_bounds`` marks parameters held by an
    active bound.
    """

    parameters: Float[Array, " params"]
    twice_nll: Float[Array, ""]
    converged: Bool[Array, ""]
    status: Int[Array, ""]
    gradient_norm: Float[Array, ""]
    edm: Float[Array, ""]
    steps: Int[Array, ""]
    at_bounds: Bool[Array, " params"]

    def describe(self, parameter_names: Sequence[str]) -> str:
        """One sentence for an error message or a log (outside traced code)."""
        held = [name for name, at in zip(parameter_names, self.at_bounds.tolist(), strict=True) if at]
        return (
            f"fit {FitStatus(int(self.status)).name} after {int(self.steps)} steps: EDM "
            f"{float(self.edm):.3g}, gradient norm {float(self.gradient_norm):.3g}, "
            f"at bounds: {', '.join(held) or 'none'}"
        )


class _Options(eqx.Module):
    """The tolerances of `fit`, hashable."""

    tolerance: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    first_damping: float = eqx.field(static=True)
    last_damping: float = eqx.field(static=True)
    rounding: float = eqx.field(static=True)


class _Point(eqx.Module):
    """``-ln L`` at a point, with its derivatives and the parameters that no bound holds."""

    parameters: Float[Array, " params"]
    nll: Float[Array, ""]
    gradient: Float[Array, " params"]
    hessian: Float[Array, "params params"]
    free: Bool[Array, " params"]


class _State(eqx.Module):
    """The loop's state: a point, the step to try from there, and the estimated distance to the minimum.

    The estimate needs the undamped Newton step; it is infinite while the step is damped.
    """

    point: _Point
    step: Float[Array, " params"]
    edm: Float[Array, ""]
    damping: Float[Array, ""]
    steps: Int[Array, ""]


class _Problem(eqx.Module):
    """What is minimised: everything a fitted point depends on."""

    model: HistFactory
    dense: DenseTemplates
    data: Float[Array, " data"]
    init: Float[Array, " params"]
    fixed: Bool[Array, " params"]

    def nll(self, parameters: Float[Array, " params"]) -> Float[Array, ""]:
        """``-ln L``."""
        return -self.model.logpdf(parameters, self.data, self.dense)


def solve_free(
    matrix: Float[Array, "params params"],
    vector: Float[Array, " params"],
    free: Bool[Array, " params"],
    damping: Float[Array, ""] | float = 0.0,
) -> Float[Array, " params"]:
    """Solve over the free parameters, zero for the others: ``(M + damping diag |M|) x = v``.

    By Cholesky of the matrix scaled to a unit diagonal, so parameters of very different uncertainty do not
    spoil its condition. NaN where the matrix is not positive definite: the caller's test for a minimum.
    """
    diagonal = jnp.abs(jnp.diagonal(matrix))
    scale = jnp.where(free & (diagonal > 0), 1.0 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1.0)), 1.0)
    both = free[:, None] & free[None, :]
    identity = jnp.eye(free.size, dtype=matrix.dtype)
    scaled = jnp.where(both, matrix * scale[:, None] * scale[None, :], identity) + damping * identity
    solution = cho_solve(cho_factor(scaled, lower=True), jnp.where(free, vector * scale, 0.0))
    return jnp.where(free, solution * scale, 0.0)


def active_bounds(
    parameters: Float[Array, " params"], gradient: Float[Array, " params"], bounds: Float[Array, "params 2"]
) -> Bool[Array, " params"]:
    """Parameters at a bound behind which ``-ln L`` is lower (KKT condition with a positive multiplier)."""
    low, high = bounds[:, 0], bounds[:, 1]
    return ((parameters <= low) & (gradient > 0)) | ((parameters >= high) & (gradient < 0))


def _evaluate(problem: _Problem, parameters: Float[Array, " params"]) -> _Point:
    """``-ln L`` and all that the next step needs."""

    def gradient_and_value(p: Float[Array, " params"]) -> tuple[Any, Any]:
        value, gradient = jax.value_and_grad(problem.nll)(p)
        return gradient, (value, gradient)

    hessian, (value, gradient) = jax.jacfwd(gradient_and_value, has_aux=True)(parameters)
    free = ~(problem.fixed | active_bounds(parameters, gradient, problem.model.bounds))
    return _Point(parameters, value, gradient, hessian, free)


def _at_minimum(state: _State, options: _Options) -> Bool[Array, ""]:
    """Converged: distance to the minimum below tolerance, or a Newton step too small to be represented."""
    epsilon = options.rounding * float(np.finfo(state.step.dtype).eps)
    unrepresentable = jnp.all(jnp.abs(state.step) <= epsilon * (1.0 + jnp.abs(state.point.parameters)))
    near = (jnp.abs(state.edm) <= options.tolerance) | (unrepresentable & jnp.isfinite(state.edm))
    return jnp.isfinite(state.point.nll) & near


def _advance(problem: _Problem, options: _Options, state: _State) -> _State:
    """One trial: a damped Newton step clipped to the bounds, taken if ``-ln L`` falls; then the next step."""
    here = state.point
    low, high = problem.model.bounds[:, 0], problem.model.bounds[:, 1]
    target = jnp.where(problem.fixed, here.parameters, jnp.clip(here.parameters + state.step, low, high))
    trial = _evaluate(problem, target)
    # below this the difference of two values of -ln L is rounding, and the Newton step is right without proof
    rounding = options.rounding * float(np.finfo(here.nll.dtype).eps) * (1.0 + jnp.abs(trial.nll))
    allowed = here.nll + jnp.where(state.edm <= rounding, rounding, 0.0)
    accept = jnp.isfinite(trial.nll) & (trial.nll <= allowed)
    lower = jnp.where(state.damping > options.first_damping, 0.1 * state.damping, 0.0)
    damping = jnp.where(accept, lower, jnp.maximum(10.0 * state.damping, options.first_damping))
    point = jax.tree.map(lambda new, old: jnp.where(accept, new, old), trial, here)
    step = -solve_free(point.hessian, point.gradient, point.free, damping)
    edm = jnp.where(damping > 0, jnp.inf, -0.5 * jnp.sum(jnp.where(point.free, point.gradient * step, 0.0)))
    return _State(point, step, edm, damping, state.steps + 1)


def _unevaluated(problem: _Problem) -> _Point:
    """The starting point, moved onto the bounds; any finite value at its first evaluation improves it."""
    bounds = problem.model.bounds
    start = jnp.where(problem.fixed, problem.init, jnp.clip(problem.init, bounds[:, 0], bounds[:, 1]))
    infinite = jnp.full((), jnp.inf, dtype=start.dtype)
    none = jnp.zeros_like(start)
    return _Point(start, infinite, none, jnp.eye(start.size, dtype=start.dtype), ~problem.fixed)


def _minimise(problem: _Problem, options: _Options) -> _State:
    """Iterate to the minimum, or until steps or damping are exhausted.

    The first pass evaluates the starting point, so the program holds the Hessian once.
    """

    def unfinished(state: _State) -> Bool[Array, ""]:
        within = (state.steps <= options.max_steps) & (state.damping <= options.last_damping)
        started = (state.steps == 0) | jnp.isfinite(state.point.nll)
        return within & started & ~_at_minimum(state, options)

    zero = jnp.zeros((), dtype=problem.init.dtype)
    start = _unevaluated(problem)
    state = _State(start, jnp.zeros_like(start.parameters), start.nll, zero, jnp.zeros((), dtype=jnp.int32))
    final: _State = jax.lax.while_loop(unfinished, lambda s: _advance(problem, options, s), state)
    return final


def _solve_information(
    problem: _Problem,
    parameters: Float[Array, " params"],
    information: Float[Array, "params params"],
    vector: Float[Array, " params"],
    free: Bool[Array, " params"],
) -> Float[Array, " params"]:
    """``H^-1 v`` over the free parameters, differentiable to any order in the problem and the parameters.

    ``information`` is H as a constant, used to solve; its derivative is that of the product ``H v``, one
    directional derivative instead of a second Hessian in the program.
    """

    def product(v: Float[Array, " params"]) -> Float[Array, " params"]:
        inside = jnp.where(free, v, 0.0)
        _, along = jax.jvp(jax.grad(problem.nll), (parameters,), (inside,))
        return jnp.where(free, along, v)

    def solve(_: Any, v: Float[Array, " params"]) -> Float[Array, " params"]:
        return solve_free(information, v, free)

    masked = jnp.where(free, vector, 0.0)
    solution: Float[Array, " params"] = jax.lax.custom_linear_solve(product, masked, solve, symmetric=True)
    return solution


@eqx.filter_custom_jvp
def _minimum(problem: _Problem, options: _Options) -> tuple[Float[Array, " params"], _State]:
    """The fitted parameters (differentiable) and the final state (a constant)."""
    state = _minimise(problem, options)
    return state.point.parameters, state


def _zero_tangents(tree: Any) -> Any:
    """Tangents of constants: zeros for real numbers, none for integers and flags."""
    return jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else None, tree)


@_minimum.def_jvp  # type: ignore[untyped-decorator]  # equinox leaves it untyped
def _minimum_jvp(primals: Any, tangents: Any) -> Any:
    """Implicit function theorem at ``g(theta, x) = 0`` over the free parameters f, the others c held.

    ``d theta_f = -H_ff^-1 (dg_f/dx dx + H_fc d theta_c)``; ``d theta_c`` is the tangent of the starting value
    for fixed parameters and 0 at an active bound (Krantz, Parks, The Implicit Function Theorem, theorem
    3.3.1).
    """
    (problem, options), (moved, _) = primals, tangents
    parameters, state = _minimum(problem, options)
    arrays, rest = eqx.partition(problem, eqx.is_inexact_array)
    tangent = eqx.combine(moved, _zero_tangents(problem))
    held = jnp.where(problem.fixed, tangent.init, 0.0)

    def gradient(p: Float[Array, " params"], a: Any) -> Float[Array, " params"]:
        slope: Float[Array, " params"] = jax.grad(eqx.combine(a, rest).nll)(p)
        return slope

    _, change = jax.jvp(gradient, (parameters, arrays), (held, tangent))
    point = state.point
    followed = held - _solve_information(problem, parameters, point.hessian, change, point.free)
    return (parameters, state), (followed, _zero_tangents(state))


def fit(
    model: HistFactory,
    data: Float[Array, " data"],
    *,
    templates: Templates | DenseTemplates | None = None,
    init: Float[Array, " params"] | None = None,
    fixed: Bool[Array, " params"] | None = None,
    tolerance: float = 1e-16,
    max_steps: int = 100,
    first_damping: float = 1e-3,
    last_damping: float = 1e12,
    rounding: float = 8.0,
) -> FitResult:
    """The parameters that minimise ``-ln L`` within the bounds.

    Projected Newton with the exact Hessian and Levenberg-Marquardt damping (Nocedal, Wright, Numerical
    Optimization, 2nd ed., sections 10.3 and 16.7): parameters at a bound that the gradient pushes against are
    held, the rest move by ``-(H + damping diag |H|)^-1 g``, clipped to the bounds. ``fixed`` (default: the
    model's fixed parameters for these templates) keep their values in ``init`` (default: the model's), which
    also is the way to fix a POI. Other starting values outside the bounds are moved onto them.

    Differentiable to any order in ``data``, ``templates`` and the values of fixed parameters, by the implicit
    function theorem; parameters at active bounds have derivative zero. The derivative of an unconverged fit
    is meaningless, so look at ``converged`` first.

    ``tolerance`` is on the EDM (in ``-ln L``): 1e-16 puts every parameter within 1.5e-8 of its uncertainty,
    so that finite differences of a fit are good to 1e-6; by Cauchy-Schwarz it also bounds the projected
    gradient, ``|g_i| <= sqrt(2 edm H_ii)``. ``max_steps``: Newton takes 3 to 10. ``first_damping`` is the
    weakest damping tried when an undamped step does not improve; beyond ``last_damping`` a step is shorter
    than rounding and the fit has STALLED. ``rounding`` is the error of ``-ln L`` and of a parameter in units
    of the float's epsilon.
    """
    options = _Options(tolerance, max_steps, first_damping, last_damping, rounding)
    problem = _problem(model, data, templates, init, fixed)
    parameters, state = _minimum(problem, options)
    return _result(problem, options, parameters, state)


def fit_with_variance(
    model: HistFactory,
    data: Float[Array, " data"],
    index: int,
    *,
    templates: Templates | DenseTemplates | None = None,
    init: Float[Array, " params"] | None = None,
    fixed: Bool[Array, " params"] | None = None,
    tolerance: float = 1e-16,
    max_steps: int = 100,
    first_damping: float = 1e-3,
    last_damping: float = 1e12,
    rounding: float = 8.0,
) -> tuple[FitResult, Float[Array, ""]]:
    """A fit, and the variance of one parameter: its diagonal element of the inverse Hessian of ``-ln L``.

    ``covariance(...)[index, index]`` at the fitted point with parameters at active bounds held, but with one
    Hessian in the program instead of two and a cheap derivative. NaN where there is no minimum, 0 for a
    parameter that is fixed or at a bound. Keywords as in `fit`.
    """
    options = _Options(tolerance, max_steps, first_damping, last_damping, rounding)
    problem = _problem(model, data, templates, init, fixed)
    parameters, state = _minimum(problem, options)
    point = jax.lax.stop_gradient(state.point)
    unit = jnp.zeros_like(parameters).at[index].set(1.0)
    column = _solve_information(problem, parameters, point.hessian, unit, point.free)
    return _result(problem, options, parameters, state), column[index]


def _problem(
    model: HistFactory,
    data: Float[Array, " data"],
    templates: Templates | DenseTemplates | None,
    init: Float[Array, " params"] | None,
    fixed: Bool[Array, " params"] | None,
) -> _Problem:
    """The problem with the model's defaults filled in."""
    dense = model.dense(templates)
    fixed = model.fixed_parameters(dense) if fixed is None else fixed
    return _Problem(model, dense, data, model.initial if init is None else init, fixed)


def _result(
    problem: _Problem, options: _Options, parameters: Float[Array, " params"], state: _State
) -> FitResult:
    """What the caller sees of the final state; only parameters and ``-2 ln L`` carry derivatives."""
    state = jax.lax.stop_gradient(state)
    point = state.point
    converged = _at_minimum(state, options)
    return FitResult(
        parameters=parameters,
        twice_nll=2.0 * problem.nll(parameters),
        converged=converged,
        status=_status(state, options, converged),
        gradient_norm=jnp.linalg.norm(jnp.where(point.free, point.gradient, 0.0)),
        edm=state.edm,
        steps=jnp.maximum(state.steps - 1, 0),
        at_bounds=~point.free & ~problem.fixed,
    )


def _status(state: _State, options: _Options, converged: Bool[Array, ""]) -> Int[Array, ""]:
    """The `FitStatus` of a final state."""
    stalled = jnp.where(state.damping > options.last_damping, FitStatus.STALLED, FitStatus.STEPS_EXHAUSTED)
    failed = jnp.where(jnp.isfinite(state.point.nll), stalled, int(FitStatus.NOT_FINITE))
    return jnp.where(converged, int(FitStatus.CONVERGED), failed).astype(jnp.int32)


def fisher_information(
    model: HistFactory,
    parameters: Float[Array, " params"],
    data: Float[Array, " data"],
    templates: Templates | DenseTemplates | None = None,
) -> Float[Array, "params params"]:
    """Observed Fisher information, the Hessian of ``-ln L``; at Asimov data it is the expected one."""
    dense = model.dense(templates)
    hessian = jax.hessian(lambda p: -model.logpdf(p, data, dense))
    information: Float[Array, "params params"] = hessian(parameters)
    return information


def covariance(
    model: HistFactory,
    parameters: Float[Array, " params"],
    data: Float[Array, " data"],
    templates: Templates | DenseTemplates | None = None,
    fixed: Bool[Array, " params"] | None = None,
) -> Float[Array, "params params"]:
    """Covariance of the fitted parameters, the inverse of `fisher_information` over those not fixed.

    Rows and columns of fixed parameters (default: the model's) are zero; add ``FitResult.at_bounds`` to hold
    those too. NaN where the information is not positive definite, that is, where there is no minimum.
    """
    dense = model.dense(templates)
    free = ~(model.fixed_parameters(dense) if fixed is None else fixed)
    information = fisher_information(model, parameters, data, dense)
    identity = jnp.eye(free.size, dtype=information.dtype)
    return jax.vmap(lambda column: solve_free(information, column, free))(identity)
