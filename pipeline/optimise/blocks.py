"""The state at the end of a block of epochs, with the records that led to it: what one job leaves to the next."""

from pathlib import Path

from pipeline.config import Config
from pipeline.data import store
from pipeline.data.fingerprint import fingerprint_of
from pipeline.data.names import INITIAL, OPTIMISED, Point
from pipeline.data.record import EpochRecord
from pipeline.data.run_files import ColumnFiles, blocks, records_in
from pipeline.errors import InputError
from pipeline.gradient.sweeps import FreeValues
from pipeline.optimise import checkpoints
from pipeline.optimise.checkpoints import State
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.starts import is_over
from pipeline.optimise.update import initial_state


def save(path: Path, state: State, fingerprint: str, records: list[EpochRecord], block: int) -> None:
    """Write the state at the end of a block of epochs, with the records that led to it."""
    content = [record.as_json() for record in records]
    header = {"kind": "block", "block": block, store.FINGERPRINT: fingerprint, "records": content}
    checkpoints.save(path, state, header)


def load(
    path: Path, config: Config, parameters: FreeValues, fingerprint: str, block: int
) -> tuple[State, list[EpochRecord]]:
    """Read the state at the end of a block of epochs; ``parameters`` give its structure.

    Raises:
        InputError: damaged, or written by another configuration, analysis or data set, or at another epoch.
    """
    until = end_of(config, block)
    expected = {store.FINGERPRINT: fingerprint, "kind": "block", "block": block}
    state, header = checkpoints.load(path, initial_state(config, parameters), expected)
    if state.epoch != until and not (state.epoch < until and is_over(config, state)):
        raise InputError(f"state file {path} holds epoch {state.epoch}, not {until}; delete it and run again")
    return state, records_in(path, header)


def end_of(config: Config, block: int) -> int:
    """Return the epoch that a block ends before; earlier where the run is over."""
    return min(block * config.optimise.epochs_per_job, config.optimise.all_epochs)


def optimised(config: Config, files: ColumnFiles) -> FreeValues:
    """Return the parameters that are the result of the run."""
    start = initial_parameters(config)
    fingerprint = fingerprint_of(config, files)
    last = config.optimise.jobs
    return load(blocks(config)[-1], config, start, fingerprint, last)[0].result


def both_points(config: Config, files: ColumnFiles) -> dict[Point, FreeValues]:
    """Return the parameters that the run starts and ends with."""
    return {INITIAL: initial_parameters(config), OPTIMISED: optimised(config, files)}
