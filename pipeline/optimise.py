"""The epochs: objective and exact gradient over all events, one optax update, one checkpoint.

Bounded parameters move in units of their allowed range and are projected back into it. An epoch is a function of the
state before it, so a run continued from any checkpoint gives the same parameters bit for bit.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from pipeline import checkpoints, outset
from pipeline.analysis import Free
from pipeline.calls import Calls
from pipeline.centre import centre
from pipeline.checkpoints import Checkpoints, Record, State
from pipeline.config import Config, Optimise
from pipeline.data import store
from pipeline.errors import FitError
from pipeline.gradient import Centre, Executor, Parameters, Step, value_and_grad
from pipeline.problem import Work, widths
from pipeline.templates.fill import Widths


def _silent(line: str) -> None:
    """Where nobody listens."""
    del line


def initial_state(config: Config, parameters: Parameters) -> State:
    """The state before the first epoch."""
    return State(0, parameters, _transformation(config.optimise).init(parameters), parameters)


def update(config: Config, free: Mapping[str, Free], state: State, gradient: Parameters) -> State:
    """One optax update of the loss's parameters, in units of each allowed range, projected into the bounds."""
    scaled = in_ranges(gradient, free)
    with jax.numpy_dtype_promotion("standard"):  # optax divides integers by floats
        steps, optimiser = _transformation(config.optimise).update(scaled, state.optimiser, state.parameters)
    moved = {name: _moved(p, np.asarray(steps[name]), free.get(name)) for name, p in state.parameters.items()}
    return State(state.epoch + 1, moved, optimiser, state.parameters)


def epochs(
    config: Config,
    executor: Executor,
    work: Work,
    state: State,
    *,
    until: int,
    calls: Calls | None = None,
    say: Callable[[str], None] = _silent,
) -> Iterator[tuple[State, Record]]:
    """Epochs from a state on: after each one the new state and the record of the epoch.

    Arguments:
        calls: of a stage without a derivative, for an analysis that has one.
        say: takes lines for people: what is waited for, and what is out of the ordinary at the very first epoch.

    Raises:
        FitError: no finite objective and gradient, also after `optimise.halvings`; or no parameter has a derivative.
    """
    evaluate, free = centre(config, work.axes), work.problem.analysis.parameters
    if state.epoch < until:
        say(outset.compiling())
    while state.epoch < until:
        started = time.perf_counter()
        state, step, at, noted = _evaluated(config, executor, work, state, evaluate, calls)
        if state.epoch == 0:
            outset.look(config, executor, work, (state.parameters, at), step, say)
        record = _record(free, state, step, work.events) | noted
        state = update(config, free, state, step.gradient)
        record["seconds"] = time.perf_counter() - started
        record["events_per_second"] = work.events / record["seconds"]
        yield state, record


def _evaluated(
    config: Config, executor: Executor, work: Work, state: State, evaluate: Centre, calls: Calls | None
) -> tuple[State, Step, Widths, Record]:
    """Objective and gradient at a state; where there are none the update that led to it is halved, and again."""
    allowed = config.optimise.halvings if state.epoch else 0
    halvings = 0
    while True:
        try:
            at, noted = _smoothed(config, executor, work, state, calls)
            step = value_and_grad(executor, work, state.parameters, at, evaluate)
            return state, step, at, {**noted, **({"halvings": halvings} if halvings else {})}
        except FitError as error:
            if halvings == allowed:
                possible = state.epoch and not allowed
                cure = "; optimise.halvings tries again with half the step" if possible else ""
                raise FitError(f"epoch {state.epoch}: {error}{cure}") from error
        halvings += 1
        half = {name: (p + state.before[name]) / 2 for name, p in state.parameters.items()}
        state = state._replace(parameters=half)


def _smoothed(
    config: Config, executor: Executor, work: Work, state: State, calls: Calls | None
) -> tuple[Widths, Record]:
    """What is smooth in place of what is hard at an epoch; and what was called for it."""
    at = widths(config, state.epoch)
    if calls is None:
        return at, {}
    surrogate, noted = calls.learnt(executor, work, state.epoch, state.parameters)
    return Widths(at.operations, at.bandwidths, surrogate), {"surrogate": noted}


