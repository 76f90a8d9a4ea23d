"""A column file and its provenance: the ROOT files that it was made from, and what was read and kept of each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from pipeline.data import store
from pipeline.data.names import PART, Part
from pipeline.data.written import Written, parsed


class ColumnRecipe(Written):
    """All that decides the columns of a range; size and time of a local file are absent where it is not there."""

    version: str
    analysis: str
    held_out_fraction: float
    folds: int | None = None
    sample: str
    file: str
    range: tuple[int, int | None]
    promised: int | None
    checksum: str | None
    generator_weight: str | None
    coefficients: tuple[str, ...] = ()  # of a theory, in which the weights were looked at
    source_bytes: int | None = None
    source_mtime_ns: int | None = None


class Contents(Written):
    """What a range gave; of a file that was left out the reason and no events.

    ``first_events`` is a digest of those of the file, empty where the range does not begin with them; ``distinctive``
    says that no other file has the same by chance. The numbers ``..._in_runs`` are those of NanoAOD's tree ``Runs``.
    """

    entries_promised: int | None
    entries_read: dict[Annotated[Part, Field(pattern=PART)], int]
    entries_kept: dict[Annotated[Part, Field(pattern=PART)], int]
    sum_of_weights: dict[Part, float]
    sum_of_absolute_weights: dict[Part, float]
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
    generator_weights: dict[Part, float] | None = None
    digest: str = ""  # of its columns
    types: dict[str, str] = Field(
        default_factory=dict
    )  # of columns that are stored in another type, for the sake of the other files in the column file


class Provenance(ColumnRecipe, Contents):
    """What one ROOT file of a column file, or a range of it, was made into columns by, and what they are."""


class Stored(Written):
    """What a column file that is there holds: that of its ROOT files, one after the other, and digests of them all."""

    sources: tuple[Provenance, ...]
    folds: dict[Part, str]
    content: str


def write(
    path: Path, folds: Mapping[Part, Mapping[str, np.ndarray]], provenances: Sequence[Provenance]
) -> None:
    """Write the columns of ROOT files, one after the other, with their provenances."""
    store.write_columns(path, folds, {"sources": [provenance.as_json() for provenance in provenances]})


def read(path: Path) -> Stored:
    """Return the provenances of a column file.

    Raises:
        InputError: it is not there, damaged, or of another version.
    """
    found = store.read_provenance(path)
    return parsed(Stored, found, f"column file {path}", "delete it and run the `columns` stage again")


def read_sources(
    path: Path, numbers: Iterable[int], folds: Iterable[Part], content: str
) -> Iterator[tuple[Provenance, dict[str, np.ndarray]]]:
    """Yield the columns of some ROOT files of a column file, fold by fold, in the types that they were made in.

    Args:
        numbers: the files, counted from 0.
        content: the digest that the column file has to have.
    """
    sources = read(path).sources
    columns = {fold: store.read_columns(path, fold, content) for fold in folds}
    ends = {fold: np.cumsum([source.entries_kept[fold] for source in sources]) for fold in columns}
    for number in numbers:
        source = sources[number]
        for fold, arrays in columns.items():
            rows = slice(ends[fold][number] - source.entries_kept[fold], ends[fold][number])
            yield (
                source,
                {n: a[rows].astype(source.types.get(n, a.dtype), copy=False) for n, a in arrays.items()},
            )
