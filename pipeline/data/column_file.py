"""The provenance of a column file: what it was made from, and what was read and kept."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import Field

from pipeline.data import store
from pipeline.data.names import Fold
from pipeline.data.written import Written, parsed


class ColumnRecipe(Written):
    """All that decides the columns of a range; size and time of a local file are absent where it is not there."""

    version: str
    analysis: str
    held_out_fraction: float
    sample: str
    file: str
    range: tuple[int, int | None]
    promised: int | None
    checksum: str | None
    generator_weight: str | None
    source_bytes: int | None = None
    source_mtime_ns: int | None = None


class Contents(Written):
    """What a range gave; of a file that was left out the reason and no events.

    ``first_events`` is a digest of those of the file, empty where the range does not begin with them; ``distinctive``
    says that no other file has the same by chance. The numbers ``..._in_runs`` are those of NanoAOD's tree ``Runs``.
    """

    entries_promised: int | None
    entries_read: dict[Fold, int]
    entries_kept: dict[Fold, int]
    sum_of_weights: dict[Fold, float]
    sum_of_absolute_weights: dict[Fold, float]
    largest_weight: float  # whatever its sign
    left_out: str | None = None
    event_numbers_of: str | None = None  # the file in which its events have the numbers of their column
    subnormal: dict[str, int] = Field(
        default_factory=dict
    )  # values of a column that were too small for their type
    file_uuid: str = ""
    entries_in_file: int = 0
    events_in_runs: float | None = None
    weights_in_runs: float | None = None
    first_events: str = ""
    distinctive: bool = False
    generator_weights: dict[Fold, float] | None = None


class Provenance(ColumnRecipe, Contents):
    """What a column file was made from, and what is in it."""


class Stored(Provenance):
    """The provenance of a column file that is there, with digests of its columns by fold, and of them all."""

    folds: dict[Fold, str]
    content: str


def write(path: Path, folds: Mapping[Fold, Mapping[str, np.ndarray]], provenance: Provenance) -> None:
    """Write the columns of one ROOT file with their provenance."""
    store.write_columns(path, folds, provenance.as_json())


def read(path: Path) -> Stored:
    """Return the provenance of a column file.

    Raises:
        InputError: it is not there, damaged, or of another version.
    """
    found = store.read_provenance(path)
    return parsed(Stored, found, f"column file {path}", "delete it and run the `columns` stage again")
