"""Save and load each intermediate file: columns (Parquet), states (npz), records (JSON).

Every file is written to a temporary name beside its own and renamed, so a reader sees all of it or nothing.
Nothing here unpickles. Arrays are stored with a digest of their names, shapes and bytes, so a file that was cut
short or has one bit flipped is an ``InputError``. What belongs to a run says so in a header, which readers compare.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import textfiles
from pipeline.data.atomic import replacing as replacing
from pipeline.data.atomic import unwritable as unwritable
from pipeline.data.jsonfiles import read_json as read_json
from pipeline.data.jsonfiles import write_json as write_json
from pipeline.data.jsonfiles import write_text as write_text
from pipeline.data.names import Part
from pipeline.errors import InputError

_PROVENANCE = b"thalweg"
_PROVENANCE_DIGEST = b"thalweg_digest"
_HEADER, _CONTENT = "header", "content"
FINGERPRINT = "fingerprint"  # entry of a header: what decides the numbers of a run
# There is no end to what readers of Parquet, zip and npy files raise on bytes that make no sense (even a TokenError).
_DAMAGED = Exception


@dataclasses.dataclass(frozen=True)
class Folder:
    """Where the files of one run are, and of its optimisation outside of a fold."""

    run: str
    part: str = ""

    @property
    def root(self) -> Path:
        """Everything of the run."""
        return Path("results") / self.run

    @property
    def checkpoints(self) -> Path:
        """The latest states and a record per epoch; no output of a rule: Snakemake leaves them when a job fails."""
        return self.root / self.part / "checkpoints"

    @property
    def evaluation(self) -> Path:
        """The numbers of the ``evaluate`` stage."""
        return self.root / "evaluation.json"

    @property
    def summary(self) -> Path:
        """The result in few numbers, for other programs."""
        return self.root / "summary.json"

    @property
    def refits(self) -> Path:
        """The refits that ended already; no output of a rule: Snakemake leaves them when a job fails."""
        return self.root / "refits"

    def columns(self, name: str) -> Path:
        """Return the path of the columns that one job makes, named ``sample/index``."""
        return self.root / "columns" / f"{name}.parquet"

    def block(self, number: int) -> Path:
        """Return the path of state and records at the end of a block of epochs, numbered from 1."""
        return self.root / self.part / "optimise" / f"block_{number}.npz"

    def workspace(self, point: str, fold: str) -> Path:
        """Return the path of the pyhf workspace of one point on one fold."""
        return self.root / "workspaces" / f"{point}_{fold}.json"


def write_columns(
    path: Path, folds: Mapping[Part, Mapping[str, np.ndarray]], provenance: Mapping[str, object]
) -> None:
    """Write columns, one row group per fold; ``folds`` and ``content`` are their digests.

    Arrays are [events] or [events, objects]; the second kind becomes a fixed-size list.
    """
    tables = [
        pa.table({name: _arrow(array) for name, array in columns.items()}) for columns in folds.values()
    ]
    digests = {fold: digest(columns) for fold, columns in folds.items()}
    sealed = {**provenance, "folds": digests, "content": _of_folds(digests)}
    header = json.dumps(sealed, allow_nan=False).encode()
    schema = tables[0].schema.with_metadata(
        {_PROVENANCE: header, _PROVENANCE_DIGEST: _sha256(header).encode()}
    )
    # Measured values hardly repeat: a dictionary of them takes longer, and more space, than none.
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, **options) as writer:
        for table in tables:
            writer.write_table(table.cast(schema), row_group_size=max(1, table.num_rows))


def read_provenance(path: Path) -> dict[str, Any]:
    """Return the provenance of a column file: source, entries and sums of weights per fold, version, digests.

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
        textfiles.ordinary(path)
        metadata = pq.read_schema(path).metadata
        header = metadata[_PROVENANCE]
        if _sha256(header) != metadata[_PROVENANCE_DIGEST].decode():
            raise ValueError("its header is not what was written")
        provenance: dict[str, Any] = json.loads(header)
    except _DAMAGED as error:
        raise _damaged("column file", path, error) from error
    return provenance


