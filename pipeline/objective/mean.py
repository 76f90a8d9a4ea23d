"""The mean of a quantity over the selected events: a ratio of two sums, each of which adds over chunks."""

from pipeline.config.quantities import Mean
from pipeline.objective.signature import Inputs, value_of
from pipeline.objective.value import ObjectiveValue, without_fit


@value_of.register
def mean(options: Mean, inputs: Inputs) -> ObjectiveValue:
    """Return ``sum_i w_i x_i / sum_i w_i`` over events and samples, of two channels that are not in the fit.

    ``channel`` holds weights times values, ``events`` the weights. Without any event it is not finite, and refused.
    """
    return without_fit(inputs.sums[options.channel].sum() / inputs.sums[options.events].sum())
