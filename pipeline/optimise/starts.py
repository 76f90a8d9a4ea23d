"""Several starts: optimisations one after another in one run, of which the best checked epoch is the result.

The first begins at the start values, the others at drawn ones. Each is a run of its own, with fresh widths, steps and
optimiser; only the best epoch goes through them all. Which epoch belongs to which start is a part of the state, so
blocks and restarts change nothing.
"""

import logging

import numpy as np

from pipeline.config import Config
from pipeline.data.progress import is_patient
from pipeline.optimise import kept
from pipeline.optimise.checkpoints import State
from pipeline.optimise.parameters import start_parameters
from pipeline.optimise.update import initial_state

logger = logging.getLogger(__name__)


def is_over(config: Config, state: State) -> bool:
    """Return whether no epoch is left, of any start."""
    return int(state.start) >= config.optimise.starts


def is_last(config: Config, state: State) -> bool:
    """Return whether the start that a state is of has come to its last epoch."""
    return state.within == config.optimise.epochs


def after(config: Config, state: State) -> State:
    """Return what an epoch leaves: its own state, or another one where it was the last of its start."""
    if is_last(config, state):
        return following(config, state)
    if state.best is None or is_patient(config.optimise, int(state.best.since)):
        return state
    logger.info(
        f"start {int(state.start)} ends after {state.within} epochs by optimise.patience: {int(state.best.since)} "
        f"checks in a row are not better than the best of it, {float(state.best.own):.6g} with exact cuts"
    )
    return following(config, state)


def following(config: Config, state: State) -> State:
    """Return the state at the next start; where there is none, the same at the end of the run.

    There is none either where no check of the first start had a number: nothing could be compared.
    """
    number = int(state.start) + 1
    if number >= config.optimise.starts or state.best is None or not state.best.is_there:
        return state._replace(start=np.int64(config.optimise.starts))
    fresh = initial_state(config, start_parameters(config, number))
    return fresh._replace(
        epoch=state.epoch,
        best=kept.at_next_start(state.best),
        start=np.int64(number),
        begun=np.int64(state.epoch),
        pruned=state.pruned,
    )
