"""``-ln L`` with gradient and Hessian at once, from HistFactory's structure instead of automatic differentiation.

A bin of a sample holds ``F D``: a product F of factors, each of one parameter, times a sum D of the nominal yield and
shifts, each of one parameter. So with ``e_i = D dF/F`` or ``e_i = dD``, ``d_i nu = sum_s F e_i``, and what else the
second derivative needs are pairs of factors, and of a factor with a shift. That is a few matrix products, where
automatic differentiation sweeps the whole model once per parameter. To JAX the result is a constant: derivatives of
fits come from `pipeline.fit.implicit`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.likelihood.histfactory import DenseTemplates, HistFactory
from pipeline.likelihood.terms import poisson_logpdf, poisson_slopes


class Derivatives(NamedTuple):
    """``-ln L``, its gradient and its Hessian.

    ``scoring`` is the Hessian without second derivatives of the yields, which is never indefinite: the expected
    information at data of these yields, up to the ratio of observed to expected.
    """

    nll: Float[Array, ""]
    gradient: Float[Array, " params"]
    hessian: Float[Array, "params params"]
    scoring: Float[Array, "params params"]


class _Cells(NamedTuple):
    """F, D and their derivatives in every bin of every sample; "interpolated" is normsys, then histosys.

    ``slopes`` are the e of interpolated parameters, ``own`` their second derivatives divided by F, and
    ``logarithmic`` the ``dF/F`` of normsys.
    """

    rates: Float[Array, " bins"]
    product: Float[Array, "samples bins"]
    content: Float[Array, "samples bins"]
    multipliers: Float[Array, "factors samples bins"]
    logarithmic: Float[Array, "normsys samples bins"]
    slopes: Float[Array, "interpolated samples bins"]
    own: Float[Array, "interpolated samples bins"]


def derivatives(
    model: HistFactory,
    parameters: Float[Array, " params"],
    data: Float[Array, " data"],
    dense: DenseTemplates,
) -> Derivatives:
    """``-ln L`` and its first two derivatives in the parameters; equal to JAX's own to rounding."""
    cells = _cells(model, parameters, dense)
    observed, auxdata = data[: cells.rates.size], data[cells.rates.size :]
    first, second = poisson_slopes(observed, cells.rates)
    jacobian = _jacobian(model, cells)
    terms = model.constraint_logpdf(parameters, auxdata, dense)
    slope, curvature = _constraints(model, parameters, auxdata, dense)
    scoring = (jacobian * second[None]) @ jacobian.T + jnp.diag(curvature)
    return Derivatives(
        nll=-jnp.sum(poisson_logpdf(observed, cells.rates)) - jnp.sum(terms),
        gradient=jacobian @ first + slope,
        hessian=scoring + _second_order(model, cells, first[None] * cells.product),
        scoring=scoring,
    )


def _twice(
    function: Callable[[Array], Array], at: Float[Array, " params"]
) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]:
    """Value, slope and curvature of a function whose rows each depend on their own parameter."""
    one = jnp.ones_like(at)

    def once(x: Array) -> tuple[Array, Array]:
        value, slope = jax.jvp(function, (x,), (one,))
        return value, slope

    (value, slope), (_, curvature) = jax.jvp(once, (at,), (one,))
    return value, slope, curvature


def _nudged(factors: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Factors with 0 replaced by the fourth root of the smallest number.

    A product without one or two of its factors is then a quotient, exact to rounding where they are 0, too.
    """
    least = float(np.finfo(factors.dtype).tiny) ** 0.25  # two of them do not underflow
    return jnp.where(jnp.abs(factors) < least, least, factors)


def _cells(model: HistFactory, parameters: Float[Array, " params"], dense: DenseTemplates) -> _Cells:
    layout = model.layout
    factors, rise, bend = _twice(lambda a: model.factors(a, dense), parameters[layout.normsys_parameter])
    shifts, tilt, curve = _twice(lambda a: model.shifts(a, dense), parameters[layout.histosys_parameter])
    multipliers = model.multipliers(parameters)
    content = dense.nominal + jnp.sum(shifts, axis=0)
    exact = jnp.prod(factors, axis=0)[:, layout.channel] * jnp.prod(multipliers, axis=0)
    divisors, multipliers = _nudged(factors), _nudged(multipliers)
    logarithmic = (rise / divisors)[..., layout.channel]
    relative = (bend / divisors)[..., layout.channel]
    return _Cells(
        rates=jnp.sum(exact * content, axis=0),
        product=jnp.prod(divisors, axis=0)[:, layout.channel] * jnp.prod(multipliers, axis=0),
        content=content,
        multipliers=multipliers,
        logarithmic=logarithmic,
        slopes=jnp.concatenate([logarithmic * content[None], tilt]),
        own=jnp.concatenate([relative * content[None], curve]),
    )


def _jacobian(model: HistFactory, cells: _Cells) -> Float[Array, "params bins"]:
    """``d_i nu_b``; the row behind the last parameter takes what the padding of the multipliers gives."""
    rows = jnp.zeros((model.initial.size + 1, cells.rates.size), dtype=cells.rates.dtype)
    rows = rows.at[_interpolated(model)].add(jnp.sum(cells.product[None] * cells.slopes, axis=1))
    multiplied = (cells.product * cells.content)[None] / cells.multipliers
    bins = jnp.broadcast_to(jnp.arange(cells.rates.size), multiplied.shape)
    return rows.at[model.layout.multipliers, bins].add(multiplied)[:-1]


def _second_order(
    model: HistFactory, cells: _Cells, weight: Float[Array, "samples bins"]
) -> Float[Array, "params params"]:
    """``sum_b c_b d_i d_j nu_b`` with ``weight`` = c F, from the pairs that act in the same cells."""
    size, places = model.initial.size + 1, _interpolated(model)
    index, normsys = model.layout.multipliers, cells.logarithmic.shape[0]
    every_cell = ((1, 2), (1, 2))
    # of normsys with each other and with histosys; two histosys have none
    pairs = jnp.tensordot(cells.logarithmic * weight[None], cells.slopes, axes=every_cell)
    block = jnp.zeros((places.size, places.size), dtype=weight.dtype)
    block = block.at[:normsys].set(pairs).at[normsys:, :normsys].set(pairs[:, normsys:].T)
    block = jnp.fill_diagonal(block, jnp.sum(cells.own * weight[None], axis=(1, 2)), inplace=False)
    shares = weight[None] / cells.multipliers
    mixed = jnp.zeros((size, places.size), dtype=weight.dtype)
    mixed = mixed.at[index].add(shares[..., None] * jnp.moveaxis(cells.slopes, 0, -1)[None])
    upper = jnp.zeros((size, size), dtype=weight.dtype).at[:, places].add(mixed)
    for k in range(index.shape[0] - 1):
        both = (shares[k] * cells.content)[None] / cells.multipliers[k + 1 :]
        upper = upper.at[jnp.broadcast_to(index[k], both.shape), index[k + 1 :]].add(both)
    return (upper + upper.T).at[places[:, None], places[None, :]].add(block)[:-1, :-1]


def _interpolated(model: HistFactory) -> Array:
    """Parameters of normsys, then of histosys; one may be in both."""
    return jnp.concatenate([model.layout.normsys_parameter, model.layout.histosys_parameter])


def _constraints(
    model: HistFactory,
    parameters: Float[Array, " params"],
    auxdata: Float[Array, " auxdata"],
    dense: DenseTemplates,
) -> tuple[Float[Array, " params"], Float[Array, " params"]]:
    """Slope and curvature of minus the constraint terms, which have one parameter each."""
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
