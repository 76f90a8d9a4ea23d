"""The uncertainty of the optimisation itself: the same one on bootstrap samples of the training events.

Events decide an optimum, so other events give another one. How far it lies, and what it is worth on the events that
are held out, the same for all, says how much of a result is the chance of its training events.
"""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.config import Config
from pipeline.data import results, store
from pipeline.data.names import Fold
from pipeline.data.written import Written, parsed
from pipeline.errors import FitError, InputError
from pipeline.gradient.loss import Judge
from pipeline.gradient.sweeps import Executor, FreeValues, forward
from pipeline.gradient.work import Work
from pipeline.optimise.epochs import each_epoch_of_all_starts
from pipeline.optimise.parameters import initial_parameters, scalars
from pipeline.optimise.update import initial_state
from pipeline.templates.fill import EXACT

# Beyond those of errors, so that no error is of the events that a refit was optimised on.
FIRST_REPLICA = 2**32
logger = logging.getLogger(__name__)


class Refit(Written):
    """What an optimisation of a replica ends with: its scalar parameters, and the exact objective of other events."""

    number: int
    parameters: dict[str, float]
    objective: float


class FailedRefit(Written):
    """A replica without a result, and why."""

    number: int
    reason: str


class Spread(Written):
    """Mean and standard deviation over refits; no deviation of a single one."""

    mean: float
    deviation: float | None


class Refits(Written):
    """All refits, numbered from 1, and the events that their objective is of."""

    fold: Fold
    done: tuple[Refit, ...]
    failed: tuple[FailedRefit, ...]

    @property
    def objective(self) -> Spread | None:
        """The spread of the objective; None where no refit has a result."""
        return _spread([refit.objective for refit in self.done])

    @property
    def parameters(self) -> Mapping[str, Spread]:
        """The spread of each scalar parameter."""
        names = self.done[0].parameters if self.done else ()
        found = {name: _spread([refit.parameters[name] for refit in self.done]) for name in names}
        return {name: spread for name, spread in found.items() if spread is not None}


class _Outcome(Written):
    """One of the two, as it is kept in a file."""

    found: Refit | FailedRefit


class SavedRefits(NamedTuple):
    """The refits of a run that ended already, a file each: where they are, and the run's fingerprint."""

    folder: Path
    fingerprint: str

    def read(self, number: int) -> Refit | FailedRefit | None:
        """Return a refit of this very run; None where it is not there, or damaged."""
        path, header = self._place(number)
        with contextlib.suppress(InputError):
            return parsed(_Outcome, results.read(path, header), str(path), "delete it and run again").found
        return None

    def write(self, found: Refit | FailedRefit) -> None:
        """Keep a refit."""
        path, header = self._place(found.number)
        results.write(path, _Outcome(found=found).as_json(), header)

    def _place(self, number: int) -> tuple[Path, dict[str, object]]:
        header = {"kind": "refit", "number": number, store.FINGERPRINT: self.fingerprint}
        return self.folder / f"{number:04d}.json", header


def refits(
    config: Config,
    executor: Executor,
    train: Work,
    judge: Judge,
    last: tuple[Fold, Work, Judge],
    saved: SavedRefits,
) -> Refits:
    """Return ``evaluate.refits`` optimisations of bootstrap samples of the training events.

    Args:
        train: the work of an optimisation, and ``judge`` its objective.
        last: the fold that results are judged on, its events and their objective.
        saved: refits that are there are not made again.
    """
    found = []
    for number in range(1, config.evaluate.refits + 1):
        refit = saved.read(number)
        if refit is None:
            work = train._replace(replica=FIRST_REPLICA + number - 1)
            refit = _refit(config, executor, work, judge, last, number)
            saved.write(refit)
        found.append(refit)
        said = (
            f"exact {refit.objective:.6g} on {last[0]} events" if isinstance(refit, Refit) else refit.reason
        )
        logger.info(f"refit {number} of {config.evaluate.refits}: {said}")
    return Refits(
        fold=last[0],
        done=tuple(refit for refit in found if isinstance(refit, Refit)),
        failed=tuple(refit for refit in found if isinstance(refit, FailedRefit)),
    )


def _refit(
    config: Config, executor: Executor, work: Work, judge: Judge, last: tuple[Fold, Work, Judge], number: int
) -> Refit | FailedRefit:
    """Return what the optimisation of a replica of the training events ends with."""
    _, unseen, judged = last
    try:
        found = refitted(config, executor, work, judge)
        value = judged(forward(executor, unseen, found, EXACT), found).objective
    except FitError as error:
        return FailedRefit(number=number, reason=f"no result, {error}")
    return Refit(number=number, parameters=scalars(found), objective=value)


def refitted(config: Config, executor: Executor, work: Work, judge: Judge) -> FreeValues:
    """Return the parameters that an optimisation of some work ends with, from the run's start or starts."""
    state = initial_state(config, initial_parameters(config))
    end = config.optimise.all_epochs
    for after, _ in each_epoch_of_all_starts(config, executor, work, state, until=end, judged=judge):
        state = after
    return state.result


def _spread(values: list[float]) -> Spread | None:
    if not values:
        return None
    return Spread(
        mean=float(np.mean(values)), deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None
    )
