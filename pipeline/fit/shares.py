"""How the data share the variance of a fitted parameter: every bin and every auxiliary measurement has its part.

The fitted parameters follow the data x by ``d theta = -H^-1 (d2(-ln L)/d theta dx) dx``, so the impact of a datum on
``v . theta`` is its standard deviation times the derivative of the fit with respect to it (A. Pinto et al.,
arXiv:2307.04007, section 3: the global observables of the constraint terms beside the bins). With ``w = H^-1 v`` and
the expected data m that is

    (w . dm_k) / sigma_k     for a Gaussian auxiliary measurement,
    (w . dm_k) / m_k sqrt(x_k)   for a count, in a bin or as an auxiliary measurement,

and all of them in quadrature are ``v^T H^-1 v``, but for ``sum_k (1 - x_k/m_k) w^T d2m_k w``: 0 on Asimov data.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pipeline.errors import nearest
from pipeline.fit.fits import FitResult, fit_with_solution
from pipeline.fit.hypotest import poi_of
from pipeline.likelihood import AnyTemplates, DenseTemplates, HistFactory


class Shares(NamedTuple):
    """The variance of a fitted parameter, or of a linear combination, and how the data share it.

    ``squares`` are the squared impacts of the bins, then of the auxiliary measurements. ``covariances`` are those with
    every fitted parameter.
    """

    variance: Float[Array, ""]
    squares: Float[Array, " data"]
    covariances: Float[Array, " params"]


def combination(model: HistFactory, coefficients: Mapping[str, float], what: str) -> Float[Array, " params"]:
    """Return the vector of a linear combination of parameters; without any coefficient that of the POI.

    Args:
        what: names who asks, in a message.

    Raises:
        ValueError: the model has no such parameter.
    """
    found = np.zeros(model.initial.size)
    if not coefficients:
        found[poi_of(model, what)] = 1.0
    for name, factor in coefficients.items():
        if name not in model.parameter_names:
            raise ValueError(
                f"{what}: no parameter '{name}' in the model; {nearest(name, model.parameter_names)}"
            )
        found[model.parameter_names.index(name)] = factor
    return jnp.asarray(found, dtype=model.initial.dtype)


def fit_with_shares(
    model: HistFactory,
    data: Float[Array, " data"],
    vector: Float[Array, " params"],
    *,
    templates: AnyTemplates | None = None,
) -> tuple[FitResult, Shares]:
    """Return a fit and the shares of ``vector . theta`` there, differentiable in data and templates."""
    dense = model.dense(templates)
    result, covariances = fit_with_solution(model, data, vector, templates=dense)
    squares = squared_impacts(model, dense, result.parameters, data, covariances)
    return result, Shares(vector @ covariances, squares, covariances)


def squared_impacts(
    model: HistFactory,
    dense: DenseTemplates,
    parameters: Float[Array, " params"],
    data: Float[Array, " data"],
    covariances: Float[Array, " params"],
) -> Float[Array, " data"]:
    """Return the squared impact of every datum, see the module.

    At the edge: 0 for a bin that expects no events, and for a constraint term that is switched off.
    """
    expected, along = jax.jvp(lambda p: model.expected_data(p, dense), (parameters,), (covariances,))
    terms, bins = model.constraints, jnp.ones(sum(model.bins), dtype=bool)
    counted = jnp.concatenate([bins, terms.is_poisson]) & (expected > 0)
    measured = jnp.concatenate([~bins, ~terms.is_poisson & terms.is_on])
    width = jnp.concatenate([jnp.ones_like(data, shape=bins.shape), dense.width])
    of_counts = data / jnp.where(counted, expected, 1.0) ** 2
    of_measured = 1.0 / jnp.where(measured, width, 1.0) ** 2
    weight = jnp.where(counted, of_counts, jnp.where(measured, of_measured, 0.0))
    squares: Float[Array, " data"] = along**2 * weight
    return squares


def is_of_bins(model: HistFactory) -> Bool[Array, " data"]:
    """Return which data are counts of the channels."""
    bins = sum(model.bins)
    return jnp.arange(bins + model.constraints.parameter.size) < bins


def is_of_parameters(model: HistFactory, names: Collection[str]) -> Bool[Array, " data"]:
    """Return which data are auxiliary measurements of these parameters; a name stands for all bins of one."""
    chosen = jnp.asarray(are_among(model, names))[model.constraints.parameter]
    return jnp.concatenate([jnp.zeros(sum(model.bins), dtype=bool), chosen & model.constraints.is_on])


def are_among(model: HistFactory, names: Collection[str]) -> Bool[np.ndarray, " params"]:
    """Return which parameters have one of these names, or one followed by the number of a bin."""
    found = [name in names or without_bin(name) in names for name in model.parameter_names]
    return np.asarray(found, dtype=bool)


def without_bin(name: str) -> str:
    """Return the name of a parameter of a single bin without the number of that, as pyhf writes it."""
    base, opened, _ = name.rpartition("[")
    return base if opened and name.endswith("]") else name
