"""``-ln L`` with gradient and Hessian, from HistFactory's structure instead of automatic differentiation.

A bin of a sample holds ``F D``: a product F of factors, each of one parameter, times a sum D of the nominal yield and
shifts, each of one parameter. So with ``e_i = D dF/F`` or ``e_i = dD``, ``d_i nu = sum_s F e_i``, and what else the
second derivative needs are pairs of factors, and of a factor with a shift; a factor of a whole channel needs only the
channel's sums. The gammas are eliminated (``pipeline.likelihood.bordered``). That is a few matrix products, where
automatic differentiation sweeps the whole model once per parameter. Derivatives of fits come from
``pipeline.fit.implicit``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pipeline.likelihood.bordered import Bordered, inverse_blocks, square
from pipeline.likelihood.cells import YieldParts, cells_at
from pipeline.likelihood.histfactory import HistFactory
from pipeline.likelihood.stacked import DenseTemplates
from pipeline.likelihood.terms import poisson_slopes


class Slopes(NamedTuple):
    """The gradient of ``-ln L``, and what both derivatives need.

    ``first`` and ``second`` are the derivatives of each bin's Poisson term in its yield, ``curvature`` that of the
    constraint terms, ``jacobians`` the slopes of the yields that all, and that each layer of, gammas multiply,
    ``pulls`` the slopes in the gammas. ``inert`` marks parameters on which nothing depends here.
    """

    gradient: Float[Array, " params"]
    first: Float[Array, " bins"]
    second: Float[Array, " bins"]
    curvature: Float[Array, " params"]
    jacobians: Float[Array, "patterns kept bins"]
    pulls: Float[Array, "layers bins"]
    inert: Bool[Array, " params"]


class Derivatives(NamedTuple):
    """``-ln L``, its gradient and its Hessian."""

    nll: Float[Array, ""]
    gradient: Float[Array, " params"]
    hessian: Float[Array, "params params"]


def slopes_of(
    model: HistFactory,
    parameters: Float[Array, " params"],
    cells: YieldParts,
    data: Float[Array, " data"],
    dense: DenseTemplates,
) -> Slopes:
    """Return first derivatives at a point, whose cells are known."""
    bins = cells.rates.size
    first, second = poisson_slopes(data[:bins], cells.rates)
    slope, curvature = _constraints(model, parameters, data[bins:], dense)
    jacobians, acts = _jacobians(model, cells, dense), model.multiplying.gamma_acts
    yields = cells.product * cells.content
    pulls = jnp.sum(jnp.where(acts, yields[None] / cells.gammas[:, None], 0.0), axis=1)
    size = parameters.size
    none = jnp.zeros(size + 1, dtype=parameters.dtype)
    of_kept = none.at[model.multiplying.kept].set(jacobians[0] @ first)
    gradient = of_kept.at[model.multiplying.gamma].add(pulls * first[None])[:-1] + slope
    least = np.finfo(parameters.dtype).tiny ** 0.2  # above what a nudged factor of 0 leaves of a derivative
    acts_on_bins = jnp.any(jnp.abs(jacobians[0]) > least, axis=1)
    used = jnp.zeros(size + 1, dtype=bool).at[model.multiplying.kept].set(acts_on_bins)
    used = used.at[model.multiplying.gamma].max(pulls != 0)[:-1]
    return Slopes(
        gradient, first, second, curvature, jacobians, pulls, ~used & (curvature == 0) & (slope == 0)
    )


def hessian_of(
    model: HistFactory, cells: YieldParts, slopes: Slopes, dense: DenseTemplates, free: Bool[Array, " params"]
) -> Bordered:
    """Return the Hessian over the free parameters."""
    table = model.multiplying
    padded = jnp.concatenate([free, jnp.zeros(1, dtype=bool)])[table.gamma]
    blocks, links, own = _of_gammas(model, cells, slopes)
    inverse = inverse_blocks(blocks, padded)
    weights = -jnp.einsum("kpb,klb,lqb->pqb", links, inverse, links)
    weights = weights.at[0, 0].add(slopes.second)
    if table.is_whole:
        product = square(slopes.jacobians[0], weights[0, 0])
    else:
        weighted = jnp.einsum("pqb,qnb->pnb", weights, slopes.jacobians)
        product = jnp.einsum("pnb,pmb->nm", weighted, slopes.jacobians)
    mixed, itself = _second_order(model, cells, dense, slopes.first[None] * cells.product)
    constraint = slopes.curvature[table.kept]
    stiffness = jnp.where(padded, slopes.pulls**2 / own, 0.0)  # of an unconstrained gamma it is infinite
    loosened = slopes.second * jnp.sum(jnp.where(slopes.pulls == 0, 0.0, stiffness), axis=0)
    return Bordered(
        reduced=product + mixed + jnp.diag(itself + constraint),
        jacobians=slopes.jacobians,
        links=links,
        inverse=inverse,
        expected=jnp.where(slopes.second > 0, slopes.second / (1.0 + loosened), 0.0),
        constraint=constraint,
        own=itself,
        pulls=slopes.pulls,
        kept=table.kept,
        gamma=table.gamma,
        free=free,
    )


def derivatives(
    model: HistFactory,
    parameters: Float[Array, " params"],
    data: Float[Array, " data"],
    dense: DenseTemplates,
) -> Derivatives:
    """Return ``-ln L`` and its first two derivatives in all parameters, written out; equal to JAX's own to rounding."""
    _, cells = cells_at(model, parameters, data, dense)
    slopes = slopes_of(model, parameters, cells, data, dense)
    table, size = model.multiplying, parameters.size
    found = hessian_of(model, cells, slopes, dense, jnp.zeros(size, dtype=bool).at[table.kept].set(True))
    blocks, links, _ = _of_gammas(model, cells, slopes)
    across = jnp.einsum("pnb,kpb->nkb", found.jacobians, links)
    whole = jnp.zeros((size + 1, size + 1), dtype=parameters.dtype)
    whole = whole.at[table.kept[:, None], table.kept[None]].set(found.reduced)
    whole = whole.at[table.kept[:, None, None], table.gamma[None]].add(across)
    whole = whole.at[table.gamma[None], table.kept[:, None, None]].add(across)
    whole = whole.at[table.gamma[:, None], table.gamma[None]].add(blocks)
    return Derivatives(cells.nll, slopes.gradient, whole[:-1, :-1])


