"""A look along every systematic from a minimum: where ``-ln L`` may be lower when all else has followed.

Along one systematic only its own samples change, exactly as its interpolation says; what all other parameters do
meanwhile is taken as the linear response at the minimum. So a look at all of them costs what one Hessian costs, and
(systematics x their samples x bins) yields for each of the places looked at.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pipeline.fit.newton import FitProblem, NewtonPoint
from pipeline.likelihood.terms import poisson_slopes

PLACES = np.array([-3.0, -2.0, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0, 3.0])
"""Where to look along a systematic: its templates are those at -1, 0 and 1."""
LOWER = 1e-4  # in -ln L: a difference that is not of rounding, and of no meaning for a result


class Response(NamedTuple):
    """How all else follows one parameter (row), by one unit of it; gammas are not among them, but follow.

    ``yields`` is the change of every bin but for the parameter's own; ``slope`` and ``curvature`` are those of all of
    ``-ln L`` but for the bins' change.
    """

    parameters: Float[Array, "kept kept"]
    yields: Float[Array, "kept bins"]
    slope: Float[Array, " kept"]
    curvature: Float[Array, " kept"]


class View(NamedTuple):
    """What is seen from a point: how much ``-ln L`` seems to rise at each place along each systematic."""

    rises: Float[Array, "places kept"]
    worth_a_fit: Bool[Array, "places kept"]


def look_around(problem: FitProblem, point: NewtonPoint) -> tuple[View, Response]:
    """Return what is seen along every free systematic, and how all else follows each.

    A fit is worth while from what seems lower, and from a dip beyond a rise, whatever its depth seems to be: what all
    else does there is known to first order only.
    """
    model, kept = problem.model, problem.model.multiplying.kept
    bounds, now = model.bounds[kept], point.parameters[kept]
    response = _response(problem, point)
    looked_at = point.free[kept] & model.layout.is_systematic[kept]

    def at_place(place: Float[Array, ""]) -> Float[Array, " kept"]:
        at = jnp.clip(place, bounds[:, 0], bounds[:, 1])
        rise = _rise(problem, point, response, jnp.where(looked_at, at, now))
        return jnp.where(looked_at & jnp.isfinite(rise), rise, jnp.inf)

    places = jnp.asarray(PLACES, dtype=now.dtype)
    rises = jax.lax.map(at_place, places)
    edge = jnp.full((1, now.size), jnp.inf, dtype=now.dtype)
    around = jnp.concatenate([edge, rises, edge])
    beyond = jnp.concatenate([-edge, jnp.broadcast_to(places[:, None], rises.shape), edge])
    is_beside = (beyond[:-2] < now[None]) & (now[None] < beyond[2:])
    is_dip = ~is_beside & (rises < around[:-2]) & (rises <= around[2:])
    return View(rises, (rises < -LOWER) | is_dip), response


def start_at(
    problem: FitProblem, point: NewtonPoint, response: Response, place: Int[Array, ""], row: Int[Array, ""]
) -> Float[Array, " params"]:
    """Return the point with one systematic at a place, and all else where it follows to first order."""
    kept, bounds = problem.model.multiplying.kept, problem.model.bounds
    target = jnp.clip(jnp.asarray(PLACES)[place], bounds[kept[row], 0], bounds[kept[row], 1])
    by = target - point.parameters[kept[row]]
    followed = point.parameters.at[kept].add(by * response.parameters[row])
    return followed.at[kept[row]].set(target)


def _response(problem: FitProblem, point: NewtonPoint) -> Response:
    """Return the linear response at a minimum, gammas included; none, where the point is not one."""
    hessian = point.hessian
    first, second = poisson_slopes(problem.data[: point.rates.size], point.rates)
    inverse = hessian.factor().inverse()
    itself = jnp.diagonal(inverse)
    usable = jnp.all(jnp.isfinite(itself)) & (itself > 0)
    identity = jnp.eye(itself.size, dtype=itself.dtype)
    direction = jnp.where(usable[:, None], inverse / jnp.where(usable, itself, 1.0)[:, None], identity)
    share = jnp.einsum("kb,klb,lpb->pb", hessian.pulls, hessian.inverse, hessian.links)
    share = (-jnp.where(jnp.isfinite(share), share, 0.0)).at[0].add(1.0)
    yields = jnp.einsum("mn,pnb,pb->mb", direction, hessian.jacobians, share)
    stiffness = jnp.where(usable, 1.0 / jnp.where(usable, itself, 1.0), hessian.constraint)
    bent = jnp.where(usable, yields**2 @ second + hessian.own, 0.0)
    return Response(
        parameters=direction,
        yields=yields - hessian.jacobians[0],
        slope=direction @ point.gradient[hessian.kept] - yields @ first,
        curvature=stiffness - bent,
    )


def _rise(
    problem: FitProblem, point: NewtonPoint, response: Response, at: Float[Array, " kept"]
) -> Float[Array, " kept"]:
    """Return how much ``-ln L`` seems to rise where each parameter is moved to its place; infinite below 0 events."""
    observed, rates = problem.data[: point.rates.size][None], point.rates[None]
    by = at - point.parameters[problem.model.multiplying.kept]
    change = _changes(problem, point, at) + by[:, None] * response.yields
    moved = rates + change
    known = jnp.where(rates > 0, rates, 1.0)
    logarithm = jnp.log(jnp.where(moved > 0, moved, 1.0) / known)
    terms = jnp.where(moved >= 0, change - jnp.where(observed > 0, observed * logarithm, 0.0), jnp.inf)
    return jnp.sum(terms, axis=1) + by * (response.slope + 0.5 * by * response.curvature)


def _changes(problem: FitProblem, point: NewtonPoint, at: Float[Array, " kept"]) -> Float[Array, "kept bins"]:
    """Return how the yields change where each systematic alone is moved, by the samples that it acts on."""
    model, dense, layout, table = (
        problem.model,
        problem.dense,
        problem.model.layout,
        problem.model.multiplying,
    )
    values, cells = point.parameters.at[table.kept].set(at), point.parts
    ratio = model.factors(values, dense)[: dense.factors.shape[1]] / cells.factors[: dense.factors.shape[1]]
    now, then = (model.coefficients(p[layout.shape_parameter]) for p in (point.parameters, values))
    of_mean, of_bend = (b - a for a, b in zip(now, then, strict=True))
    shapes = dense.shifts(of_mean, of_bend)
    one = jnp.ones((1, ratio.shape[1]), dtype=ratio.dtype)
    factor = jnp.concatenate([ratio, one])[layout.shape_norm][:, layout.channel]
    shapes = cells.product[layout.shape_sample] * factor * shapes
    yields = (cells.product * cells.content)[layout.norm_sample]
    norms = (ratio - 1.0)[:, layout.channel] * yields
    none = jnp.zeros((at.size, point.rates.size), dtype=at.dtype)
    both = none.at[table.position[layout.shape_parameter]].add(shapes)
    return both.at[table.position[layout.norm_parameter]].add(norms)
