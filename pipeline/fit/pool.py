"""Many fits in few lanes: whichever has converged makes room for the next fit, in one compiled loop.

Each lane is a bounded damped Newton fit. Its first steps, and those from where the Hessian is not positive definite,
are of Fisher scoring. A fit has converged by the exact Hessian only. The numbers of a fit do not depend on which others
there are, but for the last bits: so blocks of fits are the same whoever makes them.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Bool, Float, Int

from pipeline.fit.hypotest import poi_of
from pipeline.likelihood.bordered import scaled_to_one
from pipeline.likelihood.lane_templates import LaneTemplates
from pipeline.likelihood.lanes import LanePoint, lanes_at

LANES = 64  # fits at a time: as many as fill vector instructions and leave room in the second cache
UNUSED = -1  # the number of the fit in a lane that has none


class PoolOptions(eqx.Module):
    """The tolerances of many fits, hashable.

    ``tolerance`` is on the EDM in ``-ln L``: 1e-10 puts a test statistic within 2e-10 and a parameter within 1.5e-5 of
    its uncertainty, far below what any number of toys sees. ``scored`` is how many first steps are of Fisher scoring.
    Damping as in ``FitOptions``; a fit that takes more than ``max_steps``, or is damped by more than ``last_damping``,
    ends without having converged.
    """

    tolerance: float = eqx.field(static=True, default=1e-10)
    scored: int = eqx.field(static=True, default=1)
    max_steps: int = eqx.field(static=True, default=60)
    first_damping: float = eqx.field(static=True, default=1e-2)
    last_damping: float = eqx.field(static=True, default=1e8)
    factor: float = eqx.field(static=True, default=10.0)
    rounding: float = eqx.field(static=True, default=64.0)


POOL = PoolOptions()


class PooledFits(eqx.Module):
    """Where fits ended; ``variance`` is that of the POI by the exact Hessian, 0 where it is held."""

    parameters: Float[Array, "*fits params"]
    nll: Float[Array, "*fits"]
    edm: Float[Array, "*fits"]
    variance: Float[Array, "*fits"]
    converged: Bool[Array, "*fits"]
    steps: Int[Array, "*fits"]


class _Lanes(NamedTuple):
    """The fits in the lanes: where each is, the step it tries, and what that promises."""

    number: Int[Array, " lanes"]
    data: Float[Array, "data lanes"]
    held: Bool[Array, "params lanes"]
    point: LanePoint
    is_scored: Bool[Array, " lanes"]
    step: Float[Array, "kept lanes"]
    damping: Float[Array, " lanes"]
    edm: Float[Array, " lanes"]
    variance: Float[Array, " lanes"]
    steps: Int[Array, " lanes"]


class FitQueue(NamedTuple):
    """Fits to be made: of the data ``which``, from ``start``; where ``is_held``, with the POI as it starts."""

    data: Float[Array, "toys data"]
    which: Int[Array, " fits"]
    start: Float[Array, "fits params"]
    is_held: Bool[Array, " fits"]


class _Pool(NamedTuple):
    """The fits in the lanes, where the others ended, and the number of the next."""

    lanes: _Lanes
    found: PooledFits
    following: Int[Array, ""]


def pooled_fits(templates: LaneTemplates, queue: FitQueue, options: PoolOptions = POOL) -> PooledFits:
    """Return the fits of a queue, in its order."""
    fits, dtype = queue.which.shape[0], queue.start.dtype
    none, no = jnp.zeros(fits, dtype=dtype), jnp.zeros(fits, dtype=bool)
    found = PooledFits(queue.start, none, none, none, no, jnp.zeros(fits, dtype=jnp.int32))
    lanes = _begun(templates, queue, jnp.full(LANES, UNUSED, dtype=jnp.int32))
    first = _refilled(
        templates, queue, _Pool(lanes, found, jnp.zeros((), dtype=jnp.int32)), jnp.ones(LANES, dtype=bool)
    )

    def go_on(pool: _Pool) -> Bool[Array, ""]:
        return jnp.any(pool.lanes.number != UNUSED)

    def advance(pool: _Pool) -> _Pool:
        lanes = _advanced(templates, pool.lanes, options)
        converged = (lanes.damping == 0) & ~lanes.is_scored & (jnp.abs(lanes.edm) <= options.tolerance)
        has_gone = (lanes.steps > options.max_steps) | (lanes.damping > options.last_damping)
        is_done = (converged | has_gone) & (lanes.number != UNUSED)
        place, point = jnp.where(is_done, lanes.number, fits), lanes.point
        ends = PooledFits(point.parameters.T, point.nll, lanes.edm, lanes.variance, converged, lanes.steps)
        kept = jax.tree.map(lambda all_, own: all_.at[place].set(own, mode="drop"), pool.found, ends)
        return _refilled(templates, queue, _Pool(lanes, kept, pool.following), is_done)

    final: _Pool = jax.lax.while_loop(go_on, advance, first)
    return final.found


def _refilled(
    templates: LaneTemplates, queue: FitQueue, pool: _Pool, is_done: Bool[Array, " lanes"]
) -> _Pool:
    """Return the pool with the next fits in the lanes that are done."""
    number = pool.following + jnp.cumsum(is_done, dtype=jnp.int32) - 1
    number = jnp.where(number < queue.which.shape[0], number, UNUSED)
    fresh = _begun(templates, queue, number)
    following = pool.following + jnp.sum(is_done, dtype=jnp.int32)
    return pool._replace(lanes=_where(is_done, fresh, pool.lanes), following=following)


def _begun(templates: LaneTemplates, queue: FitQueue, number: Int[Array, " lanes"]) -> _Lanes:
    """Return lanes whose fits, of these numbers, begin: any finite value at the start improves on where they are."""
    own, model = jnp.maximum(number, 0), templates.model
    start = queue.start[own].T
    kept, lanes, dtype = model.multiplying.kept.size, start.shape[1], start.dtype
    is_poi = jnp.zeros(start.shape[0], dtype=bool).at[poi_of(model, "fits of toys")].set(True)[:, None]
    none, nowhere = jnp.zeros(lanes, dtype=dtype), jnp.zeros((kept, lanes), dtype=dtype)
    return _Lanes(
        number=number,
        data=queue.data[queue.which[own]].T,
        held=model.fixed_parameters(templates.dense)[:, None] | (is_poi & queue.is_held[own][None]),
        point=LanePoint(start, none + jnp.inf, nowhere, jnp.zeros((lanes, kept, kept), dtype=dtype)),
        is_scored=jnp.ones(lanes, dtype=bool),
        step=nowhere,
        damping=none,
        edm=none + jnp.inf,
        variance=none,
        steps=jnp.zeros(lanes, dtype=jnp.int32),
    )


def _where(mask: Bool[Array, " lanes"], chosen: _Lanes, other: _Lanes) -> _Lanes:
    """Return lanes of the one where the mask says so, else of the other."""
    return other._replace(
        **{
            name: jnp.where(mask, own, getattr(other, name))
            for name, own in chosen._asdict().items()
            if name != "point"
        },
        point=_better(mask, chosen.point, other.point),
    )


def _better(mask: Bool[Array, " lanes"], chosen: LanePoint, other: LanePoint) -> LanePoint:
    """Return points of the one where the mask says so, else of the other."""
    return LanePoint(
        parameters=jnp.where(mask, chosen.parameters, other.parameters),
        nll=jnp.where(mask, chosen.nll, other.nll),
        gradient=jnp.where(mask, chosen.gradient, other.gradient),
        hessian=jnp.where(mask[:, None, None], chosen.hessian, other.hessian),
    )


def _advanced(templates: LaneTemplates, lanes: _Lanes, options: PoolOptions) -> _Lanes:
    """Return the lanes after a trial each, a step within the bounds that is taken if ``-ln L`` falls, and the next."""
    model, kept = templates.model, templates.model.multiplying.kept
    here, bounds = lanes.point, model.bounds
    target = here.parameters.at[kept].add(lanes.step)
    target = jnp.where(lanes.held, here.parameters, jnp.clip(target, bounds[:, :1], bounds[:, 1:]))
    # a Hessian that was not positive definite leaves a step of NaN: the same point again, scored
    is_lost = jnp.any(jnp.isnan(lanes.step), axis=0)
    target = jnp.where(is_lost[None], here.parameters, target)
    is_scored = (lanes.steps < options.scored) | is_lost
    there = lanes_at(templates, target, lanes.data, lanes.held, is_scored)
    size = 1.0 + jnp.sum(jnp.abs(lanes.data[: sum(model.bins)]), axis=0)
    rounding = options.rounding * float(np.finfo(size.dtype).eps) * size
    accept = jnp.isfinite(there.nll) & ((there.nll <= here.nll + rounding) | is_lost)
    point = _better(accept, there, here)
    weaker = jnp.where(lanes.damping > options.first_damping, lanes.damping / options.factor, 0.0)
    stronger = jnp.maximum(options.factor * lanes.damping, options.first_damping)
    damping = jnp.where(accept, weaker, stronger)
    is_scored = jnp.where(accept, is_scored, lanes.is_scored)
    step, edm, variance = _steps(templates, point, lanes.held, damping)
    return lanes._replace(
        point=point,
        is_scored=is_scored,
        step=step,
        damping=damping,
        edm=edm,
        variance=variance,
        steps=lanes.steps + 1,
    )


def _steps(
    templates: LaneTemplates,
    point: LanePoint,
    held: Bool[Array, "params lanes"],
    damping: Float[Array, " lanes"],
) -> tuple[Float[Array, "kept lanes"], Float[Array, " lanes"], Float[Array, " lanes"]]:
    """Return the damped Newton step, the distance to the minimum that it promises, and the variance of the POI."""
    kept, poi = (
        templates.model.multiplying.kept,
        templates.model.multiplying.position[poi_of(templates.model, "fits of toys")],
    )
    bounds, now = templates.model.bounds[kept], point.parameters[kept]
    at_bound = ((now <= bounds[:, :1]) & (point.gradient > 0)) | (
        (now >= bounds[:, 1:]) & (point.gradient < 0)
    )
    free = ~held[kept] & ~at_bound
    scaled, scale = jax.vmap(scaled_to_one)(point.hessian, free.T, damping)
    lower = jnp.linalg.cholesky(scaled, symmetrize_input=False)
    unit = jnp.zeros_like(point.gradient).at[poi].set(1.0)
    right = jnp.stack([point.gradient.T, unit.T], axis=-1) * scale[:, :, None]
    solved = scale[:, :, None] * cho_solve((lower, True), right)
    step = -solved[:, :, 0].T
    edm = -0.5 * jnp.sum(jnp.where(free, point.gradient * step, 0.0), axis=0)
    return step, edm, solved[:, poi, 1]
