"""Fits as a physicist asks for them: parameters, status, variance, covariance."""

from collections.abc import Sequence
from enum import IntEnum

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pipeline.fit.implicit import minimum, profiled, solve_information
from pipeline.fit.newton import DEFAULTS, FitOptions, FitProblem, NewtonState, at_minimum
from pipeline.likelihood import AnyTemplates, DenseTemplates, HistFactory, inverse_free

MOST_NAMES = 8  # in a message


class FitStatus(IntEnum):
    """How a fit ended; only CONVERGED is a minimum."""

    CONVERGED = 0
    STEPS_EXHAUSTED = 1
    STALLED = 2  # no step improves, however much damped: a kink, or a likelihood without a minimum
    NOT_FINITE = 3  # neither the starting point has a finite likelihood, nor any that was tried
    FLAT = 4  # a minimum, but for directions that nothing determines


class FitResult(eqx.Module):
    """A fitted point and how far it can be trusted.

    ``twice_nll`` is ``-2 ln L`` in pyhf's convention. ``edm`` is ``g^T H^-1 g / 2`` over the free parameters:
    the ``-ln L`` still to gain, so a parameter is off by at most ``sqrt(2 edm)`` of its uncertainty.
    ``gradient_norm`` is that of ``-ln L`` over the free parameters. ``at_bounds`` marks parameters held by an
    active bound. ``flat`` marks parameters that nothing determines: on which nothing depends, which are held where they
    are, or, of a fit that is FLAT, which others can make up for. ``negative`` marks bins that expect less than no
    events there: what such a fit says of its other parameters has no meaning.
    """

    parameters: Float[Array, " params"]
    twice_nll: Float[Array, ""]
    converged: Bool[Array, ""]
    status: Int[Array, ""]
    gradient_norm: Float[Array, ""]
    edm: Float[Array, ""]
    steps: Int[Array, ""]
    at_bounds: Bool[Array, " params"]
    flat: Bool[Array, " params"]
    negative: Bool[Array, " bins"]

    def describe(self, parameter_names: Sequence[str]) -> str:
        """Return one sentence for an error message or a log (outside traced code)."""

        def those(marked: Bool[Array, " params"]) -> str:
            found = [name for name, is_one in zip(parameter_names, marked.tolist(), strict=True) if is_one]
            return ", ".join(found[:MOST_NAMES]) + (", ..." if len(found) > MOST_NAMES else "") or "none"

        below = np.flatnonzero(np.asarray(self.negative)).tolist()
        return (
            f"fit {FitStatus(int(self.status)).name} after {int(self.steps)} steps: EDM "
            f"{float(self.edm):.3g}, gradient norm {float(self.gradient_norm):.3g}, "
            f"at bounds: {those(self.at_bounds)}"
            + (f", undetermined: {those(self.flat)}" if bool(jnp.any(self.flat)) else "")
            + (f", fewer than no events expected in bins {below[:MOST_NAMES]}" if below else "")
        )


def fit(
    model: HistFactory,
    data: Float[Array, " data"],
    *,
    templates: AnyTemplates | None = None,
    init: Float[Array, " params"] | None = None,
    fixed: Bool[Array, " params"] | None = None,
    options: FitOptions = DEFAULTS,
) -> FitResult:
    """Return the parameters that minimise ``-ln L`` within the bounds.

    Projected Newton with the exact Hessian and Levenberg-Marquardt damping (Nocedal, Wright, Numerical
    Optimization, 2nd ed., sections 10.3 and 16.7): parameters at a bound that the gradient pushes against are
    held, the rest move by ``-(H + damping diag |H|)^-1 g``, clipped to the bounds. ``fixed`` (default: the
    model's fixed parameters for these templates) keep their values in ``init`` (default: the model's), which
    also is the way to fix a POI. Other starting values outside the bounds are moved onto them; where ``-ln L`` is
    infinite at the start, others are tried. Parameters without any effect stay where they are. The gammas of staterror
    and shapesys are eliminated: at every point they are where they fit best.

    Differentiable to any order in ``data``, ``templates`` and the values of fixed parameters, by the implicit
    function theorem; parameters at active bounds have derivative zero. The derivative of an unconverged fit
    is meaningless, so look at ``converged`` first. Under ``vmap`` every member takes the steps of the slowest; on a
    CPU ``jax.lax.map`` is faster for many fits.
    """
    problem = _problem(model, data, templates, init, fixed)
    parameters, nll, state = minimum(problem, options)
    return _result(problem, options, parameters, nll, state)


