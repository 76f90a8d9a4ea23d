"""Explain why an objective has no number: the bounds of the parameter of interest cut it off."""

import functools

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtri
from jaxtyping import Array, Float

from pipeline.config.quantities import (
    ExpectedLimit,
    GeneralisedVariance,
    PoiUncertainty,
    ProfileInterval,
)
from pipeline.config.quantity import Quantity
from pipeline.fit.hypotest import poi_of, q_asimov, root
from pipeline.likelihood import AnyTemplates, DenseTemplates, HistFactory


@functools.singledispatch
def beyond_bounds(options: Quantity, model: HistFactory, templates: AnyTemplates | None = None) -> str | None:
    """Return why the number is not within the bounds of the POI, as a sentence, or None."""
    return None


@beyond_bounds.register
def _uncertainty(
    options: PoiUncertainty | GeneralisedVariance, model: HistFactory, templates: AnyTemplates | None = None
) -> str | None:
    if isinstance(options, PoiUncertainty) and options.coefficients:
        return None
    return _at_bound(model, "the Hessian says nothing")


@beyond_bounds.register
def _interval(
    options: ProfileInterval, model: HistFactory, templates: AnyTemplates | None = None
) -> str | None:
    return _at_bound(model, "there is no room to look for an end of the interval")


@beyond_bounds.register
def _limit(options: ExpectedLimit, model: HistFactory, templates: AnyTemplates | None = None) -> str | None:
    high = float(model.bounds[poi_of(model, "upper limit"), 1])
    needed = float(options.band - ndtri(options.level * jnp.exp(log_ndtr(float(options.band)))))
    reached = float(_root_of_q(model, model.dense(templates), jnp.asarray(0.0), jnp.asarray(high)))
    if reached >= needed:
        return None
    where, cure = _words(model)
    return f"{where}, and its upper limit at CLs = {options.level:g} is above {high:g}; {cure}"


def _at_bound(model: HistFactory, what_fails: str) -> str | None:
    poi = poi_of(model, "parameter of interest")
    if float(model.initial[poi]) not in (float(bound) for bound in model.bounds[poi]):
        return None
    where, cure = _words(model)
    return f"{where}: at a bound {what_fails}; {cure}"


def _words(model: HistFactory) -> tuple[str, str]:
    """Return what the POI is and where its bounds are, and what to do about them."""
    poi = poi_of(model, "parameter of interest")
    name, (low, high) = model.parameter_names[poi], (float(bound) for bound in model.bounds[poi])
    where = (
        f"the parameter of interest {name!r}, nominally {float(model.initial[poi]):g}, "
        f"has bounds [{low:g}, {high:g}]"
    )
    section = "theory" if model.stacking.modifiers.users("linear", name) else "normfactors"
    return where, f"widen `bounds` of {name!r} in model.{section}"


@eqx.filter_jit
def _root_of_q(
    model: HistFactory, dense: DenseTemplates, truth: Float[Array, ""], tested: Float[Array, ""]
) -> Float[Array, ""]:
    """Return the root of q_mu of a POI's value on Asimov data of another."""
    return root(q_asimov(model, model.initial.at[poi_of(model, "q")].set(truth), tested, dense)[0])
