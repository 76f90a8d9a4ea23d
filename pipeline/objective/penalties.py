"""Penalties that keep an optimised fit physical: 0 where all is well, growing with the square of the excess.

An optimiser left alone finds fits that look precise because they are wrong: nuisance parameters that the data seem
to measure far better than anybody knows them, bins whose simulated events are too few. Each penalty is a sum over
what it looks at of ``max(0, excess)^2``, the excess relative to what is allowed; differentiable once everywhere.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pipeline.config.objective import ExpectedEvents, McStatistics, Overconstrained, Pulls
from pipeline.fit.hypotest import conditional_fit, poi_of
from pipeline.likelihood import HistFactory
from pipeline.objective.precision import expected_covariance, place_of
from pipeline.objective.signature import Inputs, value_of
from pipeline.objective.value import ObjectiveValue, with_fit, without_fit


def excess(relative: Float[Array, " entries"]) -> Float[Array, ""]:
    """Return ``sum max(0, x)^2``."""
    return jnp.sum(jnp.maximum(relative, 0.0) ** 2)


def _watched(model: HistFactory, names: Sequence[str], what: str) -> Bool[Array, " auxdata"]:
    """Return Gaussian constraint terms to look at; without names those that are not of single bins."""
    terms = model.constraints
    normal = ~terms.is_poisson & terms.is_on
    if not names:
        return normal & ~terms.follows_width
    chosen = np.zeros(model.initial.size, dtype=bool)
    chosen[[place_of(model, name, what) for name in names]] = True
    return normal & jnp.asarray(chosen)[terms.parameter]


@value_of.register
def overconstrained(options: Overconstrained, inputs: Inputs) -> ObjectiveValue:
    """Return the penalty for nuisance parameters that the fit constrains below ``floor`` of their width before it.

    Excess ``1 - r/floor`` with ``r = sqrt((I^-1)_jj) / sigma_j``, I the information expected at the initial parameters.
    ``parameters``: those to look at, by name; absent: all with a Gaussian constraint but the statistical ones of
    single bins.
    """
    model, templates = inputs.fit
    watched = _watched(model, options.parameters or (), "penalty 'overconstrained'")
    dense = model.dense(templates)
    variance = jnp.diagonal(expected_covariance(model, dense))[model.constraints.parameter]
    used = watched & ~(variance == 0)  # a fixed parameter has variance 0
    ratio = jnp.sqrt(jnp.where(used, variance, 1.0)) / jnp.where(used, dense.width, 1.0)
    return without_fit(excess(jnp.where(used, 1.0 - ratio / options.floor, 0.0)))


@value_of.register
def pulls(options: Pulls, inputs: Inputs) -> ObjectiveValue:
    """Return the penalty for pulls beyond ``most`` widths, with the POI held at ``mu``.

    The fit is to Asimov data. On its own Asimov data a free fit pulls nothing; with the signal strength held
    at another value, the pulls say how far nuisance parameters must move to pass for the signal. The excess
    is ``|p|/most - 1``.
    """
    model, templates = inputs.fit
    poi = poi_of(model, "penalty 'pulls'")
    watched = _watched(model, options.parameters or (), "penalty 'pulls'")
    dense = model.dense(templates)
    truth = model.initial
    held = conditional_fit(model, model.expected_data(truth, dense), options.mu, dense, init=truth)
    moved = (held.parameters - truth)[model.constraints.parameter]
    watched = watched & (model.constraints.parameter != poi)
    pull = jnp.where(watched, moved / jnp.where(watched, dense.width, 1.0), 0.0)
    return with_fit(excess(jnp.abs(pull) / options.most - 1.0), held)


@value_of.register
def expected_events(options: ExpectedEvents, inputs: Inputs) -> ObjectiveValue:
    """Return the penalty for bins that expect fewer than ``least`` events initially: excess ``1 - nu/least``."""
    model, templates = inputs.fit
    expected = model.expected_data(model.initial, templates, include_auxdata=False)
    return without_fit(excess(1.0 - expected / options.least))


@value_of.register
def mc_statistics(options: McStatistics, inputs: Inputs) -> ObjectiveValue:
    """Return the penalty for bins whose simulated events leave a relative statistical uncertainty above ``most``.

    Excess ``delta/most - 1`` with the delta of pyhf's staterror, so the model must have one. At the edge: an empty
    bin has no such uncertainty; ``expected_events`` is the penalty for it.
    """
    model, templates = inputs.fit
    terms = model.constraints
    if "staterror" not in model.kinds:
        raise ValueError(
            "penalty 'mc_statistics': the model has no staterror; set model.mc_statistics: true or remove the penalty"
        )
    dense = model.dense(templates)
    statistical = ~terms.is_poisson & terms.follows_width & dense.valid
    return without_fit(excess(jnp.where(statistical, dense.width / options.most - 1.0, 0.0)))
