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
from jaxtyping import Array, Float, Int

from pipeline.likelihood.histfactory import HistFactory
from pipeline.likelihood.stacked import DenseTemplates
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
    """F, D and their derivatives in every bin of every sample; rows are those of the normsys, then of the histosys.

    ``slopes`` are the e of the rows' parameters, ``own`` their second derivatives divided by F, and
    ``logarithmic`` the ``dF/F`` of normsys.
    """

    rates: Float[Array, " bins"]
    product: Float[Array, "samples bins"]
    content: Float[Array, "samples bins"]
    multipliers: Float[Array, "factors samples bins"]
    logarithmic: Float[Array, "norms channels"]
    slopes: Float[Array, "rows bins"]
    own: Float[Array, "rows bins"]


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
    factors, rise, bend = _twice(lambda a: model.factors(a, dense), parameters[layout.norm_parameter])
    shifts, tilt, curve = _twice(lambda a: model.shifts(a, dense), parameters[layout.shape_parameter])
    multipliers = model.multipliers(parameters)
    content = dense.nominal + model.sum(shifts)
    exact = model.product(factors)[:, layout.channel] * jnp.prod(multipliers, axis=0)
    divisors, multipliers = _nudged(factors), _nudged(multipliers)
    logarithmic, relative = rise / divisors, bend / divisors
    of_norms = content[layout.norm_sample]
    return _Cells(
        rates=jnp.sum(exact * content, axis=0),
        product=model.product(divisors)[:, layout.channel] * jnp.prod(multipliers, axis=0),
        content=content,
        multipliers=multipliers,
        logarithmic=logarithmic,
        slopes=jnp.concatenate([logarithmic[:, layout.channel] * of_norms, tilt]),
        own=jnp.concatenate([relative[:, layout.channel] * of_norms, curve]),
    )


def _jacobian(model: HistFactory, cells: _Cells) -> Float[Array, "params bins"]:
    """``d_i nu_b``; the row behind the last parameter takes what the padding of the multipliers gives."""
    rows = jnp.zeros((model.initial.size + 1, cells.rates.size), dtype=cells.rates.dtype)
    rows = rows.at[_parameter(model)].add(cells.product[_sample(model)] * cells.slopes)
    multiplied = (cells.product * cells.content)[None] / cells.multipliers
    bins = jnp.broadcast_to(jnp.arange(cells.rates.size), multiplied.shape)
    return rows.at[model.layout.multipliers, bins].add(multiplied)[:-1]


def _second_order(
    model: HistFactory, cells: _Cells, weight: Float[Array, "samples bins"]
) -> Float[Array, "params params"]:
    """``sum_b c_b d_i d_j nu_b`` with ``weight`` = c F, from the pairs that act in the same cells."""
    size, parameter, sample = model.initial.size + 1, _parameter(model), _sample(model)
    weighted = cells.slopes * weight[sample]
    own = jnp.sum(cells.own * weight[sample], axis=1)
    found = jnp.zeros((size, size), dtype=weight.dtype).at[parameter, parameter].add(own)
    found = _with_pairs_of_rows(model, cells, weighted, found)
    shares = weight[None] / cells.multipliers

    def mixed(upper: Array, layer: tuple[Array, Array]) -> tuple[Array, None]:
        index, share = (
            layer  # of each bin of each sample: a parameter that multiplies it, and c F over its value
        )
        return upper.at[index[sample], parameter[:, None]].add(share[sample] * cells.slopes), None

    upper = jnp.zeros((size, size), dtype=weight.dtype)
    upper, _ = jax.lax.scan(mixed, upper, (model.layout.multipliers, shares))
    index = model.layout.multipliers
    for k in range(index.shape[0] - 1):
        both = (shares[k] * cells.content)[None] / cells.multipliers[k + 1 :]
        upper = upper.at[jnp.broadcast_to(index[k], both.shape), index[k + 1 :]].add(both)
    return (found + upper + upper.T)[:-1, :-1]


def _with_pairs_of_rows(
    model: HistFactory,
    cells: _Cells,
    weighted: Float[Array, "rows bins"],
    found: Float[Array, "params params"],
) -> Float[Array, "params params"]:
    """The second derivatives of two normsys of one sample, and of a normsys with a histosys; two histosys have none.

    A factor is the same in all bins of a channel, so the bins are added up first.
    """
    layout, norms = model.layout, cells.logarithmic.shape[0]
    channels = cells.logarithmic.shape[1]
    sums = jax.ops.segment_sum(weighted.T, layout.channel, channels, indices_are_sorted=True).T
    none = jnp.zeros((1, channels), dtype=sums.dtype)
    nowhere = jnp.asarray([found.shape[0] - 1], dtype=jnp.int32)  # the row that is cut off
    of_norm = jnp.concatenate([layout.norm_parameter, nowhere])[layout.norm_rows]
    of_shape = jnp.concatenate([layout.shape_parameter, nowhere])[layout.shape_rows]
    factors = jnp.concatenate([cells.logarithmic, none])[layout.norm_rows]
    others = jnp.concatenate([sums[:norms], none])[layout.norm_rows]
    shapes = jnp.concatenate([sums[norms:], none])[layout.shape_rows]
    both = jnp.einsum("sic,sjc->sij", factors, others)
    itself = jnp.eye(both.shape[1], dtype=bool)
    found = found.at[of_norm[:, :, None], of_norm[:, None, :]].add(jnp.where(itself, 0.0, both))
    one = jnp.einsum("sic,sjc->sij", factors, shapes)
    found = found.at[of_norm[:, :, None], of_shape[:, None, :]].add(one)
    return found.at[of_shape[:, :, None], of_norm[:, None, :]].add(jnp.swapaxes(one, 1, 2))


def _parameter(model: HistFactory) -> Int[Array, " rows"]:
    """The parameter of each row, of normsys, then of histosys; one may have both."""
    return jnp.concatenate([model.layout.norm_parameter, model.layout.shape_parameter])


def _sample(model: HistFactory) -> Int[Array, " rows"]:
    """The sample of each row."""
    return jnp.concatenate([model.layout.norm_sample, model.layout.shape_sample])


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
