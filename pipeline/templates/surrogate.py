"""A generator that stands in for a stage without a derivative, learnt from what that stage made of some events.

Given the parameters x, an event's inputs and random numbers, a network makes the outputs. It minimises the energy score
(T. Gneiting, A. Raftery, JASA 102 (2007) 359, section 4.3), which is smallest where it draws from the conditional
distribution of the outputs. Differentiated with respect to x it gives the gradient that the stage does not: local
generative surrogates (S. Shirobokov et al., arXiv:2002.04632), with that score in place of an adversary.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from pipeline.analysis import NOISE, Simulated
from pipeline.config import Surrogate as Settings
from pipeline.containers import AnyArray, Columns, Message, Parameters

CORNER = 1e-6  # of a distance at 0, where it has no derivative, in standard deviations of the outputs

Layers = list[tuple[AnyArray, AnyArray]]  # weights [inputs, outputs] and biases [outputs]
TrainingState = tuple[Layers, optax.OptState]


class Call(NamedTuple):
    """What the stage made of some events at one point."""

    point: Float[np.ndarray, " params"]
    inputs: Float[np.ndarray, "events inputs"]
    outputs: Float[np.ndarray, "events outputs"]


class Scale(Message):
    """Numbers of order one: what is subtracted and what divided by."""

    middle: Float[AnyArray, " quantities"]
    width: Float[AnyArray, " quantities"]

    def reduced(self, values: Float[AnyArray, "rows quantities"]) -> Float[AnyArray, "rows quantities"]:
        """Return the inputs scaled to order one."""
        return (values - self.middle[None]) / self.width[None]

    def restored(self, values: Float[AnyArray, "rows quantities"]) -> Float[AnyArray, "rows quantities"]:
        """Return the outputs in their own scale."""
        return self.middle[None] + self.width[None] * values


class LocalSurrogate(Message):
    """The generator at one epoch, good near the parameters of that epoch only."""

    stage: Simulated = eqx.field(static=True)
    layers: Layers
    points: Scale
    inputs: Scale
    outputs: Scale

    def completed(self, free: Parameters, columns: Columns) -> Columns:
        """Return the columns with the outputs of the stage among them, differentiable in the parameters."""
        point = jnp.stack([free.arrays[name] for name in self.stage.parameters])
        inputs = jnp.stack([columns.arrays[name] for name in self.stage.inputs], axis=1)
        at = jnp.broadcast_to(self.points.reduced(point[None]), (len(inputs), len(point)))
        given = jnp.concatenate([at, self.inputs.reduced(inputs), columns.arrays[NOISE]], axis=1)
        made = self.outputs.restored(_network(self.layers, given))
        return columns.holding({**columns.arrays, **dict(zip(self.stage.outputs, made.T, strict=True))})


def fit(
    stage: Simulated, settings: Settings, calls: Sequence[Call], region: Scale, seed: tuple[int, ...]
) -> LocalSurrogate:
    """Return the generator learnt from calls.

    Args:
        region: middle and half widths of the box that the points are in.
        seed: of its start values, its batches and its random numbers.
    """
    rng = np.random.default_rng(seed)
    key = jax.random.key(int(rng.integers(1 << 31)))
    inputs, outputs = (np.concatenate([getattr(c, kind) for c in calls]) for kind in ("inputs", "outputs"))
    points = np.repeat([call.point for call in calls], [len(call.inputs) for call in calls], axis=0)
    rows = rng.integers(len(points), size=(settings.steps, settings.batch))
    scales = region, _scale(inputs), _scale(outputs)
    at, given, made = (
        scale.reduced(array).astype(np.float32)[rows]
        for scale, array in zip(scales, (points, inputs, outputs), strict=True)
    )
    known = np.concatenate([at, given], axis=2)
    sizes = (known.shape[2] + stage.noise, *settings.hidden, len(stage.outputs))
    return LocalSurrogate(stage, _learnt(known, made, key, sizes, settings.learning_rate), *scales)


def energy_score(
    made: Float[AnyArray, "copies rows outputs"], true: Float[AnyArray, "rows outputs"]
) -> Float[Array, ""]:
    """Return the mean distance of two draws from the truth, less half of their own; smallest at the truth's law."""
    first, second = made
    return jnp.mean((_distance(first - true) + _distance(second - true) - _distance(first - second)) / 2)


@functools.partial(jax.jit, static_argnames=("sizes", "learning_rate"))
def _learnt(
    given: Float[Array, "steps rows given"],
    made: Float[Array, "steps rows outputs"],
    key: Key[Array, ""],
    sizes: tuple[int, ...],
    learning_rate: float,
) -> Layers:
    """Return weights after one update by adam for each batch, from random ones."""
    steps, batch, known = given.shape
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    start, noise = jax.random.split(key)
    layers = _start(start, sizes)

    def score(layers: Layers, given: Array, true: Array, key: Array) -> Array:
        random = jax.random.normal(key, (2, batch, sizes[0] - known), dtype=given.dtype)
        whole = [jnp.concatenate([given, own], axis=1) for own in random]
        return energy_score(jnp.stack([_network(layers, own) for own in whole]), true)

    def update(state: TrainingState, batch: tuple[Array, Array, Array]) -> tuple[TrainingState, None]:
        layers, memory = state
        with jax.numpy_dtype_promotion("standard"):  # optax divides integers by floats
            steps, memory = optimiser.update(jax.grad(score)(layers, *batch), memory)
        return (optax.apply_updates(layers, steps), memory), None

    keys = jax.random.split(noise, steps)
    (layers, _), _ = jax.lax.scan(update, (layers, optimiser.init(layers)), (given, made, keys))
    return layers


def _start(key: Key[Array, ""], sizes: tuple[int, ...]) -> Layers:
    """Return normal weights of variance 1 / inputs, biases 0."""
    pairs = list(itertools.pairwise(sizes))
    return [
        (
            jax.random.normal(own, pair, dtype=np.float32) * np.float32(pair[0] ** -0.5),
            jnp.zeros(pair[1], np.float32),
        )
        for own, pair in zip(jax.random.split(key, len(pairs)), pairs, strict=True)
    ]


def _network(layers: Layers, values: Float[AnyArray, "rows inputs"]) -> Float[Array, "rows outputs"]:
    """Return the output of a fully connected network, smooth in its input."""
    for weights, biases in layers[:-1]:
        values = jax.nn.silu(values @ weights + biases[None])
    weights, biases = layers[-1]
    return jnp.asarray(values @ weights + biases[None])


def _distance(difference: Float[AnyArray, "rows outputs"]) -> Float[Array, " rows"]:
    return jnp.sqrt(jnp.sum(difference**2, axis=1) + CORNER**2)


def _scale(values: Float[np.ndarray, "rows quantities"]) -> Scale:
    """Return mean and standard deviation; 1 where all are the same."""
    spread = values.std(axis=0)
    return Scale(values.mean(axis=0), np.where(spread > 0, spread, 1.0))
