"""What an optimisation leaves out of the systematics: decided with exact cuts where it starts, and then kept.

A decision that followed the parameters would make the objective jump where an effect crosses its threshold, where the
gradient says nothing of it; so it is part of the state, and a run that goes on gives the same bits.
"""

import logging

import numpy as np

from pipeline.config import Config
from pipeline.data.record import PrunedPart
from pipeline.gradient.loss import Judge
from pipeline.gradient.sweeps import Executor, FreeValues, forward
from pipeline.gradient.work import Work
from pipeline.likelihood.configured.pruning import Decision, Pruned
from pipeline.optimise.checkpoints import State
from pipeline.templates.fill import EXACT

logger = logging.getLogger(__name__)


def decision_at(
    config: Config, executor: Executor, work: Work, parameters: FreeValues, judged: Judge
) -> Decision | None:
    """Return what is left out of the exact templates at some parameters; None where no threshold is set.

    Raises:
        FitError: a template is not finite, or nothing is left of what the objective is about.
    """
    if not config.model.is_pruned:
        return None
    return judged.decide(forward(executor, work, parameters, EXACT))


def begun(
    config: Config, executor: Executor, work: Work, state: State, judged: Judge
) -> tuple[State, Judge, tuple[PrunedPart, ...]]:
    """Return a state with its decision, the objective with it, and what is left out where it is decided only now.

    Raises:
        FitError: see ``decision_at``.
    """
    if state.pruned is None:
        return state, judged, ()
    if state.pruned.norms.size:  # decided already
        return state, judged._replace(pruned=state.pruned), ()
    decision = decision_at(config, executor, work, state.parameters, judged)
    if decision is None:
        return state, judged, ()
    logger.info(f"note: {decision.line}")
    pruned = Pruned(*(np.asarray(table) for table in decision.pruned))
    return state._replace(pruned=pruned), judged._replace(pruned=pruned), decision.parts
