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
from pipeline.data.column_file import Provenance, Stored
from pipeline.data.jobs import ColumnsJob, SourceFile
from pipeline.data.names import Part
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
    sources: tuple[Provenance, ...]
    reading: Reading | None

    @property
    def place(self) -> str:
        """The first of its ROOT files."""
        return self.sources[0].file

    @property
    def entries(self) -> int:
        """Entries that were read."""
        return sum(sum(source.entries_read.values()) for source in self.sources)

    @property
    def passing(self) -> int:
        """Those of them that pass the preselection."""
        return sum(sum(source.entries_kept.values()) for source in self.sources)

    def kept(self, fold: Part) -> float:
        """Return the share of the entries that are in a fold and pass the preselection."""
        return sum(source.entries_kept[fold] for source in self.sources) / max(1, self.entries)

    @property
    def bytes_per_entry(self) -> float:
        """Bytes of the column file per entry."""
        return self.path.stat().st_size / max(1, self.entries)


class PlannedFile(NamedTuple):
    """A file of a job, or a range of it: its place in the job, what a present column file says of it, its entries."""

    job: ColumnsJob
    number: int
    made_of: Provenance | None
    entries: int

    @property
    def file(self) -> SourceFile:
        """The file."""
        return self.job.files[self.number]

    def kept(self, fold: Part, sample: Sampled) -> int:
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
    jobs = {name: [job for job in datasets.columns_jobs(config) if job.sample == name] for name in names}
    found = {name: _existing(config, own) for name, own in jobs.items()}
    missing = [name for name, own in found.items() if own is None]
    warming = _warming(config, jobs[missing[0]], folder) if missing else 0.0
    for name in missing:
        found[name] = _measured(config, jobs[name], folder, seconds / len(missing), warming)
    return {name: own for name, own in found.items() if own is not None}


def files_of(config: Config, samples: Mapping[str, Sampled]) -> list[PlannedFile]:
    """Return all files of a run; what the manifest does not say is taken to be as in the files that were looked at."""
    found = []
    for job in datasets.columns_jobs(config):
        made_of = current(config, job)
        for number, file in enumerate(job.files):
            own = None if made_of is None else made_of.sources[number]
            entries = samples[job.sample].sources[0].entries_in_file if file.entries is None else file.entries
            entries = entries if own is None else sum(own.entries_read.values())
            found.append(PlannedFile(job, number, own, entries))
    return found


def current(config: Config, job: ColumnsJob) -> Stored | None:
    """Return what the run's column file of a job holds; None where there is none of this very run."""
    path = store.Folder(config.run).columns(job.name)
    made_of = column_file.read(path) if path.exists() else None
    if made_of is None or any(source.left_out is not None for source in made_of.sources):
        return None
    return None if outdated(config, job, made_of.sources) else made_of


def reading_of(config: Config, files: Sequence[PlannedFile], folder: Path, seconds: float) -> Reading | None:
    """Return what reading takes in a sample whose columns are there in part; None where all are there."""
    left = list(dict.fromkeys(own.job for own in files if own.made_of is None))
    return _measured(config, left, folder, seconds, _warming(config, left, folder)).reading if left else None


def _existing(config: Config, jobs: Sequence[ColumnsJob]) -> Sampled | None:
    """Return the first column file that the run has of a sample, of those with events in every fold."""
    for job in jobs:
        made_of = current(config, job)
        if made_of is None:
            continue
        found = Sampled(store.Folder(config.run).columns(job.name), made_of.sources, None)
        if all(found.kept(fold) > 0 for fold in _filled(config)):
            return found
    return None


def _filled(config: Config) -> tuple[Part, ...]:
    """Return the parts of a column file that hold events."""
    return datasets.parts(config) if config.data.folds is not None else tuple(datasets.folds(config))


def _warming(config: Config, jobs: Sequence[ColumnsJob], folder: Path) -> float:
    """Return how much longer the first file of a process takes than the same once more."""
    first, again = (_read(config, jobs, folder, FIRST_ENTRIES)[1] for _ in range(2))
    return max(0.0, first - again)


def _measured(
    config: Config, jobs: Sequence[ColumnsJob], folder: Path, seconds: float, warming: float
) -> Sampled:
    """Return a column file of the first entries of a sample, as many as can be read in the time, and what that took."""
    few, short = _read(config, jobs, folder, FIRST_ENTRIES)
    entries = min(
        MOST_ENTRIES, round(few.entries * seconds / (2 * short))
    )  # half of the time was or will be lost
    if entries < 2 * few.entries or few.entries < FIRST_ENTRIES:
        return few._replace(reading=Reading(warming, 0.0, short / max(1, few.entries)))
    many, longer = _read(config, jobs, folder, entries)
    per_entry = max(0.0, (longer - short) / max(1, many.entries - few.entries))
    opening = max(0.0, longer - per_entry * many.entries)
    logger.info(f"read {many.entries} entries of {many.place} in {longer:.2g} s")
    return many._replace(reading=Reading(warming, opening, per_entry))


def _read(config: Config, jobs: Sequence[ColumnsJob], folder: Path, entries: int) -> tuple[Sampled, float]:
    """Return a column file of the first entries of a sample's first readable file, and seconds."""
    reason = None
    files = [(job, file) for job in jobs for file in job.files]
    for job, file in files:
        part = ColumnsJob(job.sample, job.index, (beginning(config, file, entries),))
        started = time.perf_counter()
        folds, made_of = make_columns(config, part)
        if made_of[0].left_out is not None:
            reason = made_of[0].left_out
            continue
        path = folder / f"{job.name}.parquet"
        column_file.write(path, folds, made_of)
        return Sampled(path, column_file.read(path).sources, None), time.perf_counter() - started
    raise InputError(f"sample {jobs[0].sample!r}: no file can be read, so nothing can be measured; {reason}")


def beginning(config: Config, file: SourceFile, entries: int) -> SourceFile:
    """Return the first entries of a range; a checksum would have all of the file read."""
    reads = analysis_of(config).reads
    whole = dataclasses.replace(file, checksum=None)
    with rootfile.opened(whole, reads) as root:
        there = rootfile.entries(whole, reads, root)
    stop = min(there.start + entries, there.stop)
    return dataclasses.replace(whole, stop=stop, entries=stop - there.start)
