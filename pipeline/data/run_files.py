"""The files of a run: which there must be, and whether they are of this very configuration."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.data import column_file, datasets, normalisation, store
from pipeline.data.column_file import Provenance
from pipeline.data.fingerprint import of_optimisation
from pipeline.data.jobs import ColumnsJob
from pipeline.data.names import fold_name
from pipeline.data.progress import is_whole
from pipeline.data.provenance import outdated
from pipeline.data.record import EpochRecord
from pipeline.data.written import parsed
from pipeline.errors import InputError

ColumnFiles = list[tuple[str, Path]]


def column_files(config: Config) -> ColumnFiles:
    """Return column files of the run, each checked to be of this very configuration.

    Raises:
        InputError: one is missing, or made from something else.
    """
    folder, found = store.Folder(config.run), []
    for job in datasets.columns_jobs(config):
        path = folder.columns(job.name)
        if reason := outdated(config, job, column_file.read(path).sources):
            raise InputError(f"column file {path} is of another run: {reason}; run the `columns` stage again")
        found.append((job.sample, path))
    return found


def is_current(config: Config, job: ColumnsJob) -> bool:
    """Return whether the column file of a job is there, whole, and what the job would make."""
    path = store.Folder(config.run).columns(job.name)
    made_of = column_file.read(path).sources if path.exists() else ()
    return not any(source.left_out is not None for source in made_of) and not outdated(config, job, made_of)


def provenances(files: ColumnFiles) -> list[Provenance]:
    """Return those of all ROOT files that the column files are made from."""
    return [source for _, path in files for source in column_file.read(path).sources]


def notes(config: Config, files: ColumnFiles) -> list[str]:
    """Return notes for a reader of the result: events that were not read, and doubts about weights."""
    made_of = provenances(files)
    reasons = [file.left_out for file in made_of if file.left_out is not None]
    return [f"left out: {reason}" for reason in reasons] + normalisation.notes(config, made_of)


def records_of_all(config: Config, fingerprint: str) -> list[list[EpochRecord]]:
    """Return the records of each optimisation of a run."""
    return [
        records(config, of_optimisation(fingerprint, fold), fold) for fold in datasets.optimisations(config)
    ]


def records(config: Config, fingerprint: str, fold: int | None = None) -> list[EpochRecord]:
    """Return the records of all epochs, from the blocks of this very run, or of the optimisation outside of a fold.

    Raises:
        InputError: a block is missing, damaged, or of another run or place in it.
    """
    found: list[EpochRecord] = []
    end = 0
    for number in range(1, config.optimise.jobs + 1):
        path, header = block_of(config, fingerprint, number, fold)
        found, end = [*found, *records_in(path, header)], header["epoch"]
    if not is_whole(config.optimise, found, end):
        raise InputError(
            f"{blocks(config, fold)[0].parent} does not hold the epochs 0 to {config.optimise.all_epochs - 1} in "
            f"blocks of {config.optimise.epochs_per_job}; delete it and run again"
        )
    return found


def block_of(
    config: Config, fingerprint: str, number: int, fold: int | None = None
) -> tuple[Path, dict[str, Any]]:
    """Return the path of a block of this very run, and its header.

    Raises:
        InputError: it is missing, damaged, or of another run or place in it.
    """
    path = folder_of(config, fold).block(number)
    expected = {"kind": "block", "block": number, store.FINGERPRINT: fingerprint}
    return path, store.read_state(path, expected)[1]


def records_in(path: Path, header: Mapping[str, Any]) -> list[EpochRecord]:
    """Return the records in the header of a block.

    Raises:
        InputError: they are of another version.
    """
    cure = "delete it and run again"
    return [parsed(EpochRecord, record, f"state file {path}: records", cure) for record in header["records"]]


def evaluation_header(config: Config, fingerprint: str) -> dict[str, str]:
    """Return the header of an evaluation: the run, and how it is judged."""
    joined = [other.model.joined_digest for other in config.evaluate.also.values()]
    judged = [fingerprint, config.evaluate.model_dump(mode="json"), config.model.pseudodata, joined]
    whole = hashlib.sha256(json.dumps(judged, sort_keys=True).encode()).hexdigest()
    return {"kind": "evaluation", store.FINGERPRINT: whole}


def folder_of(config: Config, fold: int | None = None) -> store.Folder:
    """Return the folder of a run, and of its optimisation outside of a fold where it is given."""
    return store.Folder(config.run, "" if fold is None else fold_name(fold))


def blocks(config: Config, fold: int | None = None) -> list[Path]:
    """Return the states at the end of each block of epochs, of the optimisation outside of a fold where it is given."""
    return [folder_of(config, fold).block(number + 1) for number in range(config.optimise.jobs)]
