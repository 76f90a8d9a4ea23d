"""The states of a run's epochs: the latest two, every so-manyth one if asked, and a small record of every epoch.

A run that is continued reads one state. The records of all epochs are lines of one file; a line that a killed process
left half written ends what counts of it, and is cut off.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from pipeline.data import store
from pipeline.data.record import EpochRecord
from pipeline.data.written import parsed
from pipeline.errors import InputError
from pipeline.gradient.sweeps import FreeValues
from pipeline.likelihood.configured.pruning import Pruned
from pipeline.optimise.kept import Best
from pipeline.optimise.leading import Chosen

KEPT = 2  # states: the latest, and one more for where that is damaged
RECORDS = "records.jsonl"


class State(NamedTuple):
    """Everything the next epoch depends on.

    ``before`` are the parameters one update ago, ``chosen`` the last choice of systematics, where not all are observed,
    ``best`` the best epoch that was checked, where some are. ``start`` is the one that goes on from here, the number of
    starts where the run is over, and ``begun`` the epoch that it began at. ``pruned`` is what all starts leave out of
    the systematics, without rows before that is decided; None where nothing may be.
    """

    epoch: int
    parameters: FreeValues
    optimiser: optax.OptState
    before: FreeValues
    chosen: Chosen | None = None
    best: Best | None = None
    start: np.int64 = np.int64(0)
    begun: np.int64 = np.int64(0)
    pruned: Pruned | None = None

    @property
    def within(self) -> int:
        """The epoch, counted from the beginning of its start."""
        return self.epoch - int(self.begun)

    @property
    def result(self) -> FreeValues:
        """The parameters that a run hands on: of the best epoch, or these."""
        return self.best.parameters if self.best is not None and self.best.is_there else self.parameters


def save(path: Path, state: State, header: Mapping[str, object]) -> None:
    """Write a state with what it is."""
    leaves = {f"leaf_{i:04d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state[1:]))}
    store.write_state(path, leaves, {"epoch": state.epoch, **header})


def load(path: Path, like: State, expected: Mapping[str, object]) -> tuple[State, dict[str, Any]]:
    """Read a state, and its header; ``like`` gives its structure.

    Raises:
        InputError: damaged, or not what is ``expected``.
    """
    leaves, header = store.read_state(path, expected)
    arrays = [leaves[name] for name in sorted(leaves)]
    return State(header["epoch"], *jax.tree.unflatten(jax.tree.structure(tuple(like[1:])), arrays)), header


class Checkpoints:
    """The states and records of a run in a folder.

    Args:
        fingerprint: of the run; states and records of others do not count.
        keep_every: keep the states of the epochs that it divides, besides the latest.
    """

    def __init__(self, folder: Path, fingerprint: str, keep_every: int | None = None) -> None:
        self._folder, self._fingerprint, self._keep_every = folder, fingerprint, keep_every
        self._records = folder / RECORDS

    def path(self, epoch: int) -> Path:
        """Return where the state of an epoch is."""
        return self._folder / f"epoch_{epoch:06d}.npz"

    def resume(self, start: State, until: int, usable: Callable[[int], bool]) -> State:
        """Return the latest whole state of this run after ``start``, or that; records from there on are cut off.

        Args:
            usable: whether all else is there to go on from an epoch.
        """
        ends = {record.epoch: end for record, end in self._lines()}
        saved = sorted((epoch for epoch in self._saved() if start.epoch < epoch <= until), reverse=True)
        complete = (epoch for epoch in saved if all(e in ends for e in range(start.epoch, epoch)))
        resumed = next(filter(None, (self._loaded(e, start) for e in complete if usable(e))), start)
        self._cut_off(ends.get(resumed.epoch - 1))
        for epoch in self._saved():
            self._drop(epoch, resumed.epoch)
        return resumed

    def keep(self, state: State, record: EpochRecord) -> None:
        """Save a state and the record of the epoch that led to it; what is not kept any longer goes."""
        content = record.as_json()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._records.open("a", encoding="utf-8") as stream:
                if stream.tell() == 0:
                    stream.write(json.dumps({"kind": "records", store.FINGERPRINT: self._fingerprint}) + "\n")
                stream.write(
                    json.dumps({"record": content, "content": self._seal(json.dumps(content))}) + "\n"
                )
        except OSError as error:
            raise store.unwritable(self._records, error) from error
        save(self.path(state.epoch), state, {"kind": "epoch", store.FINGERPRINT: self._fingerprint})
        self._drop(state.epoch - KEPT, state.epoch)

    def records(self, first: int, until: int) -> list[EpochRecord]:
        """Return the records of the epochs from ``first`` to before ``until``.

        Raises:
            InputError: they are not all there.
        """
        found = [record for record, _ in self._lines() if first <= record.epoch < until]
        if [record.epoch for record in found] != list(range(first, until)):
            raise InputError(
                f"{self._records} does not hold the records of the epochs {first} to {until - 1}: was it changed "
                "during the run? Run again"
            )
        return found

    def so_far(self) -> list[EpochRecord]:
        """Return the records that there are, while a run goes on."""
        return [record for record, _ in self._lines()]

    def are_of_another_run(self) -> bool:
        """Return whether there are records, but of another configuration, analysis or data set."""
        with (
            contextlib.suppress(OSError, ValueError, LookupError, TypeError),
            self._records.open("rb") as stream,
        ):
            return bool(json.loads(stream.readline())[store.FINGERPRINT] != self._fingerprint)
        return False

    def _cut_off(self, end: int | None) -> None:
        """Remove the records behind a byte of their file; None: all of them."""
        try:
            if end is None:
                self._records.unlink(missing_ok=True)
            else:
                os.truncate(self._records, end)
        except OSError as error:
            raise store.unwritable(self._records, error) from error

    def _loaded(self, epoch: int, like: State) -> State | None:
        expected = {"kind": "epoch", "epoch": epoch, store.FINGERPRINT: self._fingerprint}
        try:
            return load(self.path(epoch), like, expected)[0]
        except InputError:
            return None  # of another run, or damaged: the one before it is looked at

    def _saved(self) -> list[int]:
        numbers = (path.stem.removeprefix("epoch_") for path in self._folder.glob("epoch_*.npz"))
        return [int(number) for number in numbers if number.isdecimal()]

    def _drop(self, epoch: int, now: int) -> None:
        """Remove the state of an epoch where it is neither one of the latest nor one to keep."""
        asked = self._keep_every is not None and epoch % self._keep_every == 0
        if epoch <= now - KEPT and not asked:
            with contextlib.suppress(OSError):
                self.path(epoch).unlink()

    def _lines(self) -> Iterator[tuple[EpochRecord, int]]:
        """Yield the records of this run, epoch after epoch, each with the byte that it ends at.

        They end before the first that is damaged.
        """
        with (
            contextlib.suppress(OSError, ValueError, LookupError, TypeError, InputError),
            self._records.open("rb") as stream,
        ):
            if json.loads(stream.readline())[store.FINGERPRINT] != self._fingerprint:
                return
            before = None
            for line in stream:
                entry = json.loads(line)
                if not line.endswith(b"\n") or entry["content"] != self._seal(json.dumps(entry["record"])):
                    return
                record = parsed(EpochRecord, entry["record"], str(self._records), "run again")
                if before is not None and record.epoch != before + 1:
                    return
                before = record.epoch
                yield record, stream.tell()

    def _seal(self, text: str) -> str:
        return hashlib.sha256(f"{self._fingerprint} {text}".encode()).hexdigest()[:16]
