"""The files of a run: which there must be, and whether they are of this very configuration."""

from pathlib import Path

from pipeline import datasets, normalisation, store
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.provenance import outdated

Columns = list[tuple[str, Path]]


def column_files(config: Config) -> Columns:
    """Column files of the run, each checked to be of this very configuration.

    Raises:
        InputError: one is missing, or made from something else.
    """
    folder, found = store.Folder(config.run), []
    for file in datasets.source_files(config):
        path = folder.columns(file.name)
        if reason := outdated(config, file, store.read_provenance(path)):
            raise InputError(f"column file {path} is of another run: {reason}; run the `columns` stage again")
        found.append((file.sample, path))
    return found


def notes(config: Config, files: Columns) -> list[str]:
    """What a reader of the result should know of the events: which were not read, and doubts about their weights."""
    made_of = [store.read_provenance(path) for _, path in files]
    reasons = [file[datasets.LEFT_OUT] for file in made_of if datasets.LEFT_OUT in file]
    return [f"left out: {reason}" for reason in reasons] + normalisation.notes(config, made_of)


def blocks(config: Config) -> list[Path]:
    """The states at the end of each block of epochs."""
    return [store.Folder(config.run).block(number + 1) for number in range(config.optimise.jobs)]
