"""Save and load each intermediate file: columns (Parquet), states (npz), records (JSON).

Every file is written to a temporary name beside its own and renamed, so a reader sees all of it or nothing.
Nothing here unpickles. Arrays are stored with a digest of their names, shapes and bytes, so a file that was cut
short or has one bit flipped is an `InputError`.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError, OutputError

_PROVENANCE = b"thalweg"
_PROVENANCE_DIGEST = b"thalweg_digest"
_HEADER = "header"
# There is no end to what readers of Parquet, zip and npy files raise on bytes that make no sense (even a TokenError).
_DAMAGED = Exception


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
    """A temporary path beside `path` that takes its place when the block ends well, and is removed when not.

    Raises:
        OutputError: the file cannot be written there; what was at `path` before stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.exists() and not path.is_file():
            raise OutputError(f"cannot write {path}: it is there and no ordinary file; choose another path")
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def unwritable(path: Path, error: OSError) -> OutputError:
    """Why a file cannot be written, with the folder or file that is in the way."""
    place = "" if error.filename is None else f" ({error.filename})"
    return OutputError(
        f"cannot write {path}: {error.strerror or error}{place}; check that the folder can be written and has space"
    )


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
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error


def write_columns(
    path: Path, folds: Mapping[str, Mapping[str, np.ndarray]], provenance: Mapping[str, Any]
) -> None:
    """Write the columns of one ROOT file, one row group per fold; `folds` and `content` are their digests.

    Arrays are [events] or [events, objects]; the second kind becomes a fixed-size list.
    """
    tables = [
        pa.table({name: _arrow(array) for name, array in columns.items()}) for columns in folds.values()
    ]
    digests = {fold: digest(columns) for fold, columns in folds.items()}
    content = _sha256(json.dumps(digests).encode())
    header = json.dumps({**provenance, "folds": digests, "content": content}, allow_nan=False).encode()
    schema = tables[0].schema.with_metadata(
        {_PROVENANCE: header, _PROVENANCE_DIGEST: _sha256(header).encode()}
    )
    # Measured values hardly repeat: a dictionary of them takes longer, and more space, than none.
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, **options) as writer:
        for table in tables:
            writer.write_table(table.cast(schema), row_group_size=max(1, table.num_rows))


def read_provenance(path: Path) -> dict[str, Any]:
    """What a column file was made from: file, entries read and kept per fold, sums of weights, version, digests.

    Read once per process, and again when the file changes.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise InputError(f"column file {path} does not exist; run the `columns` stage first") from error
    except OSError as error:
        raise _damaged("column file", path, error) from error
    return dict(_provenance(path, status.st_mtime_ns, status.st_size, status.st_ino))


@functools.cache
def _provenance(path: Path, *version: int) -> dict[str, Any]:
    try:
        metadata = pq.read_schema(path).metadata
        header = metadata[_PROVENANCE]
        if _sha256(header) != metadata[_PROVENANCE_DIGEST].decode():
            raise ValueError("its header is not what was written")
        provenance: dict[str, Any] = json.loads(header)
    except _DAMAGED as error:
        raise _damaged("column file", path, error) from error
    return provenance


def read_columns(path: Path, fold: str) -> dict[str, np.ndarray]:
    """The columns of one fold, as NumPy arrays."""
    folds = read_provenance(path)["folds"]
    if fold not in folds:
        raise InputError(f"column file {path} has no fold {fold!r}; there are: {', '.join(folds)}")
    try:
        with pq.ParquetFile(path) as file:
            table = file.read_row_group(list(folds).index(fold))
        columns = {name: _numpy(table.column(name)) for name in table.column_names}
        if digest(columns) != folds[fold]:
            raise ValueError(f"the events of fold {fold!r} are not those that were written")
    except _DAMAGED as error:
        raise _damaged("column file", path, error) from error
    return columns


def write_state(path: Path, leaves: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    """Write named arrays and a JSON header to one npz file."""
    text = json.dumps({"header": header, "content": digest(leaves)}, allow_nan=False)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{_HEADER: np.array(text)}, **leaves)  # type: ignore[arg-type]


def read_state(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Named arrays and header of a state file."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            leaves = {name: file[name] for name in file.files}
        stored = json.loads(str(leaves.pop(_HEADER)))
        header: dict[str, Any] = stored["header"]
        if digest(leaves) != stored["content"]:
            raise ValueError("its arrays are not those that were written")
    except FileNotFoundError as error:
        raise InputError(f"state file {path} does not exist; run the `optimise` stage first") from error
    except _DAMAGED as error:
        raise _damaged("state file", path, error) from error
    return leaves, header


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Fingerprint of named arrays: names, types, shapes and bytes, whatever the order of the names."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype} {np.shape(arrays[name])} ".encode())
        total.update(array.data)
    return total.hexdigest()


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _damaged(what: str, path: Path, error: BaseException) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(
        f"{what} {path} is damaged or was not written by this program "
        f"({type(error).__name__}: {reason}); delete it and run again"
    )


def _arrow(array: np.ndarray) -> pa.Array:
    if array.ndim == 1:
        return pa.array(array)
    if array.shape[1] == 0:
        raise ValueError("a column of no objects has nothing to store")  # pyarrow dies of it
    return pa.FixedSizeListArray.from_arrays(
        pa.array(array.reshape(-1)), type=pa.list_(pa.from_numpy_dtype(array.dtype), array.shape[1])
    )


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    combined = column.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        flat: np.ndarray = combined.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(combined), column.type.list_size)
    array: np.ndarray = combined.to_numpy(zero_copy_only=False)
    return array
