"""What a bin of a sample holds at a point, taken apart: a product of factors times a sum of shifts.

Also the gammas that fit best there, in closed form: a gamma acts in one bin, and where its likelihood is lowest with
all else as it is solves a quadratic equation (Barlow, Beeston, CPC 77 (1993) 219; Conway, arXiv:1103.0354).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pipeline.likelihood.histfactory import HistFactory
from pipeline.likelihood.stacked import DenseTemplates
from pipeline.likelihood.terms import poisson_logpdf


class YieldParts(NamedTuple):
    """F and D of every bin of every sample, which holds ``F D``, and how they change.

    ``rates`` are exact; in ``product`` (F), ``factors``, ``free`` and ``gammas`` a factor of 0 is nudged, so that a
    quotient is the product without it. ``logarithmic`` is ``dF/F`` of each channel-wide factor and ``relative`` its
    ``d2F/F``; ``slope`` and ``curve`` are the first and second derivatives of the coefficients of the histosys.
    """

    nll: Float[Array, ""]
    rates: Float[Array, " bins"]
    product: Float[Array, "samples bins"]
    content: Float[Array, "samples bins"]
    factors: Float[Array, "rows channels"]
    logarithmic: Float[Array, "rows channels"]
    relative: Float[Array, "rows channels"]
    slope: tuple[Float[Array, " shapes"], Float[Array, " shapes"]]
    curve: tuple[Float[Array, " shapes"], Float[Array, " shapes"]]
    free: Float[Array, "free samples bins"]
    gammas: Float[Array, "layers bins"]


def cells_at(
    model: HistFactory,
    parameters: Float[Array, " params"],
    data: Float[Array, " data"],
    dense: DenseTemplates,
    held: Bool[Array, " params"] | None = None,
) -> tuple[Float[Array, " params"], YieldParts]:
    """Return the point with its gammas where they fit best, and the cells there.

    Gammas that are ``held`` stay where they are; with None, all do.
    """
    multiplying, layout = model.multiplying, model.layout
    factors, rise, bend = _of_factors(model, parameters, dense)
    coefficients, slope, curve = twice(model.coefficients, parameters[layout.shape_parameter])
    content = dense.nominal + model.sum(dense.shifts(*coefficients))
    free = jnp.concatenate([parameters, jnp.ones(1, dtype=parameters.dtype)])[multiplying.free]
    without = model.product(factors)[:, layout.channel] * jnp.prod(free, axis=0)
    if held is not None:
        parameters = _relaxed(model, parameters, data, dense, held, without * content)
    gammas = gammas_of(model, parameters)
    rates = jnp.sum(without * multiplied(gammas, multiplying.gamma_acts) * content, axis=0)
    terms = model.constraint_logpdf(parameters, data[rates.size :], dense)
    divisors, free, gammas = nudged(factors), nudged(free), nudged(gammas)
    product = model.product(divisors)[:, layout.channel] * jnp.prod(free, axis=0)
    return parameters, YieldParts(
        nll=-jnp.sum(poisson_logpdf(data[: rates.size], rates)) - jnp.sum(terms),
        rates=rates,
        product=product * multiplied(gammas, multiplying.gamma_acts),
        content=content,
        factors=divisors,
        logarithmic=rise / divisors,
        relative=bend / divisors,
        slope=slope,
        curve=curve,
        free=free,
        gammas=gammas,
    )


def gammas_of(model: HistFactory, parameters: Float[Array, " params"]) -> Float[Array, "layers bins"]:
    """Return the gammas of each bin; 1 where there is none."""
    return jnp.concatenate([parameters, jnp.ones(1, dtype=parameters.dtype)])[model.multiplying.gamma]


def multiplied(
    gammas: Float[Array, "layers bins"], acts: Bool[Array, "layers samples bins"]
) -> Float[Array, "samples bins"]:
    """Return the product of the gammas that act on each bin of each sample."""
    return jnp.prod(jnp.where(acts, gammas[:, None], 1.0), axis=0)


def _of_factors(
    model: HistFactory, parameters: Float[Array, " params"], dense: DenseTemplates
) -> tuple[Float[Array, "rows channels"], Float[Array, "rows channels"], Float[Array, "rows channels"]]:
    """Return value, slope and curvature of the channel-wide factors, each in its own parameter."""
    found: tuple[Array, Array, Array] = twice(lambda p: model.factors(p, dense), parameters)
    return found


def twice(function: Callable[[Array], Any], at: Float[Array, "*params"]) -> tuple[Any, Any, Any]:
    """Return value, slope and curvature of a function whose rows each depend on their own parameter."""
    one = jnp.ones_like(at)

    def once(x: Array) -> Any:
        return jax.jvp(function, (x,), (one,))

    (value, slope), (_, curvature) = jax.jvp(once, (at,), (one,))
    return value, slope, curvature


def nudged(factors: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return factors with 0 replaced by the fourth root of the smallest number.

    A product without one or two of its factors is then a quotient, exact to rounding where they are 0, too.
    """
    least = float(np.finfo(factors.dtype).tiny) ** 0.25  # two of them do not underflow
    return jnp.where(jnp.abs(factors) < least, least, factors)


