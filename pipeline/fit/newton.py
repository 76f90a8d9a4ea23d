"""Bounded damped Newton with the exact Hessian, as a ``lax.while_loop``; gammas are where they fit best everywhere."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pipeline.fit.curvature import lowest_curvature
from pipeline.fit.starting import TRIED, elsewhere
from pipeline.likelihood import Bordered, DenseTemplates, HistFactory, cells_at, hessian_of, slopes_of
from pipeline.likelihood.cells import YieldParts


class FitOptions(eqx.Module):
    """The tolerances of a fit, hashable.

    ``tolerance`` is on the EDM (in ``-ln L``): 1e-20 puts every parameter within 1.5e-10 of its
    uncertainty, so that finite differences of a fit are good to 1e-6; by Cauchy-Schwarz it also bounds the
    projected gradient, ``|g_i| <= sqrt(2 edm H_ii)``. ``max_steps``: Newton takes 3 to 10, a hundred and
    more along the curved valley of a POI held many sigma off. ``first_damping`` is the weakest damping
    tried when an undamped step does not improve; beyond ``last_damping`` a step is shorter than rounding
    and the fit has STALLED; damping changes by ``factor`` at every trial, and a Newton step below rounding
    that shrinks the EDM by less than it has settled. ``rounding`` is the error of the terms in ``-ln L``
    and of a parameter in units of the float's epsilon. A direction with less than ``flat`` of its parameters'
    information is flat: a number of that size is rounding. Where the Hessian is not positive definite and less than
    ``saddle`` is to be gained in ``-ln L``, the way on is along negative curvature.
    """

    tolerance: float = eqx.field(static=True, default=1e-20)
    max_steps: int = eqx.field(static=True, default=300)
    first_damping: float = eqx.field(static=True, default=1e-3)
    last_damping: float = eqx.field(static=True, default=1e12)
    factor: float = eqx.field(static=True, default=10.0)
    rounding: float = eqx.field(static=True, default=64.0)
    flat: float = eqx.field(static=True, default=1e-13)
    saddle: float = eqx.field(static=True, default=1e-3)


DEFAULTS = FitOptions()


class NewtonPoint(eqx.Module):
    """``-ln L`` at a point, with its derivatives over the parameters that no bound holds."""

    parameters: Float[Array, " params"]
    nll: Float[Array, ""]
    gradient: Float[Array, " params"]
    parts: YieldParts
    hessian: Bordered
    inert: Bool[Array, " params"]

    @property
    def rates(self) -> Float[Array, " bins"]:
        """Expected yields."""
        return self.parts.rates

    @property
    def free(self) -> Bool[Array, " params"]:
        """Parameters that are neither fixed, nor at a bound behind which it is lower, nor without effect."""
        return self.hessian.free


class NewtonState(eqx.Module):
    """The loop's state: a point, the step to try from there, and the improvement it promises.

    For the undamped Newton step the promise is the estimated distance to the minimum, else that is infinite.
    ``settled``: what is left to gain is below the rounding of ``-ln L``, and the last step no longer made it
    smaller. ``flat`` marks the parameters of directions without slope or curvature, at a minimum but for these.
    """

    point: NewtonPoint
    step: Float[Array, " params"]
    predicted: Float[Array, ""]
    damping: Float[Array, ""]
    settled: Bool[Array, ""]
    flat: Bool[Array, " params"]
    steps: Int[Array, ""]

    @property
    def edm(self) -> Float[Array, ""]:
        """Estimated distance to the minimum."""
        return jnp.where(self.damping > 0, jnp.inf, self.predicted)

    @property
    def is_flat(self) -> Bool[Array, ""]:
        """A minimum, but along a direction that nothing determines."""
        return jnp.any(self.flat)


class FitProblem(eqx.Module):
    """What is minimised: everything a fitted point depends on."""

    model: HistFactory
    dense: DenseTemplates
    data: Float[Array, " data"]
    init: Float[Array, " params"]
    fixed: Bool[Array, " params"]

    def nll(self, parameters: Float[Array, " params"]) -> Float[Array, ""]:
        """Return ``-ln L``."""
        return -self.model.logpdf(parameters, self.data, self.dense)

    def inside(self, parameters: Float[Array, " params"]) -> Float[Array, " params"]:
        """Return the point moved onto the bounds, fixed parameters where the fit begins."""
        bounds = self.model.bounds
        return jnp.where(self.fixed, self.init, jnp.clip(parameters, bounds[:, 0], bounds[:, 1]))


def active_bounds(
    parameters: Float[Array, " params"], gradient: Float[Array, " params"], bounds: Float[Array, "params 2"]
) -> Bool[Array, " params"]:
    """Return parameters at a bound behind which ``-ln L`` is lower (KKT condition with a positive multiplier)."""
    low, high = bounds[:, 0], bounds[:, 1]
    return ((parameters <= low) & (gradient > 0)) | ((parameters >= high) & (gradient < 0))


def _rounding(problem: FitProblem, options: FitOptions, nll: Float[Array, ""]) -> Float[Array, ""]:
    """Return the error of ``-ln L``: that of the terms that add up to it."""
    bins = sum(problem.model.bins)
    size = 1.0 + jnp.abs(nll) + jnp.sum(jnp.abs(problem.data[:bins]))
    return options.rounding * float(np.finfo(nll.dtype).eps) * size


def at_minimum(state: NewtonState, options: FitOptions) -> Bool[Array, ""]:
    """Return converged: distance to the minimum below tolerance, or down to what rounding leaves.

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
    """Return one trial: a step clipped to the bounds, taken if ``-ln L`` falls; then the next step.

    As long as there is no finite value, the trial is another starting point.
    """
    here, model = state.point, problem.model
    lost = (state.steps > 0) & ~jnp.isfinite(here.nll)
    other = elsewhere(model, here.parameters, state.steps)
    target = problem.inside(jnp.where(lost, other, here.parameters + state.step))
    target, cells = cells_at(model, target, problem.data, problem.dense, problem.fixed)
    # below this the difference of two values of -ln L is rounding, and the Newton step is right without proof
    rounding = _rounding(problem, options, jnp.where(jnp.isfinite(here.nll), here.nll, cells.nll))
    allowed = here.nll + jnp.where(state.predicted <= rounding, rounding, 0.0)
    accept = jnp.isfinite(cells.nll) & (cells.nll <= allowed)

    point = jax.lax.cond(accept, lambda: _derived(problem, target, cells), lambda: here)
    lower = jnp.where(state.damping > options.first_damping, state.damping / options.factor, 0.0)
    damping = jnp.where(accept, lower, jnp.maximum(options.factor * state.damping, options.first_damping))
    damping = jnp.where(jnp.isfinite(point.nll), damping, 0.0)
    step, predicted, damping, flat = _step(point, damping, rounding, options)
    below = accept & (damping == 0) & (state.edm <= rounding) & (predicted <= rounding)
    settled = below & (predicted * options.factor > state.edm)
    return NewtonState(point, step, predicted, damping, settled, flat, state.steps + 1)


