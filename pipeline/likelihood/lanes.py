"""``-ln L`` with gradient and Hessian of many data sets at once: one lane each, the last axis of every array.

The same structure as ``derivatives``, for models whose gammas multiply all that there is in their bin, in one layer, as
the staterror of all samples does. What a lane computes does not depend on the others. In this order of the axes a
vector instruction works on several lanes, and a matrix of the templates meets all lanes in one product.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pipeline.likelihood.cells import best_of_normal, best_of_poisson, nudged, twice
from pipeline.likelihood.interpolation import FACTORS
from pipeline.likelihood.lane_templates import LaneTemplates
from pipeline.likelihood.terms import poisson_slopes


class LanePoint(NamedTuple):
    """What a fit needs at a point of each lane.

    ``nll`` is what ``-ln L`` is above that of an expectation equal to the data, so twice that of a fit is the
    goodness of fit of the saturated model. ``gradient`` and ``hessian`` are over the parameters that are not gammas,
    which are where they fit best.
    """

    parameters: Float[Array, "params lanes"]
    nll: Float[Array, " lanes"]
    gradient: Float[Array, "kept lanes"]
    hessian: Float[Array, "lanes kept kept"]


def lanes_at(
    templates: LaneTemplates,
    parameters: Float[Array, "params lanes"],
    data: Float[Array, "data lanes"],
    held: Bool[Array, "params lanes"],
    is_scored: Bool[Array, " lanes"],
) -> LanePoint:
    """Return each lane's point with its gammas where they fit best, but for those that are held.

    Where ``is_scored``, the Hessian is that of Fisher scoring, without the second derivatives of yields.
    """
    model, table, layout = templates.model, templates.model.multiplying, templates.model.layout
    factors, rise, bend = twice(lambda a: _factors(templates, a), parameters[table.factor_parameter])
    coefficients, slope, curve = twice(model.coefficients, parameters[layout.shape_parameter])
    factors = nudged(factors)
    sides = _by_parameter(templates, coefficients)
    sides = sides.reshape(sides.shape[0], -1, sides.shape[3])
    content = templates.dense.nominal[:, :, None] + jnp.matmul(templates.sides, sides)
    product = jnp.prod(_rows(factors, table.factor_rows, 1.0), axis=1)[:, layout.channel]
    without = jnp.sum(product * content, axis=0)
    moved = _with_gammas(templates, parameters, data, held, without)
    rates = moved.gammas * without
    first, second = poisson_slopes(data[: rates.shape[0]], rates)
    slopes, curvatures = _constraints(templates, moved.parameters, data[rates.shape[0] :])
    product = product * nudged(moved.gammas)[None]
    logarithmic, relative = (_rows(part / factors, templates.rows, 0.0) for part in (rise, bend))
    changes = _Changes(
        logarithmic, relative, _by_parameter(templates, slope), _by_parameter(templates, curve)
    )
    sums = _sums(templates, changes, content, first[None] * product)
    weight = _weight(templates, moved, without, (first, second, curvatures), is_scored)
    jacobian = _jacobian(templates, changes, content, product)
    expected = jnp.einsum("bkl,bl,bjl->lkj", jacobian, weight, jacobian)
    constraint = curvatures[table.kept]
    pairs = jnp.where(is_scored[:, None, None], 0.0, sums.pairs)
    itself = jnp.where(is_scored[None], 0.0, sums.itself) + constraint
    identity = jnp.eye(table.kept.size, dtype=bool)[None]
    return LanePoint(
        parameters=moved.parameters,
        nll=_nll(templates, moved.parameters, data, rates),
        gradient=sums.gradient + slopes[table.kept],
        hessian=expected + jnp.where(identity, itself.T[:, :, None], pairs),
    )


class _Changes(NamedTuple):
    """Slopes and curvatures of the channel-wide factors, relative to them, and of the coefficients of the histosys."""

    logarithmic: Float[Array, "samples kept channels lanes"]
    relative: Float[Array, "samples kept channels lanes"]
    slope: Float[Array, "samples two kept lanes"]
    curve: Float[Array, "samples two kept lanes"]


class _Moved(NamedTuple):
    """Parameters with the gammas where they fit best, the gammas of the bins, and which of these are free."""

    parameters: Float[Array, "params lanes"]
    gammas: Float[Array, "bins lanes"]
    is_free: Bool[Array, "bins lanes"]


class _Sums(NamedTuple):
    """The gradient of the bins, and ``sum_b c_b d_i d_j nu_b`` of two parameters and of one."""

    gradient: Float[Array, "kept lanes"]
    pairs: Float[Array, "lanes kept kept"]
    itself: Float[Array, "kept lanes"]


def _rows(values: Array, table: Int[Array, "..."], padding: float) -> Array:
    """Return rows by number, with one more, of the padding, behind the last."""
    return jnp.concatenate([values, jnp.full((1, *values.shape[1:]), padding, dtype=values.dtype)])[table]


def _by_parameter(
    templates: LaneTemplates, parts: tuple[Array, Array]
) -> Float[Array, "samples two kept lanes"]:
    """Return coefficients of the rows of mean and bend, by sample and parameter."""
    return jnp.stack([_rows(part, templates.shapes, 0.0) for part in parts], axis=1)


def _factors(
    templates: LaneTemplates, alpha: Float[Array, "rows lanes"]
) -> Float[Array, "rows channels lanes"]:
    """Return the channel-wide factors: rows of the normsys, then of lumi and normfactor, then of coefficients."""
    dense = templates.dense
    shape = (*dense.factors.shape[1:], alpha.shape[1])
    up, down = (jnp.broadcast_to(side[:, :, None], shape) for side in dense.factors)
    coefficients = jnp.broadcast_to(dense.coefficients[..., None], (dense.coefficients.shape[0], *shape))
    code = FACTORS[templates.model.codes[0]]
    of_norms = code(jnp.broadcast_to(alpha[: shape[0], None], shape), up, down, coefficients)
    return jnp.concatenate([of_norms, templates.model.multiplying.others(alpha[shape[0] :, None])])


def _with_gammas(
    templates: LaneTemplates,
    parameters: Float[Array, "params lanes"],
    data: Float[Array, "data lanes"],
    held: Bool[Array, "params lanes"],
    without: Float[Array, "bins lanes"],
) -> _Moved:
    """Return the gammas that fit best; ``without`` are the yields without them."""
    model, table, terms = templates.model, templates.model.multiplying, templates.model.constraints
    if not table.gamma.shape[0]:
        return _Moved(parameters, jnp.ones_like(without), jnp.zeros(without.shape, dtype=bool))
    index, term = table.gamma[0], table.gamma_term[0]
    observed, auxdata = data[: without.shape[0]], data[without.shape[0] :]
    width = jnp.broadcast_to(jnp.take(templates.dense.width, term, mode="clip")[:, None], without.shape)
    is_poisson, is_on = (jnp.take(own, term, mode="clip")[:, None] for own in (terms.is_poisson, terms.is_on))
    cells = (observed, without, jnp.zeros_like(without), width, jnp.take(auxdata, term, axis=0, mode="clip"))
    best = best_of_normal(*cells)
    if terms.poisson.size:
        best = jnp.where(is_poisson, best_of_poisson(*cells), best)
    now, stays = (jnp.take(own, index, axis=0, mode="clip") for own in (parameters, held))
    stays = stays | ~is_on | jnp.isnan(best)
    bounds = jnp.take(model.bounds, index, axis=0, mode="clip")
    inside = jnp.clip(best, bounds[:, :1], bounds[:, 1:])
    there = (index < parameters.shape[0])[:, None]
    moved = jnp.where(stays, now, inside)
    return _Moved(
        parameters.at[index].set(moved, mode="drop"),
        jnp.where(there, moved, 1.0),
        there & ~stays & (inside == best),
    )


def _weight(
    templates: LaneTemplates,
    moved: _Moved,
    without: Float[Array, "bins lanes"],
    derivatives: tuple[Array, Array, Array],
    is_scored: Bool[Array, " lanes"],
) -> Float[Array, "bins lanes"]:
    """Return what each bin weighs in the product of slopes, its gamma eliminated."""
    table, (first, second, curvatures) = templates.model.multiplying, derivatives
    if not table.gamma.shape[0]:
        return second
    own = jnp.concatenate([curvatures, jnp.zeros_like(curvatures[:1])])[table.gamma[0]]
    block = own + second * without**2
    link = second * without + jnp.where(is_scored[None], 0.0, first / nudged(moved.gammas))
    return second - jnp.where(moved.is_free, link**2 / jnp.where(moved.is_free, block, 1.0), 0.0)


def _constraints(
    templates: LaneTemplates, parameters: Float[Array, "params lanes"], auxdata: Float[Array, "auxdata lanes"]
) -> tuple[Float[Array, "params lanes"], Float[Array, "params lanes"]]:
    """Return slope and curvature of minus the constraint terms."""
    terms, width = templates.model.constraints, templates.dense.width[:, None]
    values = parameters[terms.parameter]
    slope, curvature = (values - auxdata) / width**2, jnp.broadcast_to(1.0 / width**2, values.shape)
    if terms.poisson.size:
        first, second = poisson_slopes(auxdata, values * width)
        slope = jnp.where(terms.is_poisson[:, None], first * width, slope)
        curvature = jnp.where(terms.is_poisson[:, None], second * width**2, curvature)
    none, is_on = jnp.zeros_like(parameters), terms.is_on[:, None]
    return (
        none.at[terms.parameter].add(jnp.where(is_on, slope, 0.0)),
        none.at[terms.parameter].add(jnp.where(is_on, curvature, 0.0)),
    )


def half_deviance(observed: Float[Array, "*shape"], rate: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return ``r - n + n ln(n/r)``: minus ``ln`` of the Poisson density, above that of a rate as observed.

    At the edge: a rate of zero or below gives infinity where something is observed.
    """
    counted = (observed > 0) & (rate > 0)
    n, r = jnp.where(counted, observed, 1.0), jnp.where(counted, rate, 1.0)
    beyond = (r - n) / n
    near = jnp.abs(beyond) < 0.5
    logarithm = jnp.where(near, jnp.log1p(jnp.where(near, beyond, 0.0)), jnp.log(r / n))
    return jnp.where(counted, n * (beyond - logarithm), jnp.where(observed == 0, rate, jnp.inf))