def _relaxed(
    model: HistFactory,
    parameters: Float[Array, " params"],
    data: Float[Array, " data"],
    dense: DenseTemplates,
    held: Bool[Array, " params"],
    yields: Float[Array, "samples bins"],
) -> Float[Array, " params"]:
    """Return the point with its gammas where they fit best, layer by layer; ``yields`` are those without any gamma."""
    layers = model.multiplying.gamma.shape[0]
    acts = model.multiplying.gamma_acts

    def of_layer(layer: Int[Array, ""] | int, point: Float[Array, " params"]) -> Float[Array, " params"]:
        own = acts[layer]
        others = gammas_of(model, point).at[layer].set(1.0)
        content = yields * multiplied(others, acts)
        inside = jnp.sum(jnp.where(own, content, 0.0), axis=0)
        outside = jnp.sum(jnp.where(own, 0.0, content), axis=0)
        return _with_layer(model, point, data, dense, held, layer, inside, outside)

    if layers == 0:
        return parameters
    if layers == 1:
        return of_layer(0, parameters)
    moved: Float[Array, " params"] = jax.lax.fori_loop(0, layers, of_layer, parameters)
    return moved


def _with_layer(
    model: HistFactory,
    point: Float[Array, " params"],
    data: Float[Array, " data"],
    dense: DenseTemplates,
    held: Bool[Array, " params"],
    layer: Int[Array, ""] | int,
    inside: Float[Array, " bins"],
    outside: Float[Array, " bins"],
) -> Float[Array, " params"]:
    """Return the point with one layer of gammas where they fit best; they multiply ``inside``, and not ``outside``."""
    terms, index = model.constraints, model.multiplying.gamma[layer]
    term = model.multiplying.gamma_term[layer]
    observed, auxdata = data[: inside.size], data[inside.size :]
    width, mean = (jnp.take(values, term, mode="clip") for values in (dense.width, auxdata))
    is_poisson, is_on = (jnp.take(values, term, mode="clip") for values in (terms.is_poisson, terms.is_on))
    best = best_of_normal(observed, inside, outside, width, mean)
    if terms.poisson.size:
        best = jnp.where(is_poisson, best_of_poisson(observed, inside, outside, width, mean), best)
    now, bounds = jnp.take(point, index, mode="clip"), jnp.take(model.bounds, index, axis=0, mode="clip")
    stays = jnp.take(held, index, mode="clip") | ~is_on | jnp.isnan(best)
    moved = jnp.where(stays, now, jnp.clip(best, bounds[:, 0], bounds[:, 1]))
    return point.at[index].set(moved, mode="drop")


def best_of_normal(
    observed: Float[Array, "*bins"],
    inside: Float[Array, "*bins"],
    outside: Float[Array, "*bins"],
    width: Float[Array, "*bins"],
    mean: Float[Array, "*bins"],
) -> Float[Array, "*bins"]:
    """Return the gamma of each bin that fits best with a normal constraint.

    It is where ``gamma A + C - n ln(gamma A + C) + (gamma - m)^2 / 2 w^2`` is lowest; A is ``inside``, C
    ``outside``.

    The rate u solves ``u^2 + u (q - C - m A) = n q``, ``q = (A w)^2``, whose positive root is the one, taken without
    cancellation; then ``gamma = m + w^2 A (n - u) / u = (u - C) / A``, of which the one is taken that loses fewer
    digits: what is off in gamma, times all events, is off in the Hessian. Without observed events it is ``m - w^2 A``.
    """
    q = (inside * width) ** 2
    half = 0.5 * (outside + mean * inside - q)
    root = jnp.sqrt(half**2 + observed * q)
    below = half < 0
    rate = jnp.where(below, observed * q / jnp.where(below, root - half, 1.0), half + root)
    usable = (observed > 0) & (rate > 0)
    some = jnp.where(usable, rate, 1.0)
    pull = jnp.where(usable, observed / some - 1.0, -1.0)
    by_pull = mean + width**2 * inside * pull
    by_rate = (some - outside) / jnp.where(inside == 0, 1.0, inside)
    is_better = usable & (inside > 0) & (some / inside < width**2 * inside * observed / some)
    return jnp.where((observed > 0) & (rate <= 0), jnp.nan, jnp.where(is_better, by_rate, by_pull))


def best_of_poisson(
    observed: Float[Array, "*bins"],
    inside: Float[Array, "*bins"],
    outside: Float[Array, "*bins"],
    factor: Float[Array, "*bins"],
    counted: Float[Array, "*bins"],
) -> Float[Array, "*bins"]:
    """Return the gamma of each bin that fits best with a Poisson constraint.

    It is where ``gamma A + C - n ln(gamma A + C) + gamma t - a ln gamma`` is lowest; A is ``inside``, C
    ``outside``, ``t`` the constraint's factor and ``a`` what it counted.

    That is the larger root of ``A (A + t) gamma^2 + (C (A + t) - A (n + a)) gamma = a C``; without observed
    events it is ``a / (A + t)``, and infinite where that has no minimum. NaN for an A of 0 or below that has
    events.
    """
    total = inside + factor
    lead, half = inside * total, 0.5 * (outside * total - inside * (observed + counted))
    root = jnp.sqrt(jnp.maximum(half**2 + lead * counted * outside, 0.0))
    above = half > 0
    larger = jnp.where(
        above,
        counted * outside / jnp.where(above, half + root, 1.0),
        (root - half) / jnp.where(lead > 0, lead, jnp.nan),
    )
    empty = jnp.where(total > 0, counted / jnp.where(total > 0, total, 1.0), jnp.inf)
    return jnp.where(observed > 0, jnp.where(inside > 0, larger, jnp.nan), empty)