def _derived(problem: FitProblem, at: Float[Array, " params"], cells: YieldParts) -> NewtonPoint:
    """Return the point with its derivatives."""
    slopes = slopes_of(problem.model, at, cells, problem.data, problem.dense)
    held = problem.fixed | slopes.inert | active_bounds(at, slopes.gradient, problem.model.bounds)
    hessian = hessian_of(problem.model, cells, slopes, problem.dense, ~held)
    return NewtonPoint(at, cells.nll, slopes.gradient, cells, hessian, slopes.inert)


_Step = tuple[Float[Array, " params"], Float[Array, ""], Float[Array, ""], Bool[Array, " params"]]


def _step(
    point: NewtonPoint, damping: Float[Array, ""], rounding: Float[Array, ""], options: FitOptions
) -> _Step:
    """Return the next step, what it promises, its damping, and the parameters of a flat direction.

    There are such parameters only if it came to a flat direction.

    It is the damped Newton step; where the Hessian is not positive definite, that of Fisher scoring, and
    where that leads nowhere, one along the most negative curvature: a saddle is no minimum.
    """
    factor = point.hessian.factor(damping)
    nowhere = jnp.zeros_like(point.free)

    def newton() -> _Step:
        step = -point.hessian.solve(point.gradient, factor)
        return step, _promise(point, step), damping, nowhere

    def other() -> _Step:
        stronger = jnp.maximum(damping, options.first_damping)
        step = -point.hessian.scored(point.gradient, stronger)
        promise = _promise(point, step)
        leads_on = (promise > options.saddle) | ~jnp.isfinite(point.nll)
        onwards: _Step = jax.lax.cond(
            leads_on,
            lambda: (step, promise, stronger, nowhere),
            lambda: _beyond_saddle(point, step, promise, stronger, rounding, options),
        )
        return onwards

    found: _Step = jax.lax.cond(factor.least > options.flat, newton, other)
    return found


