"""Sums of objectives, and what is minimised: an objective with its penalties."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.config.objective import Objective
from pipeline.config.quantities import WeightedSum
from pipeline.objective.signature import Inputs, value_of
from pipeline.objective.value import ObjectiveValue, together


@value_of.register
def weighted_sum(options: WeightedSum, inputs: Inputs) -> ObjectiveValue:
    """Return ``sum_i w_i v_i`` of objectives, each as something to minimise: those to maximise enter negated.

    As good as the worst of its fits: converged where all are, with the largest EDM and gradient norm.
    """
    parts = [value_of(term.quantity, inputs) for term in options.terms]
    values = [term.factor * part.value for term, part in zip(options.terms, parts, strict=True)]
    return together(jnp.sum(jnp.stack(values)), parts)


def total(objective: Objective, inputs: Inputs) -> tuple[Float[Array, ""], ObjectiveValue]:
    """Return objective and weighted penalties, which are minimised, and the objective with the worst state of all."""
    found = value_of(objective.quantity, inputs)
    extra = [value_of(penalty, inputs) for penalty in objective.penalties]
    loss = objective.quantity.sign * found.value
    for options, penalty in zip(objective.penalties, extra, strict=True):
        loss = loss + options.weight * penalty.value
    return loss, together(found.value, [found, *extra])