def _nll(
    templates: LaneTemplates,
    parameters: Float[Array, "params lanes"],
    data: Float[Array, "data lanes"],
    rates: Float[Array, "bins lanes"],
) -> Float[Array, " lanes"]:
    """Return ``-ln L`` above that of the saturated model."""
    terms, width, bins = templates.model.constraints, templates.dense.width[:, None], rates.shape[0]
    values, auxdata = parameters[terms.parameter], data[bins:]
    found = 0.5 * ((auxdata - values) / width) ** 2
    if terms.poisson.size:
        counts = half_deviance(auxdata, values * width)
        found = jnp.where(terms.is_poisson[:, None], counts, found)
    of_terms = jnp.sum(jnp.where(terms.is_on[:, None], found, 0.0), axis=0)
    return jnp.sum(half_deviance(data[:bins], rates), axis=0) + of_terms


def _sums(
    templates: LaneTemplates,
    changes: _Changes,
    content: Float[Array, "samples bins lanes"],
    weight: Float[Array, "samples bins lanes"],
) -> _Sums:
    """Return first and second derivatives of the yields, summed over the bins with ``weight`` = c F.

    As in ``derivatives``: yields and shifts are added up channel by channel, those by products of matrices.
    """
    (samples, size), (channels, _) = templates.rows.shape, templates.of_channel.shape
    moments = jnp.matmul(templates.moments, weight).reshape(samples, 2, channels, size, -1)
    yields = jnp.matmul(templates.of_channel, weight * content)[:, :, None]
    logarithmic, relative = (jnp.swapaxes(part, 1, 2) for part in changes[:2])
    shapes, bent = (
        moments[:, 0] * part[:, 0, None] + moments[:, 1] * part[:, 1, None] for part in changes[2:]
    )
    factors = logarithmic * yields
    half = 0.5 * jnp.einsum("sckl,scjl->lkj", logarithmic, factors + 2.0 * shapes)
    return _Sums(
        gradient=_added(shapes + factors),
        pairs=half + jnp.swapaxes(half, 1, 2),
        itself=_added(bent + 2.0 * logarithmic * shapes + relative * yields),
    )


