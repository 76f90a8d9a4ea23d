"""Cross-entropies: what classifiers are usually trained on, blind to systematic uncertainties; a baseline.

The functions give the loss of each event, from logits, so that no probability underflows. An analysis multiplies
it with the event's weight and observes the product in a channel that is not in the fit; templates add over chunks, and
so does the loss. The objective ``cross_entropy`` is that channel's sum.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pipeline.config.quantities import CrossEntropy
from pipeline.objective.signature import Inputs, value_of
from pipeline.objective.value import ObjectiveValue, without_fit


def binary_cross_entropy(
    logit: Float[Array, " events"], label: Float[Array, " events"]
) -> Float[Array, " events"]:
    """Return the binary cross-entropy ``-y ln p - (1 - y) ln(1 - p)`` of each event.

    The probability is ``p = 1 / (1 + exp(-logit))``; y is the label, 1 for signal. A label between 0 and 1 is
    a probability.

    Computed as ``ln(1 + exp(z)) - y z``, with z the logit (I. Goodfellow, Y. Bengio, A. Courville, Deep
    Learning, 2016, section 6.2.2.2): finite, with a finite derivative, for every finite logit.
    """
    return jax.nn.softplus(logit) - label * logit


def categorical_cross_entropy(
    logits: Float[Array, "events classes"], label: Int[Array, " events"]
) -> Float[Array, " events"]:
    """Return ``-ln p_y`` of each event, where y is the number of its class.

    The probabilities are ``p = softmax(logits)`` (Goodfellow et al., Deep Learning, 2016, section 6.2.2.3).
    """
    own = jnp.take_along_axis(logits, label[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(logits, axis=1) - own


@value_of.register
def cross_entropy(options: CrossEntropy, inputs: Inputs) -> ObjectiveValue:
    """Return the loss of all events: the sum of a channel that is not in the fit.

    The sum is over samples; the weights are the analysis's.
    """
    return without_fit(inputs.sums[options.channel].sum())