def read_columns(path: Path, fold: str, content: str | None = None) -> dict[str, np.ndarray]:
    """Return the columns of one fold, as NumPy arrays.

    Args:
        content: the digest that the file has to have; None: any.
    """
    provenance = read_provenance(path)
    folds = provenance["folds"]
    if content is not None and provenance["content"] != content:
        raise InputError(
            f"column file {path} holds other events than when the run began: it was made again or replaced; run again"
        )
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


def column_types(path: Path) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Return type and shape of an event's entry of every column of a file, () or (objects,)."""
    read_provenance(path)
    found: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
    for column in pq.read_schema(path):
        nested = pa.types.is_fixed_size_list(column.type)
        kind = column.type.value_type if nested else column.type
        found[column.name] = np.dtype(kind.to_pandas_dtype()), (column.type.list_size,) if nested else ()
    return found


def write_state(path: Path, leaves: Mapping[str, np.ndarray], header: Mapping[str, object]) -> None:
    """Write named arrays and a JSON header, which says what they are, to one npz file."""
    text = json.dumps(header, allow_nan=False)
    own = {_HEADER: np.array(text), _CONTENT: np.array(_sealed(leaves, text))}
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **own, **leaves)  # type: ignore[arg-type]


def read_state(
    path: Path, expected: Mapping[str, object] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return named arrays and header of a state file.

    Args:
        expected: entries that the header has to have.
    """
    try:
        textfiles.ordinary(path)
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            leaves = {name: file[name] for name in file.files}
        text, content = (str(leaves.pop(name)) for name in (_HEADER, _CONTENT))
        if _sealed(leaves, text) != content:
            raise ValueError("its content is not what was written")
        header: dict[str, Any] = json.loads(text)
    except FileNotFoundError as error:
        raise InputError(f"state file {path} does not exist; run the `optimise` stage first") from error
    except _DAMAGED as error:
        raise _damaged("state file", path, error) from error
    require_header("state file", path, header, expected or {})
    return leaves, header


def require_header(
    what: str, path: Path, header: Mapping[str, object], expected: Mapping[str, object]
) -> None:
    """Raise where a file says that it is something else than what is looked for."""
    for key, wanted in expected.items():
        found = header.get(key)
        if found == wanted:
            continue
        if key == FINGERPRINT:
            raise InputError(
                f"{what} {path} belongs to another configuration, analysis or data set; delete it and run again"
            )
        raise InputError(
            f"{what} {path} holds {key} {found!r}, not {wanted!r}: was it copied or renamed? Delete it and run again"
        )


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the fingerprint of named arrays: names, types, shapes and bytes, whatever the order of the names."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype} {np.shape(arrays[name])} ".encode())
        total.update(array.data)
    return total.hexdigest()


def digest_of_folds(folds: Mapping[Part, Mapping[str, np.ndarray]]) -> str:
    """Return the fingerprint of the columns of all folds."""
    return _of_folds({fold: digest(columns) for fold, columns in folds.items()})


def _of_folds(digests: Mapping[Part, str]) -> str:
    return _sha256(json.dumps(digests).encode())


def _sealed(leaves: Mapping[str, np.ndarray], header: str) -> str:
    return _sha256(f"{digest(leaves)} {header}".encode())


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
        return _numbers(array)
    if array.shape[1] == 0:
        raise ValueError("a column of no objects has nothing to store")  # pyarrow dies of it
    return pa.FixedSizeListArray.from_arrays(
        _numbers(array.reshape(-1)), type=pa.list_(pa.from_numpy_dtype(array.dtype), array.shape[1])
    )


def _numbers(array: np.ndarray) -> pa.Array:
    """Return the same numbers of the same memory, without pandas, which `pa.array` imports to look for its own."""
    held = np.packbits(array, bitorder="little") if array.dtype == bool else np.ascontiguousarray(array)
    return pa.Array.from_buffers(pa.from_numpy_dtype(array.dtype), array.size, [None, pa.py_buffer(held)])


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    combined = column.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        flat: np.ndarray = combined.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(combined), column.type.list_size)
    array: np.ndarray = combined.to_numpy(zero_copy_only=False)
    return array
