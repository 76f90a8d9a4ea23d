"""Fully connected networks as free parameters of an analysis: ``weights_0``, ``biases_0``, ``weights_1``, ..."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.containers import Columns, Observation, Parameters
from pipeline.objective.cross_entropy import binary_cross_entropy


def start(key: jax.Array, sizes: Sequence[int]) -> dict[str, Array]:
    """Start values for layers of these sizes: normal, variance 2 / inputs (K. He et al., arXiv:1502.01852), bias 0."""
    made: dict[str, Array] = {}
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        key, own = jax.random.split(key)
        made[f"weights_{layer}"] = jax.random.normal(own, (inputs, outputs)) * (2.0 / inputs) ** 0.5
        made[f"biases_{layer}"] = jnp.zeros(outputs)
    return made


def outputs(
    p: Parameters, features: Float[Array, "events inputs"], activation: Callable[[Array], Array] = jax.nn.relu
) -> Float[Array, "events outputs"]:
    """Return outputs of the last layer, without an activation; between the layers there is one."""
    last = sum(name.startswith("weights_") for name in p.arrays) - 1
    values = features
    for layer in range(last + 1):
        values = values @ p.arrays[f"weights_{layer}"] + p.arrays[f"biases_{layer}"][None]
        values = values if layer == last else activation(values)
    return values


def observed(
    c: Columns, output: Float[Array, " events"], *, signal: float, background: float
) -> dict[str, Observation]:
    """Return ``output``, a classifier's output, and ``loss``, its cross-entropy.

    The observable of ``output`` is the sigmoid of the classifier's output; the cross-entropy is by the column
    ``label``.

    Args:
        signal, background: the events that each is normalised to; in the loss they count the same.
    """
    share = jnp.where(c.label > 0.5, 1.0 / signal, 1.0 / background)
    return {
        "output": Observation(weight=c.weight, value=jax.nn.sigmoid(output)),
        "loss": Observation(weight=c.weight * share * binary_cross_entropy(output, c.label)),
    }
