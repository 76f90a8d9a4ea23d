"""Column files to measure on: one of each sample, the run's own where it has one, else the first entries of a file."""

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.analysis import analysis_of
from pipeline.columns import rootfile
from pipeline.columns.make import make_columns
from pipeline.config import Config
from pipeline.data import column_file, datasets, store
from pipeline.data.column_file import Stored
from pipeline.data.datasets import SourceFile
from pipeline.data.names import Fold
from pipeline.data.provenance import outdated
from pipeline.errors import InputError

logger = logging.getLogger(__name__)
FIRST_ENTRIES = 1000  # of a file, read to see how fast that goes
MOST_ENTRIES = 50_000  # of a file; more say nothing new


class Reading(NamedTuple):
    """What reading a range takes: seconds of the first file of a process, of opening a file, and of an entry."""

    first: float
    opening: float
    per_entry: float


class Sampled(NamedTuple):
    """What is known of a sample from one column file: its events, and what reading them took, if they were read."""

    path: Path
    made_of: Stored
    reading: Reading | None

    @property
    def entries(self) -> int:
        """Entries that were read."""
        return sum(self.made_of.entries_read.values())

    def kept(self, fold: Fold) -> float:
        """Return the share of the entries that are in a fold and pass the preselection."""
        return self.made_of.entries_kept[fold] / max(1, self.entries)

    @property
    def bytes_per_entry(self) -> float:
        """Bytes of the column file per entry."""
        return self.path.stat().st_size / max(1, self.entries)


class JobRange(NamedTuple):
    """A range of a ROOT file, its column file where there is a present one, and its entries."""

    file: SourceFile
    made_of: Stored | None
    entries: int

    def kept(self, fold: Fold, sample: Sampled) -> int:
        """Return the preselected events of a fold: of its column file, else as many as in the sample's other file."""
        if self.made_of is not None:
            return self.made_of.entries_kept[fold]
        return round(sample.kept(fold) * self.entries)


def samples_of(config: Config, folder: Path, seconds: float) -> dict[str, Sampled]:
    """Return a column file of each sample; what the run has not got is made in a folder.

    Args:
        seconds: for reading, about.

    Raises:
        InputError: no file of a sample can be read.
    """
    names = datasets.sample_names(config)
    files = {name: [f for f in datasets.source_files(config) if f.sample == name] for name in names}
    found = {name: _existing(config, own) for name, own in files.items()}
    missing = [name for name, own in found.items() if own is None]
    warming = _warming(config, files[missing[0]], folder) if missing else 0.0
    for name in missing:
        found[name] = _measured(config, files[name], folder, seconds / len(missing), warming)
    return {name: own for name, own in found.items() if own is not None}


def ranges_of(config: Config, samples: Mapping[str, Sampled]) -> list[JobRange]:
    """Return all ranges of a run; what the manifest does not say is taken to be as in the files that were looked at."""
    found = []
    for file in datasets.source_files(config):
        made_of = current(config, file)
        entries = samples[file.sample].made_of.entries_in_file if file.entries is None else file.entries
        if made_of is not None:
            entries = sum(made_of.entries_read.values())
        found.append(JobRange(file, made_of, entries))
    return found


def current(config: Config, file: SourceFile) -> Stored | None:
    """Return the provenance of the run's column file of a range; None where there is none of this very run."""
    path = store.Folder(config.run).columns(file.name)
    made_of = column_file.read(path) if path.exists() else None
    if made_of is None or made_of.left_out is not None or outdated(config, file, made_of):
        return None
    return made_of


def reading_of(config: Config, ranges: Sequence[JobRange], folder: Path, seconds: float) -> Reading | None:
    """Return what reading takes in a sample whose columns are there in part; None where all are there."""
    left = [own.file for own in ranges if own.made_of is None]
    return _measured(config, left, folder, seconds, _warming(config, left, folder)).reading if left else None


def _existing(config: Config, files: Sequence[SourceFile]) -> Sampled | None:
    """Return the first column file that the run has of a sample, of those with events in every fold."""
    for file in files:
        made_of = current(config, file)
        if made_of is not None and all(made_of.entries_kept[fold] for fold in datasets.folds(config)):
            return Sampled(store.Folder(config.run).columns(file.name), made_of, None)
    return None


def _warming(config: Config, files: Sequence[SourceFile], folder: Path) -> float:
    """Return how much longer the first file of a process takes than the same once more."""
    first, again = (_read(config, files, folder, FIRST_ENTRIES)[1] for _ in range(2))
    return max(0.0, first - again)


def _measured(
    config: Config, files: Sequence[SourceFile], folder: Path, seconds: float, warming: float
) -> Sampled:
    """Return a column file of the first entries of a sample, as many as can be read in the time, and what that took."""
    few, short = _read(config, files, folder, FIRST_ENTRIES)
    entries = min(
        MOST_ENTRIES, round(few.entries * seconds / (2 * short))
    )  # half of the time was or will be lost
    if entries < 2 * few.entries or few.entries < FIRST_ENTRIES:
        return few._replace(reading=Reading(warming, 0.0, short / max(1, few.entries)))
    many, longer = _read(config, files, folder, entries)
    per_entry = max(0.0, (longer - short) / max(1, many.entries - few.entries))
    opening = max(0.0, longer - per_entry * many.entries)
    logger.info(f"read {many.entries} entries of {many.made_of.file} in {longer:.2g} s")
    return many._replace(reading=Reading(warming, opening, per_entry))


def _read(config: Config, files: Sequence[SourceFile], folder: Path, entries: int) -> tuple[Sampled, float]:
    """Return a column file of the first entries of a sample's first readable file, and seconds."""
    reason = None
    for file in files:
        part = _beginning(config, file, entries)
        started = time.perf_counter()
        folds, made_of = make_columns(config, part)
        if made_of.left_out is not None:
            reason = made_of.left_out
            continue
        path = folder / f"{file.name}.parquet"
        column_file.write(path, folds, made_of)
        return Sampled(path, column_file.read(path), None), time.perf_counter() - started
    raise InputError(f"sample {files[0].sample!r}: no file can be read, so nothing can be measured; {reason}")


def _beginning(config: Config, file: SourceFile, entries: int) -> SourceFile:
    """Return the first entries of a range; a checksum would have all of the file read."""
    reads = analysis_of(config).reads
    whole = dataclasses.replace(file, checksum=None)
    with rootfile.opened(whole, reads) as root:
        there = rootfile.entries(whole, reads, root)
    stop = min(there.start + entries, there.stop)
    return dataclasses.replace(whole, stop=stop, entries=stop - there.start)