def run(
    config: Config,
    executor: Executor,
    work: Work,
    state: State,
    *,
    until: int,
    checkpoints: Path,
    fingerprint: str,
    progress: Callable[[Record], None],
    say: Callable[[str], None] = _silent,
) -> tuple[State, list[Record]]:
    """Epochs until `until`, each saved in the folder `checkpoints`; those already there are not computed again.

    A checkpoint counts only where its fingerprint (configuration, analysis, events) is the same. Calls of a stage
    without a derivative are in `calls/` beside the checkpoints.
    """
    saved = Checkpoints(checkpoints, fingerprint, config.optimise.keep_every)
    simulated = work.problem.analysis.simulated is not None
    calls = Calls(config, checkpoints.with_name("calls"), fingerprint) if simulated else None
    last = resumed = saved.resume(
        state, until, lambda epoch: calls is None or all(map(calls.there, range(state.epoch, epoch)))
    )
    try:
        for last, record in epochs(config, executor, work, resumed, until=until, calls=calls, say=say):
            saved.keep(last, record)
            progress(record)
    except FitError as error:
        path = saved.path(last.epoch)
        kept = f"; the state it started from is {path}" if path.exists() else ""
        raise FitError(f"{error}{kept}") from error
    return last, saved.records(state.epoch, until)


def save(path: Path, state: State, fingerprint: str, records: list[Record], block: int) -> None:
    """Write the state at the end of a block of epochs, with the records that led to it."""
    header = {"kind": "block", "block": block, store.FINGERPRINT: fingerprint, "records": records}
    checkpoints.save(path, state, header)


def load(
    path: Path, config: Config, parameters: Parameters, fingerprint: str, block: int
) -> tuple[State, list[Record]]:
    """Read the state at the end of a block of epochs; `parameters` give its structure.

    Raises:
        InputError: damaged, or written by another configuration, analysis or data set, or at another epoch.
    """
    until = min(block * config.optimise.epochs_per_job, config.optimise.epochs)
    expected = {store.FINGERPRINT: fingerprint, "kind": "block", "block": block, "epoch": until}
    state, header = checkpoints.load(path, initial_state(config, parameters), expected)
    return state, header["records"]


def _transformation(settings: Optimise) -> optax.GradientTransformation:
    schedule = optax.cosine_decay_schedule(
        settings.learning_rate, settings.epochs, alpha=settings.final_learning_rate_fraction
    )
    if settings.optimiser == "sgd":
        return optax.sgd(schedule)
    return optax.adam(schedule, b1=settings.first_moment_decay, b2=settings.second_moment_decay)


def _range(free: Free | None) -> float:
    return 1.0 if free is None else free.bounds[1] - free.bounds[0]


def _moved(value: Any, step: np.ndarray, free: Free | None) -> Any:
    moved = value + step * _range(free)
    return moved if free is None else np.clip(moved, *free.bounds)


def in_ranges(gradient: Parameters, free: Mapping[str, Free]) -> Parameters:
    """A gradient with respect to bounded parameters in units of their allowed range."""
    return {name: g * _range(free.get(name)) for name, g in gradient.items()}


def _record(free: Mapping[str, Free], state: State, step: Step, events: int) -> Record:
    """What the report shows of an epoch; arrays that are no cut appear by their norm only."""
    scaled = in_ranges(step.gradient, free)
    return {
        "epoch": state.epoch,
        "objective": step.objective,
        "gradient_norm": math.sqrt(sum(float(np.sum(np.square(g))) for g in scaled.values())),
        "parameters": {name: float(p) for name, p in state.parameters.items() if np.ndim(p) == 0},
        "gradient": {name: float(g) for name, g in step.gradient.items() if np.ndim(g) == 0},
        "sweeps": step.seconds,
        "events": events,
    }
