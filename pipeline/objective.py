"""Objectives: templates -> the one number that an optimisation improves.

Every objective has the signature ``f(model, templates, *, options) -> ObjectiveValue`` and is differentiable
in the templates. It never hides a fit that failed: ``converged`` comes back with the value, and the caller refuses
it.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Bool, Float, Int

from pipeline.fit import FitResult, fit_with_variance
from pipeline.hypotest import expected_upper_limit, poi_of, q_asimov, root
from pipeline.likelihood import HistFactory, Templates


class ObjectiveValue(eqx.Module):
    """The value of an objective and the state of its fit (a counting formula has converged with EDM 0)."""

    value: Float[Array, ""]
    converged: Bool[Array, ""]
    edm: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    steps: Int[Array, ""]


@dataclass(frozen=True)
class Objective:
    """An objective with the direction of improvement and its name in tables."""

    function: Callable[..., ObjectiveValue]
    sense: Literal["minimise", "maximise"]
    label: str
    unit: str

    def of(self, options: Mapping[str, float]) -> Callable[[HistFactory, Templates], ObjectiveValue]:
        """The function of model and templates, its options filled in."""
        return functools.partial(self.function, **options)


def _with_fit(value: Float[Array, ""], result: FitResult) -> ObjectiveValue:
    """A value that is as good as its fit."""
    converged = result.converged & jnp.isfinite(value)
    return ObjectiveValue(value, converged, result.edm, result.gradient_norm, result.steps)


def poi_uncertainty(model: HistFactory, templates: Templates) -> ObjectiveValue:
    """Uncertainty on the POI from a fit to its own Asimov data, all nuisance parameters profiled.

    ``sigma = sqrt((H^-1)_poi,poi)``, H the Hessian of ``-ln L`` at the fitted point, data = expectation at
    the model's initial parameters (arXiv:1007.1727, section 3.2 for the Asimov data, eq. 27 for the inverse
    of the second derivatives). The derivative is total: data, fitted point and Hessian all move with the
    templates. At the edge: NaN and not converged where H is not positive definite (a POI without effect on
    any bin).
    """
    poi = poi_of(model, "objective 'poi_uncertainty'")
    dense = model.dense(templates)
    asimov = model.expected_data(model.initial, dense)
    result, variance = fit_with_variance(model, asimov, poi, templates=dense)
    positive = variance > 0
    sigma = jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), jnp.nan)
    return _with_fit(sigma, result)


def discovery(model: HistFactory, templates: Templates, *, mu: float = 1.0) -> ObjectiveValue:
    """Expected significance with which the background-only hypothesis is rejected, ``Z = sqrt(q0)``.

    ``q0 = -2 ln L(0, theta_hat_hat) + 2 ln L(mu, theta_0)`` on the Asimov data of POI = ``mu`` (arXiv:1007.1727,
    eq. 12 and 52); the free fit to Asimov data is its own truth, so one conditional fit is enough. Z does not
    underflow, the p-value of ten sigma would. At the edge: without signal Z = 0 with derivative 0.
    """
    poi = poi_of(model, "objective 'discovery'")
    dense = model.dense(templates)
    q0, conditional = q_asimov(model, model.initial.at[poi].set(mu), 0.0, dense)
    return _with_fit(root(q0), conditional)


def cls(model: HistFactory, templates: Templates, *, mu: float = 1.0) -> ObjectiveValue:
    """``ln CLs`` with which the signal strength ``mu`` is expected to be excluded when there is no signal.

    ``CLs = 2 Phi(-sqrt(q_mu))`` on the Asimov data of POI = 0, whose CLb is 1/2 (arXiv:1007.1727,
    section 3.6; for other data see ``hypotest``). The logarithm, because CLs of 1e-300 has no derivative. At the
    edge: 0 with derivative 0 for a POI without effect.
    """
    poi = poi_of(model, "objective 'cls'")
    dense = model.dense(templates)
    q, conditional = q_asimov(model, model.initial.at[poi].set(0.0), mu, dense)
    return _with_fit(log_ndtr(-root(q)) + np.log(2.0), conditional)


def upper_limit(model: HistFactory, templates: Templates, *, level: float = 0.05) -> ObjectiveValue:
    """Upper limit on the POI expected without signal, at CLs = ``level`` (``expected_upper_limit``, the median).

    At the edge: not converged where the limit is beyond the POI's bounds.
    """
    poi_of(model, "objective 'upper_limit'")
    limit = expected_upper_limit(model, templates, level=level, bands=np.zeros(1))
    value, zero = limit.value[0], jnp.zeros((), dtype=limit.value.dtype)
    converged = limit.converged[0] & jnp.isfinite(value)
    return ObjectiveValue(value, converged, zero, zero, jnp.zeros((), dtype=jnp.int32))


def counting_significance(
    signal: Float[Array, " bins"], background: Float[Array, " bins"], *, series_below: float = 0.01
) -> Float[Array, " bins"]:
    """Median discovery significance of each bin, the background known exactly.

    ``Z = sqrt(2 ((S + B) ln(1 + S/B) - S)) = S sqrt(phi(S/B) / B)`` (arXiv:1007.1727, eq. 97), in the second
    form with ``phi(t) = 2 ((1 + t) ln(1 + t) - t) / t^2``, ``phi(0) = 1``: smooth through S = 0, where Z = 0
    and ``dZ/dS = 1 / sqrt(B)``, and negative for negative S. At the edge: 0 with zero derivative for B <= 0,
    where the formula diverges and a bin without expected background can support no claim, and for S <= -B.
    ``series_below``: for smaller ``|S/B|`` phi is its Taylor series, because the difference loses digits
    there; at 0.01 the eight terms kept and the difference both are good to 1e-13.
    """
    possible = (background > 0) & (signal + background > 0)
    safe = jnp.where(possible, background, 1.0)
    ratio = jnp.where(possible, signal / safe, 0.0)
    small = jnp.abs(ratio) < series_below
    t = jnp.where(small, 1.0, ratio)
    closed = 2.0 * ((1.0 + t) * jnp.log1p(t) - t) / t**2
    series = jnp.zeros_like(ratio)
    for k in range(9, 1, -1):
        series = 2.0 / (k * (k - 1)) - jnp.where(small, ratio, 0.0) * series
    return jnp.where(possible, signal * jnp.sqrt(jnp.where(small, series, closed) / safe), 0.0)


def asimov_significance(model: HistFactory, templates: Templates) -> ObjectiveValue:
    """Counting significance without systematic uncertainties, `counting_significance` summed in quadrature.

    Over all bins of all channels; signal are the samples that carry the POI's normfactor, at POI = 1 and the
    initial values of everything else. At the edge: without signal in any bin Z = 0 with the derivative of one
    significance shared evenly, ``1 / sqrt(bins)`` of each bin's own (one of the subgradients of the root).
    """
    parameters = model.initial.at[poi_of(model, "objective 'asimov_significance'")].set(1.0)
    yields = model.expected_by_sample(parameters, templates)
    signal = jnp.sum(jnp.where(model.layout.signal, yields, 0.0), axis=0)
    background = jnp.sum(jnp.where(model.layout.signal, 0.0, yields), axis=0)
    z = counting_significance(signal, background)
    square = jnp.sum(z**2)
    even = jnp.sum(z) / jnp.sqrt(jnp.asarray(z.size, dtype=z.dtype))
    value = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), even)
    zero = jnp.zeros_like(value)
    return ObjectiveValue(value, jnp.isfinite(value), zero, zero, jnp.zeros((), dtype=jnp.int32))


OBJECTIVES: dict[str, Objective] = {
    "poi_uncertainty": Objective(poi_uncertainty, "minimise", "uncertainty on the parameter of interest", ""),
    "discovery": Objective(discovery, "maximise", "expected discovery significance", "sigma"),
    "cls": Objective(cls, "minimise", "logarithm of the expected CLs", ""),
    "upper_limit": Objective(upper_limit, "minimise", "expected upper limit", ""),
    "asimov_significance": Objective(
        asimov_significance, "maximise", "Asimov counting significance", "sigma"
    ),
}
"""The objectives by their name in the configuration."""
