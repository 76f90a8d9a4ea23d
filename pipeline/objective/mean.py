"""The mean of a quantity over the selected events: a ratio of two sums, each of which adds over chunks."""

from collections.abc import Mapping

from jaxtyping import Array, Float

from pipeline.objective.value import ObjectiveValue, without_fit


def mean(sums: Mapping[str, Float[Array, " bins"]], *, channel: str, events: str) -> ObjectiveValue:
    """``sum_i w_i x_i / sum_i w_i`` over events and samples, of two channels that are not in the fit.

    `channel` holds weights times values, `events` the weights. Without any event it is not finite, and refused.
    """
    return without_fit(sums[channel].sum() / sums[events].sum())