def _added(parts: Float[Array, "samples channels kept lanes"]) -> Float[Array, "kept lanes"]:
    """Return the sum over samples and channels, by a product with ones: XLA's own sum would make each part again."""
    flat = parts.reshape(parts.shape[0] * parts.shape[1], -1)
    return (jnp.ones((1, flat.shape[0]), dtype=flat.dtype) @ flat).reshape(parts.shape[2:])


def _jacobian(
    templates: LaneTemplates,
    changes: _Changes,
    content: Float[Array, "samples bins lanes"],
    product: Float[Array, "samples bins lanes"],
) -> Float[Array, "bins kept lanes"]:
    """Return the slopes of the yields, one sample after the other: a loop, so that XLA keeps the order of the axes."""

    def of_sample(jacobian: Array, own: tuple[Array, ...]) -> tuple[Array, None]:
        sides, slope, logarithmic, factor, yields = own
        shapes = sides[0][:, :, None] * slope[0][None] + sides[1][:, :, None] * slope[1][None]
        moved = logarithmic[templates.model.layout.channel] * yields[:, None]
        return jacobian + factor[:, None] * (shapes + moved), None

    none = jnp.zeros((content.shape[1], *changes.slope.shape[2:]), dtype=content.dtype)
    logarithmic = jnp.swapaxes(changes.logarithmic, 1, 2)
    own = (templates.slopes, changes.slope, logarithmic, product, content)
    found: Float[Array, "bins kept lanes"] = jax.lax.scan(of_sample, none, own)[0]
    return found
