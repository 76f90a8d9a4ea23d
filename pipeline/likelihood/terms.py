"""The terms of the likelihood: Poisson bins, Gaussian constraints, and the widths of bin-by-bin constraints."""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Bool, Float

from pipeline.likelihood.layout import ConstraintLayout
from pipeline.likelihood.stacked import StackedTemplates


def poisson_logpdf(observed: Float[Array, "*shape"], rate: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return ``n ln r - r - ln Gamma(n + 1)``, pyhf's continuous Poisson.

    As ``n (ln(r/n) - (r/n - 1))`` and a constant of n, so that the difference of two rates near n keeps its digits
    for 1e18 counts, as a shapesys of relative uncertainty 1e-9 has. At the edge: for a rate of zero or below, 0
    observed gives ``-r`` (pyhf's value) and anything else ``-inf`` (the density is zero; pyhf gives NaN below zero).
    Gradients stay finite everywhere.
    """
    counted = (observed > 0) & (rate > 0)
    n, r = jnp.where(counted, observed, 1.0), jnp.where(counted, rate, 1.0)
    beyond = (r - n) / n
    near = jnp.abs(beyond) < 0.5
    logarithm = jnp.where(near, jnp.log1p(jnp.where(near, beyond, 0.0)), jnp.log(r / n))
    constant = n * jnp.log(n) - n - gammaln(n + 1.0)
    uncounted = jnp.where(observed == 0, -rate, -jnp.inf)
    return jnp.where(counted, n * (logarithm - beyond) + constant, uncounted)


def poisson_slopes(
    observed: Float[Array, "*shape"], rate: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Return first and second derivative in the rate of minus ``poisson_logpdf``: ``1 - n/r`` and ``n/r^2``.

    At the edge, for a rate of zero or below: 1 and 0.
    """
    positive = rate > 0
    ratio = jnp.where(positive, observed / jnp.where(positive, rate, 1.0), 0.0)
    return 1.0 - ratio, jnp.where(positive, ratio / jnp.where(positive, rate, 1.0), 0.0)


def normal_logpdf(
    observed: Float[Array, "*shape"], mean: Float[Array, "*shape"], sigma: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Return ``-(x - mu)^2 / (2 sigma^2) - ln sigma - ln(2 pi) / 2``."""
    constant = 0.5 * float(np.log(2.0 * np.pi))
    return -0.5 * ((observed - mean) / sigma) ** 2 - jnp.log(sigma) - constant


def relative_uncertainty(
    layout: ConstraintLayout,
    uncertainties: Float[Array, " uncertainties"],
    nominal: Float[Array, "samples bins"],
) -> tuple[Float[Array, " auxdata"], Bool[Array, " auxdata"]]:
    """Return the relative uncertainty of bin-by-bin parameters, ``sqrt(sum_s u_s^2) / sum_s n_s`` (1 where undefined).

    Summed over the samples that carry the staterror (Barlow-Beeston lite: Barlow, Beeston, CPC 77 (1993) 219;
    pyhf's ``staterror_builder``); a shapesys has one sample. Undefined for zero uncertainty or yield.
    """
    none = jnp.zeros(1, dtype=nominal.dtype)
    uncertainty = jnp.concatenate([none, uncertainties])[layout.uncertainty]
    total = jnp.sum(jnp.concatenate([none, jnp.ravel(nominal)])[layout.yields], axis=1)
    # pyhf calls a negative shapesys uncertainty invalid, while a staterror's sign is squared away
    uncertainty = jnp.where(layout.is_poisson[:, None] & (uncertainty < 0), 0.0, uncertainty)
    variance = jnp.sum(uncertainty**2, axis=1)
    valid = (variance > 0) & (total > 0)
    return jnp.sqrt(jnp.where(valid, variance, 1.0)) / jnp.where(valid, total, 1.0), valid


def with_fixed_bins(
    configured: Bool[Array, " params"], terms: ConstraintLayout, valid: Bool[Array, " auxdata"]
) -> Bool[Array, " params"]:
    """Return the configured mask, plus bin-by-bin parameters without a valid uncertainty (pyhf's ``fixed``)."""
    return configured.at[terms.parameter].set(configured[terms.parameter] | (terms.follows_fixed & ~valid))


def constraint_values(
    terms: ConstraintLayout, stacked: StackedTemplates
) -> tuple[Float[Array, " auxdata"], Float[Array, " auxdata"], Bool[Array, " auxdata"]]:
    """Return width (sigma, or Poisson factor 1 / sigma^2), auxdata and validity of every constraint."""
    relative, valid = relative_uncertainty(terms, stacked.uncertainties, stacked.nominal)
    from_templates = jnp.where(terms.is_poisson, 1.0 / relative**2, relative)
    width = jnp.where(terms.follows_width, from_templates, terms.width)
    auxdata = jnp.where(terms.follows_auxdata, from_templates, terms.auxdata)
    return width, auxdata, valid


def constraint_logpdf(
    terms: ConstraintLayout,
    values: Float[Array, " auxdata"],
    auxdata: Float[Array, " auxdata"],
    width: Float[Array, " auxdata"],
) -> Float[Array, " auxdata"]:
    """Return ``ln c_j(a_j | theta_j)`` of every constraint term at its parameter's value.

    0 for a term that is switched off.
    """
    found = normal_logpdf(auxdata, values, jnp.where(terms.is_poisson, 1.0, width))
    where = terms.poisson
    if where.size:
        found = found.at[where].set(poisson_logpdf(auxdata[where], (values * width)[where]))
    return jnp.where(terms.is_on, found, 0.0)
