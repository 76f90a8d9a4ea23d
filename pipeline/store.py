"""Save and load each intermediate file: columns (Parquet), states (npz), records (JSON).

Every file is written to a temporary name beside its own and renamed, so a reader sees all of it or nothing.
Nothing here unpickles: Parquet pages and npz members carry checksums, and a damaged file is an `InputError`.
"""

import contextlib
import dataclasses
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError

_PROVENANCE = b"thalweg"
_HEADER = "header"


@dataclasses.dataclass(frozen=True)
class Folder:
    """Where the files of one run are."""

    run: str

    @property
    def root(self) -> Path:
        """Everything of the run."""
        return Path("results") / self.run

    @property
    def checkpoints(self) -> Path:
        """One state per epoch; no output of a rule, so that Snakemake leaves them when a job fails."""
        return self.root / "checkpoints"

    @property
    def evaluation(self) -> Path:
        """The numbers of the `evaluate` stage."""
        return self.root / "evaluation.json"

    def columns(self, name: str) -> Path:
        """Columns of one ROOT file, named `sample/index`."""
        return self.root / "columns" / f"{name}.parquet"

    def block(self, number: int) -> Path:
        """State and records at the end of a block of epochs, numbered from 1."""
        return self.root / "optimise" / f"block_{number}.npz"

    def workspace(self, point: str, fold: str) -> Path:
        """pyhf workspace of one point on one fold."""
        return self.root / "workspaces" / f"{point}_{fold}.json"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and is removed when not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Write JSON in one step; floats keep all their bits, and NaN or infinity is an error."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON."""
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error


def write_columns(path: Path, folds: Mapping[str, Mapping[str, np.ndarray]], provenance: Mapping[str, Any]) -> None:
    """Write the columns of one ROOT file, one row group per fold.

    Arrays are [events] or [events, objects]; the second kind becomes a fixed-size list.
    """
    tables = [pa.table({name: _arrow(array) for name, array in columns.items()}) for columns in folds.values()]
    metadata = {_PROVENANCE: json.dumps({**provenance, "folds": list(folds)}).encode()}
    schema = tables[0].schema.with_metadata(metadata)
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for table in tables:
            writer.write_table(table.replace_schema_metadata(metadata), row_group_size=max(1, table.num_rows))


def read_provenance(path: Path) -> dict[str, Any]:
    """What a column file was made from: file, entries read and kept per fold, sums of weights, versions."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        provenance: dict[str, Any] = json.loads(metadata[_PROVENANCE])
    except FileNotFoundError as error:
        raise InputError(f"column file {path} does not exist; run the `columns` stage first") from error
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a column file of this program, or is damaged ({error}); delete it") from error
    return provenance


def read_columns(path: Path, fold: str) -> dict[str, np.ndarray]:
    """The columns of one fold, as NumPy arrays."""
    folds = read_provenance(path)["folds"]
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read_row_group(folds.index(fold))
    except OSError as error:
        raise InputError(f"column file {path} is damaged ({error}); delete it and run the workflow again") from error
    return {name: _numpy(table.column(name).combine_chunks()) for name in table.column_names}


def write_state(path: Path, leaves: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    """Write named arrays and a JSON header to one npz file."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{_HEADER: np.array(json.dumps(header))}, **leaves)  # type: ignore[arg-type]


def read_state(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Named arrays and header of a state file; truncation and flipped bits are found by its checksums."""
    try:
        with np.load(path, allow_pickle=False) as file:
            leaves = {name: file[name] for name in file.files}
        header: dict[str, Any] = json.loads(str(leaves.pop(_HEADER)))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"state file {path} is missing or damaged ({error}); delete it and run again") from error
    return leaves, header


def _arrow(array: np.ndarray) -> pa.Array:
    if array.ndim == 1:
        return pa.array(array)
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])


def _numpy(column: pa.Array) -> np.ndarray:
    if pa.types.is_fixed_size_list(column.type):
        flat: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(column), column.type.list_size)
    array: np.ndarray = column.to_numpy(zero_copy_only=False)
    return array
