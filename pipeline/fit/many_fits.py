"""Free and conditional fits of many data sets of one model, each started where a linear response expects its end."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pipeline.fit.fits import expected_slopes
from pipeline.fit.hypotest import poi_of
from pipeline.fit.newton import DEFAULTS, FitProblem, at_minimum, descend
from pipeline.fit.pool import FitQueue, PooledFits, pooled_fits
from pipeline.likelihood import AnyTemplates, HistFactory
from pipeline.likelihood.bordered import factored
from pipeline.likelihood.lane_templates import has_lanes, lane_templates
from pipeline.likelihood.stacked import DenseTemplates
from pipeline.likelihood.terms import poisson_logpdf


class Fitting(NamedTuple):
    """Where fits of data drawn at ``truth`` start: from there by the linear response to what was drawn.

    ``free`` and ``held`` are the responses of the parameters, the POI free or held, ``slope`` is that of the expected
    data in the POI.
    """

    truth: Float[Array, " params"]
    expected: Float[Array, " data"]
    slope: Float[Array, " data"]
    free: Float[Array, "params data"]
    held: Float[Array, "params data"]


def fits_of(model: HistFactory, queue: FitQueue) -> PooledFits:
    """Return the fits of a queue, in lanes where the model has them, else one after the other."""
    dense = model.dense()
    if has_lanes(model):
        return pooled_fits(lane_templates(model, dense), queue)
    fixed, poi = model.fixed_parameters(dense), poi_of(model, "fits of toys")
    unit = jnp.zeros_like(queue.start[0]).at[poi].set(1.0)

    def one(own: tuple[Array, Array, Array]) -> PooledFits:
        which, start, is_held = own
        held = fixed.at[poi].set(fixed[poi] | is_held)
        state = descend(FitProblem(model, dense, queue.data[which], start, held), DEFAULTS)
        return PooledFits(
            parameters=state.point.parameters,
            nll=state.point.nll + saturated(model, queue.data[which], dense),
            edm=state.edm,
            variance=state.point.hessian.solve(unit)[poi],
            converged=at_minimum(state, DEFAULTS) & ~state.is_flat,
            steps=state.steps,
        )

    found: PooledFits = jax.lax.map(one, (queue.which, queue.start, queue.is_held))
    return found


def saturated(model: HistFactory, data: Float[Array, " data"], dense: DenseTemplates) -> Float[Array, ""]:
    """Return the largest ``ln L`` of any model with these bins and constraint terms: every expectation as observed."""
    bins, terms = sum(model.bins), model.constraints
    observed, auxdata = data[:bins], data[bins:]
    counted = jnp.where(terms.is_poisson, auxdata / dense.width, auxdata)
    at_best = jnp.zeros_like(model.initial).at[terms.parameter].set(counted)
    return jnp.sum(poisson_logpdf(observed, observed)) + jnp.sum(
        model.constraint_logpdf(at_best, auxdata, dense)
    )


def fitting_at(
    model: HistFactory, truth: Float[Array, " params"], templates: AnyTemplates | None = None
) -> Fitting:
    """Return how fits of data drawn at ``truth`` start, the POI free or held.

    The best linear estimate ``theta_0 + I^-1 S^T V^-1 (d - m)``, S the slopes and V the variances of the expected data
    m there, and I the information (Aitken, Proc. R. Soc. Edinb. 55 (1935) 42).
    """
    dense = model.dense(templates)
    slopes, weight = expected_slopes(model, truth, dense)
    weighted = slopes * weight[:, None]
    information = weighted.T @ slopes
    free = ~model.fixed_parameters(dense)

    def response(are_free: Bool[Array, " params"]) -> Float[Array, "params data"]:
        scaled = jax.vmap(factored(information, are_free).solve, in_axes=1, out_axes=1)(weighted.T)
        return jnp.where(jnp.isfinite(scaled), scaled, 0.0)

    poi = poi_of(model, "toys")
    expected = model.expected_data(truth, dense)
    return Fitting(truth, expected, slopes[:, poi], response(free), response(free.at[poi].set(False)))


def starts(
    model: HistFactory,
    fitting: Fitting,
    data: Float[Array, "toys data"],
    held_at: Float[Array, ""] | float | None = None,
) -> Float[Array, "toys params"]:
    """Return where the fit of each data set starts, the POI held at a value, or free for None."""
    poi = poi_of(model, "toys")
    by = 0.0 if held_at is None else held_at - fitting.truth[poi]
    response = fitting.free if held_at is None else fitting.held
    moved = fitting.truth[None] + (data - (fitting.expected + by * fitting.slope)[None]) @ response.T
    moved = jnp.clip(moved, model.bounds[None, :, 0], model.bounds[None, :, 1])
    return moved if held_at is None else moved.at[:, poi].set(held_at)