def _jacobians(
    model: HistFactory, cells: YieldParts, dense: DenseTemplates
) -> Float[Array, "patterns kept bins"]:
    """Return ``d_i nu_b`` of all samples, then of those that each layer of gammas multiplies.

    The latter are left out where each gamma multiplies all that there is in its bin.
    """
    if model.multiplying.is_whole:
        return _jacobian(model, cells, dense, cells.product)[None]
    parts = jnp.where(model.multiplying.gamma_acts, cells.product[None], 0.0)
    every = jnp.concatenate([cells.product[None], parts])
    found: Float[Array, "patterns kept bins"] = jax.lax.map(
        lambda p: _jacobian(model, cells, dense, p), every
    )
    return found


def _jacobian(
    model: HistFactory, cells: YieldParts, dense: DenseTemplates, product: Float[Array, "samples bins"]
) -> Float[Array, "kept bins"]:
    """Return ``sum_s F e_i`` for the given F."""
    table, layout = model.multiplying, model.layout
    rows = jnp.zeros((table.kept.size, cells.rates.size), dtype=product.dtype)
    shapes = product[layout.shape_sample] * dense.shifts(*cells.slope)
    rows = rows.at[table.position[layout.shape_parameter]].add(shapes)
    yields = product * cells.content
    factors = cells.logarithmic[:, layout.channel] * yields[table.factor_sample]
    rows = rows.at[table.position[table.factor_parameter]].add(factors)
    if not table.free.shape[0]:
        return rows
    bins = jnp.broadcast_to(jnp.arange(cells.rates.size), table.free.shape)
    return rows.at[table.position[table.free], bins].add(yields[None] / cells.free, mode="drop")


def _of_gammas(
    model: HistFactory, cells: YieldParts, slopes: Slopes
) -> tuple[
    Float[Array, "layers layers bins"], Float[Array, "layers patterns bins"], Float[Array, "layers bins"]
]:
    """Return the gammas' own blocks, how each joins the slopes of the others, and its constraint's curvature."""
    table = model.multiplying
    layers = table.gamma.shape[0]
    own = jnp.concatenate([slopes.curvature, jnp.zeros(1, dtype=cells.rates.dtype)])[table.gamma]
    acts = table.gamma_acts
    shares = jnp.where(acts, 1.0 / cells.gammas[:, None], 0.0)
    pairs = jnp.einsum("ksb,lsb,sb->klb", shares, shares, cells.product * cells.content)
    itself = jnp.eye(layers, dtype=bool)[:, :, None]
    pairs = jnp.where(itself, own[:, None], slopes.first[None, None] * pairs)
    blocks = pairs + slopes.second[None, None] * slopes.pulls[:, None] * slopes.pulls[None]
    direct = slopes.first[None] / cells.gammas
    all_of_it = slopes.second[None] * slopes.pulls
    if table.is_whole:
        return blocks, (all_of_it + jnp.where(acts.any(axis=1), direct, 0.0))[:, None], own
    of_layers = jnp.where(itself, direct[:, None], 0.0)
    return blocks, jnp.concatenate([all_of_it[:, None], of_layers], axis=1), own