def profile(
    model: HistFactory,
    data: Float[Array, " data"],
    *,
    templates: AnyTemplates | None = None,
    init: Float[Array, " params"] | None = None,
    fixed: Bool[Array, " params"] | None = None,
    options: FitOptions = DEFAULTS,
) -> FitResult:
    """Return a ``fit`` of which only ``twice_nll`` carries derivatives, by the envelope theorem.

    For test statistics: half the program, and half the time to compile it. Differentiable to any order.
    """
    problem = _problem(model, data, templates, init, fixed)
    nll, state = profiled(problem, options)
    return _result(problem, options, jax.lax.stop_gradient(state.point.parameters), nll, state)


def fit_with_covariance(
    model: HistFactory,
    data: Float[Array, " data"],
    indices: Sequence[int],
    *,
    templates: AnyTemplates | None = None,
    init: Float[Array, " params"] | None = None,
    fixed: Bool[Array, " params"] | None = None,
    options: FitOptions = DEFAULTS,
) -> tuple[FitResult, Float[Array, "chosen chosen"]]:
    """Return a fit, and the covariance of some parameters: their block of the inverse Hessian of ``-ln L``.

    ``covariance(...)`` at the fitted point with parameters at active bounds held, but with one Hessian in the
    program instead of two and a cheap derivative. NaN where there is no minimum, and for a parameter without effect;
    0 for one that is fixed or at a bound.
    """
    problem = _problem(model, data, templates, init, fixed)
    parameters, nll, state = minimum(problem, options)
    point = jax.lax.stop_gradient(state.point)
    chosen = jnp.asarray(indices)
    units = jnp.eye(parameters.size, dtype=parameters.dtype)[chosen]
    rows = _solved(problem, parameters, state, units)
    unknown = point.inert[chosen] & ~problem.fixed[chosen]
    block = jnp.where(unknown[:, None] | unknown[None, :], jnp.nan, rows[:, chosen])
    return _result(problem, options, parameters, nll, state), block


def fit_with_solution(
    model: HistFactory,
    data: Float[Array, " data"],
    vector: Float[Array, " params"],
    *,
    templates: AnyTemplates | None = None,
    options: FitOptions = DEFAULTS,
) -> tuple[FitResult, Float[Array, " params"]]:
    """Return a fit, and ``H^-1 v`` there: the covariance of ``v . theta`` with each parameter.

    H is the Hessian of ``-ln L``, parameters at active bounds held, as in ``fit_with_covariance``; one linear solve.
    NaN where there is no minimum; 0 for a parameter that is fixed, at a bound or without effect.
    """
    problem = _problem(model, data, templates, None, None)
    parameters, nll, state = minimum(problem, options)
    (solution,) = _solved(problem, parameters, state, vector[None])
    return _result(problem, options, parameters, nll, state), solution


def _solved(
    problem: FitProblem,
    parameters: Float[Array, " params"],
    state: NewtonState,
    vectors: Float[Array, "chosen params"],
) -> Float[Array, "chosen params"]:
    """Return the inverse Hessian times each vector, differentiable."""
    hessian = jax.lax.stop_gradient(state.point).hessian
    return jax.vmap(lambda vector: solve_information(problem, parameters, hessian, vector))(vectors)


def _problem(
    model: HistFactory,
    data: Float[Array, " data"],
    templates: AnyTemplates | None,
    init: Float[Array, " params"] | None,
    fixed: Bool[Array, " params"] | None,
) -> FitProblem:
    """Return the problem with the model's defaults filled in."""
    dense = model.dense(templates)
    fixed = model.fixed_parameters(dense) if fixed is None else fixed
    return FitProblem(model, dense, data, model.initial if init is None else init, fixed)


