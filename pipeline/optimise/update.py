"""One update of the free parameters: optax, in units of each parameter's allowed range, inside its bounds."""

from collections.abc import Mapping

import jax
import numpy as np
import optax

from pipeline.analysis import Free
from pipeline.config import Config, Optimise
from pipeline.containers import AnyArray
from pipeline.gradient.sweeps import FreeValues
from pipeline.optimise.checkpoints import State
from pipeline.optimise.leading import undecided


def initial_state(config: Config, parameters: FreeValues) -> State:
    """Return the state before the first epoch."""
    optimiser = _transformation(config.optimise).init(parameters)
    return State(0, parameters, optimiser, parameters, undecided(config))


def updated(config: Config, free: Mapping[str, Free], state: State, gradient: FreeValues) -> State:
    """Return one optax update of the loss's parameters, in units of each allowed range, projected into the bounds."""
    scaled = in_ranges(gradient, free)
    with jax.numpy_dtype_promotion("standard"):  # optax divides integers by floats
        steps, optimiser = _transformation(config.optimise).update(scaled, state.optimiser, state.parameters)
    moved = {name: _moved(p, np.asarray(steps[name]), free.get(name)) for name, p in state.parameters.items()}
    return State(state.epoch + 1, moved, optimiser, state.parameters, state.chosen)


def _transformation(settings: Optimise) -> optax.GradientTransformation:
    schedule = optax.cosine_decay_schedule(
        settings.learning_rate, settings.epochs, alpha=settings.final_learning_rate_fraction
    )
    if settings.optimiser == "sgd":
        return optax.sgd(schedule)
    return optax.adam(schedule, b1=settings.first_moment_decay, b2=settings.second_moment_decay)


def _range(free: Free | None) -> float:
    return 1.0 if free is None else free.bounds[1] - free.bounds[0]


def _moved(
    value: AnyArray | np.number | float, step: np.ndarray, free: Free | None
) -> AnyArray | np.number | float:
    moved = value + step * _range(free)
    return moved if free is None else np.clip(moved, *free.bounds)


def in_ranges(gradient: FreeValues, free: Mapping[str, Free]) -> FreeValues:
    """Return a gradient with respect to bounded parameters in units of their allowed range."""
    return {name: g * _range(free.get(name)) for name, g in gradient.items()}