def _second_order(
    model: HistFactory, cells: YieldParts, dense: DenseTemplates, weight: Float[Array, "samples bins"]
) -> tuple[Float[Array, "kept kept"], Float[Array, " kept"]]:
    """Return ``sum_b c_b d_i d_j nu_b`` with ``weight`` = c F: of two parameters, and (the diagonal) of one.

    A channel-wide factor is the same in all bins of a channel, so these are added up first: with M the ``dF/F`` of
    each parameter in each channel of each sample and W the sums there, pairs of factors are ``M W M^T``, those of a
    factor and a shift ``M G^T``.
    """
    table, layout = model.multiplying, model.layout
    channels, samples = cells.logarithmic.shape[1], weight.shape[0]
    of_channel = jax.nn.one_hot(layout.channel, channels, dtype=weight.dtype)
    weights = weight[layout.shape_sample]
    sums = (weights * dense.shifts(*cells.slope)) @ of_channel
    size = table.kept.size
    none = jnp.zeros((size, samples, channels), dtype=weight.dtype)
    shapes, factors = table.position[layout.shape_parameter], table.position[table.factor_parameter]
    of_shapes = none.at[shapes, layout.shape_sample].add(sums)
    of_factors = none.at[factors, table.factor_sample].add(cells.logarithmic)
    yields = (weight * cells.content) @ of_channel
    other = of_factors * yields[None] + 2.0 * of_shapes
    half = 0.5 * of_factors.reshape(size, -1) @ other.reshape(size, -1).T
    pairs = half + half.T
    itself = jnp.sum(2.0 * of_factors * of_shapes, axis=(1, 2))
    itself = itself.at[factors].add(jnp.sum(cells.relative * yields[table.factor_sample], axis=1))
    itself = itself.at[shapes].add(jnp.sum(weights * dense.shifts(*cells.curve), axis=1))
    if table.free.shape[0]:
        pairs = pairs + _with_shapefactors(model, cells, dense, weight)
    return jnp.where(jnp.eye(size, dtype=bool), 0.0, pairs), itself


def _with_shapefactors(
    model: HistFactory, cells: YieldParts, dense: DenseTemplates, weight: Float[Array, "samples bins"]
) -> Float[Array, "kept kept"]:
    """Return the second derivatives of a shapefactor with a channel-wide factor, a shift, or another shapefactor."""
    table, layout = model.multiplying, model.layout
    size = table.kept.size
    sample = jnp.concatenate([layout.shape_sample, table.factor_sample])
    parameter = table.position[jnp.concatenate([layout.shape_parameter, table.factor_parameter])]
    of_factors = cells.logarithmic[:, layout.channel] * cells.content[table.factor_sample]
    rows = jnp.concatenate([dense.shifts(*cells.slope), of_factors])
    index = table.position[table.free]

    def with_rows(upper: Array, layer: tuple[Array, Array]) -> tuple[Array, None]:
        own, share = layer  # of each bin of each sample: a shapefactor, and c F over its value
        return upper.at[own[sample], parameter[:, None]].add(share[sample] * rows, mode="drop"), None

    shares = weight[None] / cells.free
    upper, _ = jax.lax.scan(with_rows, jnp.zeros((size, size), dtype=weight.dtype), (index, shares))
    for k in range(index.shape[0] - 1):
        both = (shares[k] * cells.content)[None] / cells.free[k + 1 :]
        upper = upper.at[jnp.broadcast_to(index[k], both.shape), index[k + 1 :]].add(both, mode="drop")
    return upper + upper.T


def _constraints(
    model: HistFactory,
    parameters: Float[Array, " params"],
    auxdata: Float[Array, " auxdata"],
    dense: DenseTemplates,
) -> tuple[Float[Array, " params"], Float[Array, " params"]]:
    """Return slope and curvature of minus the constraint terms, which have one parameter each."""
    terms, width = model.constraints, dense.width
    values = parameters[terms.parameter]
    first, second = poisson_slopes(auxdata, values * width)
    slope = jnp.where(terms.is_poisson, first * width, (values - auxdata) / width**2)
    curvature = jnp.where(terms.is_poisson, second * width**2, 1.0 / width**2)
    none = jnp.zeros_like(parameters)
    return (
        none.at[terms.parameter].add(jnp.where(terms.is_on, slope, 0.0)),
        none.at[terms.parameter].add(jnp.where(terms.is_on, curvature, 0.0)),
    )
