"""The analysis's own number: a function of sums over all events, and of the free parameters directly.

What a fit of templates is to a measurement this is to the design of an instrument: the sums are moments of residuals,
detected energy or decisions, the number a resolution, and a cost depends on the parameters without any event.
"""

from pipeline.config.quantities import Merit
from pipeline.objective.signature import Inputs, value_of
from pipeline.objective.value import ObjectiveValue, without_fit


@value_of.register
def merit(options: Merit, inputs: Inputs) -> ObjectiveValue:
    """Return ``Analysis.merit`` at a point, of the channels that are not in the fit."""
    return without_fit(inputs.merit(inputs.sums))
