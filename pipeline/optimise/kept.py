"""The epoch that is kept: the best of those that were checked, by what is minimised with exact cuts on training events.

The start is checked too, so what is kept is never worse there. Epochs go on from the last one, not from the best.
"""

import logging
from typing import NamedTuple

import numpy as np

from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.data.record import Check
from pipeline.errors import FitError
from pipeline.gradient.loss import Judge
from pipeline.gradient.sweeps import Executor, FreeValues, forward
from pipeline.gradient.work import Work
from pipeline.templates.fill import EXACT

logger = logging.getLogger(__name__)


class Best(NamedTuple):
    """The best checked epoch of all starts: its start, its number there, what is minimised there, its parameters.

    ``own`` is the smallest value of the present start, ``since`` counts the checks after that.
    """

    start: np.int64
    epoch: np.int64
    minimised: np.float64
    parameters: FreeValues
    own: np.float64
    since: np.int64

    @property
    def is_there(self) -> bool:
        """Whether a check had a number."""
        return bool(np.isfinite(self.minimised))


def unchecked(config: Config, parameters: FreeValues) -> Best | None:
    """Return the best before any check; None in a run without checks."""
    if config.optimise.check_every is None:
        return None
    none = np.float64(np.inf)
    return Best(np.int64(0), np.int64(0), none, parameters, none, np.int64(0))


def at_next_start(best: Best) -> Best:
    """Return the best where another start begins."""
    return best._replace(own=np.float64(np.inf), since=np.int64(0))


def is_check(config: Config, epoch: int) -> bool:
    """Return whether the parameters before an epoch's update are checked; those after the last one always are."""
    every = config.optimise.check_every
    return every is not None and epoch % every == 0


def check(
    executor: Executor,
    work: Work,
    parameters: FreeValues,
    judge: Judge,
    exact: Templates | None = None,
    *,
    is_told: bool = True,
) -> Check | None:
    """Return the exact objective at some parameters; None where there is none, as an empty bin may leave no fit.

    Args:
        exact: the exact templates, where they are there already.
        is_told: whether the log says why there is none.
    """
    try:
        found = judge(forward(executor, work, parameters, EXACT) if exact is None else exact, parameters)
    except FitError as error:
        if is_told:
            logger.info(f"note: no exact objective on training events: {error}")
        return None
    return Check(objective=found.objective, minimised=found.minimised)


def better(best: Best, start: int, epoch: int, found: Check | None, parameters: FreeValues) -> Best:
    """Return the best of what it was, and an epoch of a start that was checked."""
    if found is None:
        return best
    value = np.float64(found.minimised)
    is_progress = bool(value < best.own)
    after = best._replace(
        own=value if is_progress else best.own, since=np.int64(0 if is_progress else best.since + 1)
    )
    if not value < best.minimised:
        return after
    return after._replace(
        start=np.int64(start), epoch=np.int64(epoch), minimised=value, parameters=parameters
    )
