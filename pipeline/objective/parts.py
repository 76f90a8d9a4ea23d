"""What a group of systematics, or the events of the data, contribute to an uncertainty."""

import jax.numpy as jnp

from pipeline.config.quantities import UncertaintyPart
from pipeline.fit.hypotest import root
from pipeline.fit.shares import combination, fit_with_shares, is_of_bins, is_of_parameters
from pipeline.objective.signature import Inputs, value_of
from pipeline.objective.value import ObjectiveValue, with_fit


@value_of.register
def uncertainty_part(options: UncertaintyPart, inputs: Inputs) -> ObjectiveValue:
    """Return a group's part of the uncertainty on the POI, another parameter, or a combination, on Asimov data.

    ``sqrt(sum_k impact_k^2)`` over the auxiliary measurements of the group, or over the bins for the part of the data
    (``pipeline.fit.shares``; arXiv:2307.04007): all parts in quadrature are ``poi_uncertainty``. The derivative is
    total, as there. At the edge: 0 with derivative 0 for a group that does nothing; NaN and not converged where
    nothing determines the POI.
    """
    model, templates = inputs.fit
    what = f"objective {options.kind!r}"
    if options.sources is None:
        raise ValueError(
            f"{what}: which parameters group {options.group!r} has, only a run says; give sources"
        )
    vector = combination(model, options.coefficients, what)
    dense = model.dense(templates)
    result, shares = fit_with_shares(
        model, model.expected_data(model.initial, dense), vector, templates=dense
    )
    own = is_of_parameters(model, options.sources) if options.sources else is_of_bins(model)
    determined = (shares.variance > 0) & ~jnp.any(result.flat & (vector != 0))
    value = root(jnp.sum(jnp.where(own, shares.squares, 0.0)))
    return with_fit(jnp.where(determined, value, jnp.nan), result)
