"""One update of the free parameters: optax, in units of each parameter's allowed range, inside its bounds."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from pipeline.analysis import Free
from pipeline.config import Config, Optimise
from pipeline.containers import AnyArray
from pipeline.gradient.sweeps import FreeValues
from pipeline.likelihood.configured.pruning import Pruned
from pipeline.optimise.checkpoints import State
from pipeline.optimise.kept import unchecked
from pipeline.optimise.leading import undecided

Update = Callable[[State, FreeValues], State]


def initial_state(config: Config, parameters: FreeValues) -> State:
    """Return the state before the first epoch."""
    optimiser = _transformation(config.optimise).init(parameters)
    nothing = np.zeros((0, 0), dtype=bool)
    return State(
        0,
        parameters,
        optimiser,
        parameters,
        undecided(config),
        unchecked(config, parameters),
        pruned=Pruned(nothing, nothing) if config.model.is_pruned else None,
    )


def update_of(config: Config, free: Mapping[str, Free]) -> Update:
    """Return the update of a state by a gradient, compiled once per run.

    It is one optax update, in units of each allowed range, projected into the bounds.
    """
    transformation = _transformation(config.optimise)

    @jax.jit
    def moved(
        parameters: FreeValues, optimiser: optax.OptState, gradient: FreeValues
    ) -> tuple[FreeValues, optax.OptState]:
        with jax.numpy_dtype_promotion("standard"):  # optax divides integers by floats
            steps, after = transformation.update(in_ranges(gradient, free), optimiser, parameters)
            return {name: _moved(p, steps[name], free.get(name)) for name, p in parameters.items()}, after

    def update(state: State, gradient: FreeValues) -> State:
        parameters, optimiser = moved(state.parameters, state.optimiser, gradient)
        arrays: FreeValues = jax.device_get(parameters)
        return state._replace(
            epoch=state.epoch + 1, parameters=arrays, optimiser=optimiser, before=state.parameters
        )

    return update


def to_first_order(before: State, after: State, gradient: FreeValues) -> float:
    """Return what an update changes of what is minimised, were it linear in the parameters."""
    steps = {name: after.parameters[name] - value for name, value in before.parameters.items()}
    return sum(float(np.sum(gradient[name] * step)) for name, step in steps.items())


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
    value: AnyArray | np.number | float, step: AnyArray | np.number | float, free: Free | None
) -> Array:
    moved = jnp.asarray(value + step * _range(free))
    return moved if free is None else jnp.clip(moved, *free.bounds)


def in_ranges(gradient: FreeValues, free: Mapping[str, Free]) -> FreeValues:
    """Return a gradient with respect to bounded parameters in units of their allowed range."""
    return {name: g * _range(free.get(name)) for name, g in gradient.items()}
