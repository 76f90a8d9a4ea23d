"""What an analysis can discover of several signals at once: the geometric mean of their significances."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.config.quantities import Discovery, JointSignificance
from pipeline.likelihood import AnyTemplates, HistFactory
from pipeline.objective.asimov_significance import counting_significance
from pipeline.objective.precision import place_of
from pipeline.objective.sensitivity import discovery
from pipeline.objective.signature import Inputs, value_of
from pipeline.objective.value import ObjectiveValue, together, without_fit

WHAT = "objective 'joint_significance'"


@value_of.register
def joint_significance(options: JointSignificance, inputs: Inputs) -> ObjectiveValue:
    """Return ``(Z_1 Z_2 ... Z_n)^(1/n)`` of n signals, each with the others in its background (arXiv:2601.07756).

    ``fitted``: ``Z_i`` is ``discovery`` with the i-th norm factor as the POI and the others free; else the counting
    significance of all bins in quadrature (arXiv:1007.1727, eq. 97), the others at their nominal values. As good as the
    worst of the fits. At the edge: 0 with derivative 0 where a signal has no significance.
    """
    model, templates = inputs.fit
    parts = [
        discovery(Discovery(), inputs._replace(model=_of(model, name)))
        if options.fitted
        else without_fit(_counting(model, templates, name))
        for name in options.signals or ()
    ]
    each = jnp.stack([part.value for part in parts])
    possible = jnp.all(each > 0)
    mean = jnp.exp(jnp.mean(jnp.log(jnp.where(possible, each, 1.0))))
    return together(jnp.where(possible, mean, jnp.where(jnp.all(jnp.isfinite(each)), 0.0, jnp.nan)), parts)


def _of(model: HistFactory, name: str) -> HistFactory:
    """Return the model with another parameter of interest."""
    return dataclasses.replace(model, poi_index=place_of(model, name, WHAT))


def _counting(model: HistFactory, templates: AnyTemplates, name: str) -> Float[Array, ""]:
    place = place_of(model, name, WHAT)
    with_it, without = (
        model.expected_data(model.initial.at[place].set(strength), templates, include_auxdata=False)
        for strength in (1.0, 0.0)
    )
    square = jnp.sum(counting_significance(with_it - without, without) ** 2)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
