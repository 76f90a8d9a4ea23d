"""Bounded damped Newton with the exact Hessian, as a `lax.while_loop`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Bool, Float, Int

from pipeline.likelihood import DenseTemplates, HistFactory, derivatives


class FitOptions(eqx.Module):
    """The tolerances of a fit, hashable.

    ``tolerance`` is on the EDM (in ``-ln L``): 1e-20 puts every parameter within 1.5e-10 of its
    uncertainty, so that finite differences of a fit are good to 1e-6; by Cauchy-Schwarz it also bounds the
    projected gradient, ``|g_i| <= sqrt(2 edm H_ii)``. ``max_steps``: Newton takes 3 to 10, a hundred and
    more along the curved valley of a POI held many sigma off. ``first_damping`` is the weakest damping
    tried when an undamped step does not improve; beyond ``last_damping`` a step is shorter than rounding
    and the fit has STALLED; damping changes by ``factor`` at every trial, and a Newton step below rounding
    that shrinks the EDM by less than it has settled. ``rounding`` is the error of the terms in ``-ln L``
    and of a parameter in units of the float's epsilon.
    """

    tolerance: float = eqx.field(static=True, default=1e-20)
    max_steps: int = eqx.field(static=True, default=1000)
    first_damping: float = eqx.field(static=True, default=1e-3)
    last_damping: float = eqx.field(static=True, default=1e12)
    factor: float = eqx.field(static=True, default=10.0)
    rounding: float = eqx.field(static=True, default=64.0)


DEFAULTS = FitOptions()


class NewtonPoint(eqx.Module):
    """``-ln L`` at a point, with its derivatives and the parameters that no bound holds."""

    parameters: Float[Array, " params"]
    nll: Float[Array, ""]
    gradient: Float[Array, " params"]
    hessian: Float[Array, "params params"]
    scoring: Float[Array, "params params"]
    free: Bool[Array, " params"]


class NewtonState(eqx.Module):
    """The loop's state: a point, the step to try from there, and the improvement it promises.

    For the undamped Newton step the promise is the estimated distance to the minimum, else that is infinite.
    ``settled``: what is left to gain is below the rounding of ``-ln L``, and the last step no longer made it
    smaller.
    """

    point: NewtonPoint
    step: Float[Array, " params"]
    predicted: Float[Array, ""]
    damping: Float[Array, ""]
    settled: Bool[Array, ""]
    steps: Int[Array, ""]

    @property
    def edm(self) -> Float[Array, ""]:
        """Estimated distance to the minimum."""
        return jnp.where(self.damping > 0, jnp.inf, self.predicted)


class FitProblem(eqx.Module):
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
    scaled, scale = _scaled(matrix, free, damping)
    return scale * cho_solve(cho_factor(scaled, lower=True), scale * vector)


def inverse_free(
    matrix: Float[Array, "params params"], free: Bool[Array, " params"]
) -> Float[Array, "params params"]:
    """Inverse over the free parameters, zero for the others; NaN where it is not positive definite."""
    scaled, scale = _scaled(matrix, free, 0.0)
    return cho_solve(cho_factor(scaled, lower=True), jnp.diag(scale)) * scale[:, None]


def _scaled(
    matrix: Float[Array, "params params"], free: Bool[Array, " params"], damping: Float[Array, ""] | float
) -> tuple[Float[Array, "params params"], Float[Array, " params"]]:
    """The matrix with a unit diagonal, and 1 there for parameters that are not free; the scale is 0 for those."""
    diagonal = jnp.abs(jnp.diagonal(matrix))
    usable = diagonal > 0
    scale = jnp.where(usable, 1.0 / jnp.sqrt(jnp.where(usable, diagonal, 1.0)), 1.0)
    both = free[:, None] & free[None, :]
    identity = jnp.eye(free.size, dtype=matrix.dtype)
    scaled = jnp.where(both, matrix * scale[:, None] * scale[None, :], identity) + damping * identity
    return scaled, jnp.where(free, scale, 0.0)


def active_bounds(
    parameters: Float[Array, " params"], gradient: Float[Array, " params"], bounds: Float[Array, "params 2"]
) -> Bool[Array, " params"]:
    """Parameters at a bound behind which ``-ln L`` is lower (KKT condition with a positive multiplier)."""
    low, high = bounds[:, 0], bounds[:, 1]
    return ((parameters <= low) & (gradient > 0)) | ((parameters >= high) & (gradient < 0))


def _evaluate(problem: FitProblem, parameters: Float[Array, " params"]) -> NewtonPoint:
    """``-ln L`` and all that the next step needs."""
    found = derivatives(problem.model, parameters, problem.data, problem.dense)
    free = ~(problem.fixed | active_bounds(parameters, found.gradient, problem.model.bounds))
    return NewtonPoint(parameters, found.nll, found.gradient, found.hessian, found.scoring, free)


def at_minimum(state: NewtonState, options: FitOptions) -> Bool[Array, ""]:
    """Converged: distance to the minimum below tolerance, or down to what rounding leaves.

    The latter is a Newton step too small to be represented, or one that ``settled``: with 1e9 events, or a
    constraint of relative width 1e-9, rounding alone leaves an EDM above the tolerance.
    """
    epsilon = options.rounding * float(np.finfo(state.step.dtype).eps)
    unrepresentable = jnp.all(jnp.abs(state.step) <= epsilon * (1.0 + jnp.abs(state.point.parameters)))
    near = (
        (jnp.abs(state.edm) <= options.tolerance)
        | (unrepresentable & jnp.isfinite(state.edm))
        | state.settled
    )
    return jnp.isfinite(state.point.nll) & near


def _advance(problem: FitProblem, options: FitOptions, state: NewtonState) -> NewtonState:
    """One trial: a damped Newton step clipped to the bounds, taken if ``-ln L`` falls; then the next step."""
    here = state.point
    low, high = problem.model.bounds[:, 0], problem.model.bounds[:, 1]
    target = jnp.where(problem.fixed, here.parameters, jnp.clip(here.parameters + state.step, low, high))
    trial = _evaluate(problem, target)
    # below this the difference of two values of -ln L is rounding, and the Newton step is right without proof
    known = jnp.where(jnp.isfinite(here.nll), here.nll, trial.nll)
    bins = sum(problem.model.bins)
    size = 1.0 + jnp.abs(known) + jnp.sum(jnp.abs(problem.data[:bins]))  # of the terms that add up to -ln L
    rounding = options.rounding * float(np.finfo(here.nll.dtype).eps) * size
    allowed = here.nll + jnp.where(state.predicted <= rounding, rounding, 0.0)
    accept = jnp.isfinite(trial.nll) & (trial.nll <= allowed)
    lower = jnp.where(state.damping > options.first_damping, state.damping / options.factor, 0.0)
    damping = jnp.where(accept, lower, jnp.maximum(options.factor * state.damping, options.first_damping))
    point = jax.tree.map(lambda new, old: jnp.where(accept, new, old), trial, here)
    step, definite = _step(point, damping)
    damping = jnp.where(definite, damping, jnp.maximum(damping, options.first_damping))
    predicted = -0.5 * jnp.sum(jnp.where(point.free, point.gradient * step, 0.0))
    below = accept & (damping == 0) & (state.edm <= rounding) & (predicted <= rounding)
    settled = below & (predicted * options.factor > state.edm)
    return NewtonState(point, step, predicted, damping, settled, state.steps + 1)


def _step(point: NewtonPoint, damping: Float[Array, ""]) -> tuple[Float[Array, " params"], Bool[Array, ""]]:
    """The damped Newton step; where the Hessian is not positive definite, that of Fisher scoring."""
    newton = -solve_free(point.hessian, point.gradient, point.free, damping)
    definite = jnp.all(jnp.isfinite(newton))
    scoring = jax.lax.cond(
        definite, lambda: newton, lambda: -solve_free(point.scoring, point.gradient, point.free, damping)
    )
    return scoring, definite


def _unevaluated(problem: FitProblem) -> NewtonPoint:
    """The starting point, moved onto the bounds; any finite value at its first evaluation improves it."""
    bounds = problem.model.bounds
    start = jnp.where(problem.fixed, problem.init, jnp.clip(problem.init, bounds[:, 0], bounds[:, 1]))
    infinite = jnp.full((), jnp.inf, dtype=start.dtype)
    none = jnp.zeros_like(start)
    identity = jnp.eye(start.size, dtype=start.dtype)
    return NewtonPoint(start, infinite, none, identity, identity, ~problem.fixed)


def descend(problem: FitProblem, options: FitOptions) -> NewtonState:
    """Iterate to the minimum below the starting point, or until steps or damping are exhausted.

    The first pass evaluates the starting point, so the program holds the Hessian once.
    """

    def unfinished(state: NewtonState) -> Bool[Array, ""]:
        within = (state.steps <= options.max_steps) & (state.damping <= options.last_damping)
        started = (state.steps == 0) | jnp.isfinite(state.point.nll)
        return within & started & ~at_minimum(state, options)

    zero = jnp.zeros((), dtype=problem.init.dtype)
    no_steps = jnp.zeros((), dtype=jnp.int32)
    start = _unevaluated(problem)
    state = NewtonState(
        start, jnp.zeros_like(start.parameters), start.nll, zero, jnp.zeros((), dtype=bool), no_steps
    )
    final: NewtonState = jax.lax.while_loop(unfinished, lambda s: _advance(problem, options, s), state)
    return final
