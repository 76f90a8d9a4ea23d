"""The uncertainty of the optimisation itself: the same one on bootstrap samples of the training events.

Events decide an optimum, so other events give another one. How far it lies, and what it is worth on the events that
are held out, the same for all, says how much of a result is the chance of its training events.
"""

import logging
from collections.abc import Mapping

import numpy as np

from pipeline.config import Config
from pipeline.data.names import Fold
from pipeline.data.written import Written
from pipeline.errors import FitError
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


def refits(
    config: Config, executor: Executor, train: Work, judge: Judge, last: tuple[Fold, Work, Judge]
) -> Refits:
    """Return ``evaluate.refits`` optimisations of bootstrap samples of the training events.

    Args:
        train: the work of an optimisation, and ``judge`` its objective.
        last: the fold that results are judged on, its events and their objective.
    """
    fold, unseen, judged = last
    done, failed = [], []
    for number in range(1, config.evaluate.refits + 1):
        work = train._replace(replica=FIRST_REPLICA + number - 1)
        try:
            found = refitted(config, executor, work, judge)
            value = judged(forward(executor, unseen, found, EXACT), found).objective
        except FitError as error:
            failed.append(FailedRefit(number=number, reason=str(error)))
            logger.info(f"refit {number} of {config.evaluate.refits}: no result, {error}")
            continue
        done.append(Refit(number=number, parameters=scalars(found), objective=value))
        logger.info(f"refit {number} of {config.evaluate.refits}: exact {value:.6g} on {fold} events")
    return Refits(fold=fold, done=tuple(done), failed=tuple(failed))


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
