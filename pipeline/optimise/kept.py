"""The epoch that is kept: the best of those that were checked, by what is minimised with exact cuts on training events.

The start is checked too, so what is kept is never worse there. Epochs go on from the last one, not from the best.
"""

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


class Best(NamedTuple):
    """The best epoch so far: its number, what is minimised there, its parameters."""

    epoch: np.int64
    minimised: np.float64
    parameters: FreeValues


def unchecked(config: Config, parameters: FreeValues) -> Best | None:
    """Return the best before any check; None in a run without checks."""
    if config.optimise.check_every is None:
        return None
    return Best(np.int64(0), np.float64(np.inf), parameters)


def is_check(config: Config, epoch: int) -> bool:
    """Return whether the parameters before an epoch's update are checked; those after the last one always are."""
    every = config.optimise.check_every
    return every is not None and epoch % every == 0


def check(
    executor: Executor, work: Work, parameters: FreeValues, judge: Judge, exact: Templates | None = None
) -> Check | None:
    """Return the exact objective at some parameters; None where there is none, as an empty bin may leave no fit.

    Args:
        exact: the exact templates, where they are there already.
    """
    try:
        found = judge(forward(executor, work, parameters, EXACT) if exact is None else exact, parameters)
    except FitError:
        return None
    return Check(objective=found.objective, minimised=found.minimised)


def better(best: Best, epoch: int, found: Check | None, parameters: FreeValues) -> Best:
    """Return the best of what it was, and an epoch that was checked."""
    if found is None or not found.minimised < best.minimised:
        return best
    return Best(np.int64(epoch), np.float64(found.minimised), parameters)
