"""The epochs: objective and exact gradient over all events, one optax update, one checkpoint.

Bounded parameters move in units of their allowed range and are projected back into it. An epoch is a function of the
state before it, so a run continued from any checkpoint gives the same parameters bit for bit.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.analysis import Free
from pipeline.config import Config
from pipeline.data.record import Check, Counts, EpochRecord, Leading, PrunedPart, SweepSeconds
from pipeline.errors import FitError
from pipeline.gradient.halves import of_optimisation
from pipeline.gradient.held import HeldTemplates
from pipeline.gradient.loss import Judge, centre_of, judge
from pipeline.gradient.sweeps import Centre, Executor, Step, value_and_grad
from pipeline.gradient.work import Work
from pipeline.optimise import first_step, kept, leading, pruning, starts
from pipeline.optimise.checkpoints import Checkpoints, State
from pipeline.optimise.parameters import scalars
from pipeline.optimise.schedule import widths_at
from pipeline.optimise.surrogate_calls import Calls
from pipeline.optimise.update import in_ranges, to_first_order, update_of
from pipeline.templates.fill import Widths

logger = logging.getLogger(__name__)


class _Noted(NamedTuple):
    """What an epoch took besides its sweeps: calls of a stage without a derivative, halved updates; a choice."""

    surrogate: Counts | None = None
    halvings: int = 0
    leading: Leading | None = None
    check: Check | None = None
    last_check: Check | None = None
    to_first_order: float = 0.0
    pruned: tuple[PrunedPart, ...] = ()


def each_epoch(
    config: Config,
    executor: Executor,
    work: Work,
    state: State,
    *,
    until: int,
    calls: Calls | None = None,
    judged: Judge | None = None,
) -> Iterator[tuple[State, EpochRecord]]:
    """Yield epochs from a state on: after each one the new state and the record of the epoch.

    Args:
        calls: of a stage without a derivative, for an analysis that has one.
        judged: the compiled objective, where the caller has made it; absent: it is made here.

    Raises:
        FitError: no finite objective and gradient, also after ``optimise.halvings``; or no parameter has a derivative.
    """
    free = work.problem.analysis.parameters
    work, judged = of_optimisation(config, work, judged or judge(config, work.axes))
    update = update_of(config, free)
    again = work.replica is not None  # a replica: the run has been looked at
    if state.epoch >= until or starts.is_over(config, state):
        return
    if not again:
        logger.info(first_step.compiling())
    state, judged, left_out = pruning.begun(config, executor, work, state, judged)
    evaluate = centre_of(judged)
    while state.epoch < until and not starts.is_over(config, state):
        started = time.perf_counter()
        state, step, at, noted = _evaluated(config, executor, work, state, evaluate, calls)
        if state.epoch == 0 and not again:
            first_step.look(config, executor, work, (state.parameters, at), step)
        state, noted = _checked(config, executor, work, state, step, judged, noted)
        noted, left_out = noted._replace(pruned=left_out), ()
        before, state = state, update(state, step.gradient)
        noted = noted._replace(to_first_order=to_first_order(before, state, step.gradient))
        if state.best is not None and starts.is_last(config, state):
            last = kept.check(executor, work, state.parameters, judged)
            state, noted = _with_best(state, last), noted._replace(last_check=last)
        if state.chosen is not None and leading.is_choice(config, before.within):
            chosen, found = leading.choose(config, executor, work, step, state.chosen, state.parameters, at)
            state, noted = state._replace(chosen=chosen), noted._replace(leading=found)
        state = starts.after(config, state)
        seconds = time.perf_counter() - started
        yield state, _record(config, free, before, step, noted, work.events, seconds)


def _evaluated(
    config: Config, executor: Executor, work: Work, state: State, evaluate: Centre, calls: Calls | None
) -> tuple[State, Step, Widths, _Noted]:
    """Return objective and gradient at a state; where there are none the update that led to it is halved, and again."""
    allowed = config.optimise.halvings if state.within else 0
    halvings = 0
    while True:
        try:
            at, calls_made = _smoothed(config, executor, work, state, calls)
            step = value_and_grad(
                executor, work, state.parameters, at, evaluate, _held(config, work, state),
                exact=config.optimise.values == "exact",
            )  # fmt: skip
            return state, step, at, _Noted(calls_made, halvings)
        except FitError as error:
            if halvings == allowed:
                possible = state.within and not allowed
                cure = "; optimise.halvings tries again with half the step" if possible else ""
                raise FitError(f"epoch {state.within}: {error}{cure}") from error
        halvings += 1
        half = {name: (p + state.before[name]) / 2 for name, p in state.parameters.items()}
        state = state._replace(parameters=half)


def _checked(
    config: Config,
    executor: Executor,
    work: Work,
    state: State,
    step: Step,
    judged: Judge,
    noted: _Noted,
) -> tuple[State, _Noted]:
    """Return the state with the better of its best epoch and this one, where this one is checked."""
    if state.best is None or not kept.is_check(config, state.within):
        return state, noted
    at_hand = config.optimise.values == "exact" and _held(config, work, state) is None
    found = kept.check(executor, work, state.parameters, judged, step.templates if at_hand else None)
    return _with_best(state, found), noted._replace(check=found)


def _with_best(state: State, found: Check | None) -> State:
    if state.best is None:
        raise TypeError("a run without checks")
    best = kept.better(state.best, int(state.start), state.within, found, state.parameters)
    return state._replace(best=best)


def _held(config: Config, work: Work, state: State) -> HeldTemplates | None:
    """Return what an epoch does not observe; None where it observes all."""
    if state.chosen is None or leading.is_choice(config, state.within):
        return None
    return leading.held(config, work.axes, state.chosen)


def _smoothed(
    config: Config, executor: Executor, work: Work, state: State, calls: Calls | None
) -> tuple[Widths, Counts | None]:
    """Return the widths and surrogate of an epoch, and the record of the calls for it."""
    at = widths_at(config, state.within)
    if calls is None:
        return at, None
    surrogate, noted = calls.learnt(executor, work, state.epoch, state.parameters, state.within)
    return Widths(at.operations, at.bandwidths, surrogate), noted


def each_epoch_of_all_starts(
    config: Config,
    executor: Executor,
    work: Work,
    state: State,
    *,
    until: int,
    calls: Calls | None = None,
    judged: Judge | None = None,
) -> Iterator[tuple[State, EpochRecord | None]]:
    """Yield as ``each_epoch`` does, through all starts.

    A drawn start that comes to where the objective is not finite ends there: the state at the next one comes without a
    record.

    Raises:
        FitError: there is no finite objective in the first start.
    """
    while state.epoch < until and not starts.is_over(config, state):
        epochs = each_epoch(config, executor, work, state, until=until, calls=calls, judged=judged)
        try:
            for after, record in epochs:
                state = after
                yield state, record
        except FitError as error:
            if state.start == 0:
                raise
            logger.info(f"note: start {int(state.start)} ends: {error}")
            state = starts.following(config, state)
            yield state, None


def run(
    config: Config,
    executor: Executor,
    work: Work,
    state: State,
    *,
    until: int,
    checkpoints: Path,
    fingerprint: str,
    progress: Callable[[EpochRecord], None],
) -> tuple[State, list[EpochRecord]]:
    """Run epochs until ``until``, and save each in the folder ``checkpoints``; fewer where the run is over before.

    Epochs already there are not computed again. A checkpoint counts only where its fingerprint (configuration,
    analysis, events) is the same. Calls of a stage without a derivative are in ``calls/`` beside the checkpoints.
    """
    saved = Checkpoints(checkpoints, fingerprint, config.optimise.keep_every)
    simulated = work.problem.analysis.simulated is not None
    calls = Calls(config, checkpoints.with_name("calls"), fingerprint) if simulated else None
    last = saved.resume(
        state, until, lambda epoch: calls is None or all(map(calls.there, range(state.epoch, epoch)))
    )
    try:
        for after, record in each_epoch_of_all_starts(config, executor, work, last, until=until, calls=calls):
            last = after
            if record is not None:
                saved.keep(last, record)
                progress(record)
    except FitError as error:
        path = saved.path(last.epoch)
        kept = f"; the state it started from is {path}" if path.exists() else ""
        raise FitError(f"{error}{kept}") from error
    return last, saved.records(state.epoch, last.epoch)


def _record(
    config: Config,
    free: Mapping[str, Free],
    state: State,
    step: Step,
    noted: _Noted,
    events: int,
    seconds: float,
) -> EpochRecord:
    """Return the record of an epoch; arrays that are no cut appear by their norm only."""
    scaled = in_ranges(step.gradient, free)
    return EpochRecord(
        epoch=state.epoch,
        objective=step.objective,
        gradient_norm=math.sqrt(sum(float(np.sum(np.square(g))) for g in scaled.values())),
        parameters=scalars(state.parameters),
        gradient=scalars(step.gradient),
        sweeps=SweepSeconds(**step.seconds),
        events=events,
        seconds=seconds,
        events_per_second=events / seconds,
        surrogate=noted.surrogate,
        halvings=noted.halvings,
        leading=noted.leading,
        values=config.optimise.values,
        check=noted.check,
        last_check=noted.last_check,
        start=int(state.start),
        begun=int(state.begun),
        to_first_order=noted.to_first_order,
        pruned=noted.pruned,
    )