def _promise(point: NewtonPoint, step: Float[Array, " params"]) -> Float[Array, ""]:
    return -0.5 * jnp.sum(jnp.where(point.free, point.gradient * step, 0.0))


def _beyond_saddle(
    point: NewtonPoint,
    step: Float[Array, " params"],
    promise: Float[Array, ""],
    damping: Float[Array, ""],
    rounding: Float[Array, ""],
    options: FitOptions,
) -> _Step:
    """Return a step along negative curvature, one standard deviation long, shorter after each that did not improve.

    Where there is none, as along a flat direction, it is that of Fisher scoring, until this promises nothing more.
    """
    direction, curvature = lowest_curvature(point.hessian, options.flat)
    length = jnp.sqrt(options.first_damping / damping)
    downhill = jnp.where(jnp.sum(direction * point.gradient) > 0, -length, length)
    negative = curvature < -jnp.sqrt(options.flat)
    share = jnp.abs(direction) > jnp.sqrt(options.flat) * jnp.max(jnp.abs(direction))
    flat = share & ~negative & (promise <= rounding)
    return (
        jnp.where(negative, downhill * direction, step),
        jnp.where(negative, 0.5 * length**2 * jnp.abs(curvature), promise),
        damping,
        flat,
    )


def _unevaluated(problem: FitProblem) -> NewtonPoint:
    """Return the starting point, moved onto the bounds; any finite value at its first evaluation improves it."""
    start = problem.inside(problem.init)

    def evaluated() -> NewtonPoint:
        return _derived(problem, *cells_at(problem.model, start, problem.data, problem.dense, problem.fixed))

    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(evaluated))
    infinite = jnp.full((), jnp.inf, dtype=start.dtype)
    found: NewtonPoint = eqx.tree_at(lambda p: (p.parameters, p.nll), empty, (start, infinite))
    return found


def descend(problem: FitProblem, options: FitOptions) -> NewtonState:
    """Iterate to the minimum below the starting point, or until steps or damping are exhausted.

    The first pass evaluates the starting point, so the program holds the Hessian once.
    """

    def unfinished(state: NewtonState) -> Bool[Array, ""]:
        within = (state.steps <= options.max_steps) & (state.damping <= options.last_damping)
        started = (state.steps <= TRIED) | jnp.isfinite(state.point.nll)
        return within & started & ~at_minimum(state, options) & ~state.is_flat

    start = _unevaluated(problem)
    none, nowhere = jnp.zeros_like(start.parameters), jnp.zeros_like(problem.fixed)
    zero, no_steps = jnp.zeros((), dtype=problem.init.dtype), jnp.zeros((), dtype=jnp.int32)
    settled = jnp.zeros((), dtype=bool)
    state = NewtonState(start, none, start.nll, zero, settled, nowhere, no_steps)
    final: NewtonState = jax.lax.while_loop(unfinished, lambda s: _advance(problem, options, s), state)
    return final