def _result(
    problem: FitProblem,
    options: FitOptions,
    parameters: Float[Array, " params"],
    nll: Float[Array, ""],
    state: NewtonState,
) -> FitResult:
    """Return the result of the final state; only parameters and ``-2 ln L`` carry derivatives."""
    state = jax.lax.stop_gradient(state)
    point = state.point
    converged = at_minimum(state, options) & ~state.is_flat
    inert = point.inert & ~problem.fixed
    return FitResult(
        parameters=parameters,
        twice_nll=2.0 * nll,
        converged=converged,
        status=_status(state, options, converged),
        gradient_norm=jnp.linalg.norm(jnp.where(point.free, point.gradient, 0.0)),
        edm=state.edm,
        steps=jnp.maximum(state.steps - 1, 0),
        at_bounds=~point.free & ~problem.fixed & ~point.inert,
        flat=state.flat | inert,
        negative=point.rates < 0,
    )


def _status(state: NewtonState, options: FitOptions, converged: Bool[Array, ""]) -> Int[Array, ""]:
    """Return the ``FitStatus`` of a final state."""
    stalled = jnp.where(state.damping > options.last_damping, FitStatus.STALLED, FitStatus.STEPS_EXHAUSTED)
    failed = jnp.where(jnp.isfinite(state.point.nll), stalled, int(FitStatus.NOT_FINITE))
    failed = jnp.where(state.is_flat, int(FitStatus.FLAT), failed)
    return jnp.where(converged, int(FitStatus.CONVERGED), failed).astype(jnp.int32)


def fisher_information(
    model: HistFactory,
    parameters: Float[Array, " params"],
    data: Float[Array, " data"],
    templates: AnyTemplates | None = None,
) -> Float[Array, "params params"]:
    """Return observed Fisher information, the Hessian of ``-ln L``; at Asimov data it is the expected one."""
    dense = model.dense(templates)
    hessian = jax.hessian(lambda p: -model.logpdf(p, data, dense))
    information: Float[Array, "params params"] = hessian(parameters)
    return information


def expected_information(
    model: HistFactory,
    parameters: Float[Array, " params"],
    templates: AnyTemplates | None = None,
) -> Float[Array, "params params"]:
    """Return Fisher information that data are expected to hold if the parameters are true.

    ``I_ij = sum_k d_i m_k d_j m_k / v_k`` over bins and auxiliary measurements of mean m and variance v: the Hessian
    of ``-ln L`` on Asimov data without second derivatives, which cancel there. At the edge: a bin without
    expected events and a constraint term that is switched off hold none.
    """
    slopes, weight = expected_slopes(model, parameters, model.dense(templates))
    information: Float[Array, "params params"] = (slopes * weight[:, None]).T @ slopes
    return information


def expected_slopes(
    model: HistFactory, parameters: Float[Array, " params"], dense: DenseTemplates
) -> tuple[Float[Array, "data params"], Float[Array, " data"]]:
    """Return the slopes of the expected data, and one over the variance of each; 0 for what holds no information."""

    def mean(p: Float[Array, " params"]) -> tuple[Array, Array]:
        expected = model.expected_data(p, dense)
        return expected, expected

    slopes, expected = jax.jacfwd(mean, has_aux=True)(parameters)
    terms, bins = model.constraints, sum(model.bins)
    auxiliary = jnp.where(terms.is_poisson, expected[bins:], dense.width**2)
    variance = jnp.concatenate([expected[:bins], auxiliary])
    used = (variance > 0) & jnp.concatenate([jnp.ones(bins, dtype=bool), terms.is_on])
    return slopes, jnp.where(used, 1.0 / jnp.where(used, variance, 1.0), 0.0)


def covariance(
    model: HistFactory,
    parameters: Float[Array, " params"],
    data: Float[Array, " data"],
    templates: AnyTemplates | None = None,
    fixed: Bool[Array, " params"] | None = None,
) -> Float[Array, "params params"]:
    """Return the covariance of the fitted parameters, the inverse of ``fisher_information`` over those not fixed.

    Rows and columns of fixed parameters (default: the model's) are zero; add ``FitResult.at_bounds`` to hold
    those too. NaN where the information is not positive definite, that is, where there is no minimum.
    """
    dense = model.dense(templates)
    free = ~(model.fixed_parameters(dense) if fixed is None else fixed)
    return inverse_free(fisher_information(model, parameters, data, dense), free)
