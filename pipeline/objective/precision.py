"""How precisely the fit measures: uncertainties and covariances on Asimov data."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pipeline.config.quantities import ExpectedVariance, GeneralisedVariance, PoiUncertainty, ProfileInterval
from pipeline.errors import nearest
from pipeline.fit import FitResult, expected_information, fit_with_covariance, inverse_free
from pipeline.fit.crossing import falling_root
from pipeline.fit.hypotest import poi_of, q_asimov, root
from pipeline.likelihood import AnyTemplates, HistFactory
from pipeline.objective.signature import Inputs, value_of
from pipeline.objective.value import ObjectiveValue, with_fit, without_fit

FURTHEST = 1e3


def place_of(model: HistFactory, parameter: str, what: str) -> int:
    """Place of a parameter that an option names."""
    if parameter not in model.parameter_names:
        raise ValueError(
            f"{what}: no parameter '{parameter}' in the model; {nearest(parameter, model.parameter_names)}"
        )
    return model.parameter_names.index(parameter)


@value_of.register
def poi_uncertainty(options: PoiUncertainty, inputs: Inputs) -> ObjectiveValue:
    """Return uncertainty on the POI from a fit to its own Asimov data, all nuisance parameters profiled.

    Or on another parameter, or a linear combination c of several, then ``sigma = sqrt(c^T H^-1 c)``.

    ``sigma = sqrt((H^-1)_poi,poi)``, H the Hessian of ``-ln L`` at the fitted point, data = expectation at
    the model's initial parameters (arXiv:1007.1727, section 3.2 for the Asimov data, eq. 27 for the inverse
    of the second derivatives). The derivative is total: data, fitted point and Hessian all move with the
    templates. At the edge: NaN and not converged where H is not positive definite (a POI without effect on
    any bin).
    """
    model, templates = inputs.fit
    what, coefficients = "objective 'poi_uncertainty'", options.coefficients
    places = [place_of(model, name, what) for name in coefficients] or [poi_of(model, what)]
    result, covariance = _asimov_fit(model, templates, places)
    factors = jnp.asarray([*coefficients.values()] or [1.0], dtype=covariance.dtype)
    variance = factors @ covariance @ factors
    positive = variance > 0
    return with_fit(jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), jnp.nan), result)


def _asimov_fit(
    model: HistFactory, templates: AnyTemplates, places: Sequence[int]
) -> tuple[FitResult, Float[Array, "chosen chosen"]]:
    """Return the fit to the model's own Asimov data, and the covariance of some parameters."""
    dense = model.dense(templates)
    data = model.expected_data(model.initial, dense)
    result, covariance = fit_with_covariance(model, data, places, templates=dense)
    determined = ~jnp.any(result.flat[jnp.asarray(places)])
    return eqx.tree_at(lambda r: r.converged, result, result.converged & determined), covariance


@value_of.register
def profile_interval(options: ProfileInterval, inputs: Inputs) -> ObjectiveValue:
    """Return half the width of the POI's profile-likelihood interval on Asimov data, as MINOS gives it.

    Between the two values with ``-2 ln(L(mu, theta_hat_hat) / L(mu_hat, theta_hat)) = 1`` (arXiv:1007.1727, eq. 7
    for the ratio), data = expectation at the model's initial parameters; whatever the bounds of the POI, as the exact
    judge has it. At the edge: not converged where the ratio stays below 1 `FURTHEST` times as far as the bound.
    """
    model, templates = inputs.fit
    poi = poi_of(model, "objective 'profile_interval'")
    dense = model.dense(templates)
    truth = model.initial
    low, high = (model.bounds[poi, side].astype(truth.dtype) for side in (0, 1))

    def distance(side: tuple[Float[Array, ""], Float[Array, ""]]) -> tuple[Array, Array]:
        sign, span = side

        def excess(x: Float[Array, ""]) -> tuple[Float[Array, ""], Bool[Array, ""]]:
            q, held = q_asimov(model, truth, truth[poi] + sign * x, dense)
            return 1.0 - root(q), held.converged  # the root of q is nearly linear

        return falling_root(excess, jnp.zeros_like(span), span, furthest=FURTHEST)

    sides = (jnp.asarray([1.0, -1.0], dtype=truth.dtype), jnp.stack([high - truth[poi], truth[poi] - low]))
    distances, found = jax.lax.map(distance, sides)
    return without_fit(jnp.mean(distances), jnp.all(found))


@value_of.register
def generalised_variance(options: GeneralisedVariance, inputs: Inputs) -> ObjectiveValue:
    """Return the determinant of the covariance of some parameters, from a fit to Asimov data as in ``poi_uncertainty``.

    ``det (H^-1)_chosen`` (S. S. Wilks, Biometrika 24 (1932) 471): the squared volume of their common error
    ellipsoid; of the POI alone without ``parameters``, then its variance. At the edge: 0 with one of them fixed or
    at a bound.
    """
    what = "objective 'generalised_variance'"
    model, templates = inputs.fit
    places = [place_of(model, name, what) for name in options.parameters or ()] or [poi_of(model, what)]
    result, covariance = _asimov_fit(model, templates, places)
    return with_fit(jnp.linalg.det(covariance), result)


@value_of.register
def inferno(options: ExpectedVariance, inputs: Inputs) -> ObjectiveValue:
    """Return the variance of a parameter that is expected at the Asimov point.

    It is ``U_kk = (I^-1)_kk`` of INFERNO, of the POI where ``parameter`` is absent. I is the information that
    data of the model's initial parameters are expected to hold, constraint terms included (P. de Castro, T.
    Dorigo, arXiv:1806.04743, algorithm 1). No fit is made, which makes it the cheapest of the precisions;
    equal to ``poi_uncertainty ** 2`` where the fit to Asimov data returns the initial parameters. At the
    edge: NaN and not converged where I is singular.
    """
    what = "objective 'inferno'"
    model, templates = inputs.fit
    chosen = options.parameter
    place = poi_of(model, what) if chosen is None else place_of(model, chosen, what)
    covariance = expected_covariance(model, templates)
    return without_fit(covariance[place, place])


def expected_covariance(model: HistFactory, templates: AnyTemplates) -> Float[Array, "params params"]:
    """Return the inverse of the expected information at the model's initial parameters, over those not fixed."""
    dense = model.dense(templates)
    free: Bool[Array, " params"] = ~model.fixed_parameters(dense)
    return inverse_free(expected_information(model, model.initial, dense), free)
