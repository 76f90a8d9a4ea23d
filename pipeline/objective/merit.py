"""The analysis's own number: a function of sums over all events, and of the free parameters directly.

What a fit of templates is to a measurement this is to the design of an instrument: the sums are moments of residuals,
detected energy or decisions, the number a resolution, and a cost depends on the parameters without any event.
"""

from collections.abc import Callable, Mapping

from jaxtyping import Array, Float

from pipeline.objective.value import ObjectiveValue, without_fit

Sums = Mapping[str, Float[Array, " bins"]]


def merit(sums: Sums, *, function: Callable[[Sums], Float[Array, ""]]) -> ObjectiveValue:
    """`Analysis.merit` at a point, `function`, of the channels that are not in the fit."""
    return without_fit(function(sums))
