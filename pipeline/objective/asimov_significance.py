"""Counting significance, the background known exactly or to a given uncertainty; no fit."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.config.quantities import AsimovSignificance
from pipeline.fit.hypotest import poi_of
from pipeline.objective.signature import Inputs, value_of
from pipeline.objective.value import ObjectiveValue, without_fit


def counting_significance(
    signal: Float[Array, " bins"],
    background: Float[Array, " bins"],
    uncertainty: Float[Array, " bins"] | None = None,
    *,
    series_below: float = 0.01,
) -> Float[Array, " bins"]:
    """Return median discovery significance of each bin, for a background of standard deviation ``uncertainty``.

    ``Z = sqrt(2 ((S + B) ln((S + B) (B + s^2) / (B^2 + (S + B) s^2)) - B^2/s^2 ln(1 + s^2 S / (B (B + s^2)))))``
    (G. Cowan, "Discovery sensitivity for a counting experiment with background uncertainty", 2012; the
    background measured by counting, as pyhf's shapesys), without uncertainty arXiv:1007.1727, eq. 97. Here as
    ``Z = S sqrt((phi(t) - k phi(k t)) / B)`` with ``t = S/B``, ``k = s^2 / (B + s^2)`` and
    ``phi(t) = 2 ((1 + t) ln(1 + t) - t) / t^2``, ``phi(0) = 1``: smooth through S = 0, where Z = 0 and
    ``dZ/dS = sqrt((1 - k) / B)``, and negative for negative S. At the edge: 0 with zero derivative for B <= 0, where
    the formula diverges and a bin without expected background can support no claim, and for S <= -B.
    ``series_below``: for smaller ``|t|`` phi is its Taylor series, because the difference loses digits there; at 0.01
    the eight terms kept and the difference both are good to 1e-13.
    """
    possible = (background > 0) & (signal + background > 0)
    safe = jnp.where(possible, background, 1.0)
    ratio = jnp.where(possible, signal / safe, 0.0)
    reduced = _phi(ratio, series_below)
    if uncertainty is not None:
        known = uncertainty**2 / (safe + uncertainty**2)
        reduced = reduced - known * _phi(known * ratio, series_below)
    return jnp.where(possible, signal * jnp.sqrt(reduced / safe), 0.0)


def _phi(ratio: Float[Array, " bins"], series_below: float) -> Float[Array, " bins"]:
    """Return ``2 ((1 + t) ln(1 + t) - t) / t^2``."""
    small = jnp.abs(ratio) < series_below
    t = jnp.where(small, 1.0, ratio)
    closed = 2.0 * ((1.0 + t) * jnp.log1p(t) - t) / t**2
    series = jnp.zeros_like(ratio)
    for k in range(9, 1, -1):
        series = 2.0 / (k * (k - 1)) - jnp.where(small, ratio, 0.0) * series
    return jnp.where(small, series, closed)


@value_of.register
def asimov_significance(options: AsimovSignificance, inputs: Inputs) -> ObjectiveValue:
    """Return counting significance without the model's systematic uncertainties, of all bins in quadrature.

    Signal are the samples that carry the POI's normfactor, at POI = 1 and the initial values of everything else;
    ``background_uncertainty`` is relative, the same in each bin and independent between them. At the edge: without
    signal in any bin Z = 0 with the derivative of one significance shared evenly, ``1 / sqrt(bins)`` of each bin's
    own (one of the subgradients of the root).
    """
    model, templates = inputs.fit
    parameters = model.initial.at[poi_of(model, "objective 'asimov_significance'")].set(1.0)
    yields = model.expected_by_sample(parameters, templates)
    signal = jnp.sum(jnp.where(model.layout.signal, yields, 0.0), axis=0)
    background = jnp.sum(jnp.where(model.layout.signal, 0.0, yields), axis=0)
    relative = options.background_uncertainty
    uncertainty = None if relative is None else relative * background
    z = counting_significance(signal, background, uncertainty)
    square = jnp.sum(z**2)
    even = jnp.sum(z) / jnp.sqrt(jnp.asarray(z.size, dtype=z.dtype))
    return without_fit(jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), even))
