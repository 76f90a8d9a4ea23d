"""What ``Analysis.columns`` makes of some events, checked: rectangular arrays of finite numbers, of one length."""

import inspect
import traceback
from collections.abc import Mapping
from pathlib import Path

import awkward as ak
import numpy as np

from pipeline.analysis import EVENT_NUMBER, NOISE, Analysis
from pipeline.analysis.declarations import TAKEN, is_taken
from pipeline.analysis.declarations import WEIGHT as WEIGHT
from pipeline.columns.branches import with_hint
from pipeline.columns.padding import NUMBERS, UnsuitableArray
from pipeline.columns.rootfile import where
from pipeline.data.jobs import SourceFile
from pipeline.errors import AnalysisError, InputError, Noting

# longdouble, which few readers know, may be wider; NumPy and Parquet have the others on every machine.
LARGEST_TYPE = np.dtype(np.float64).itemsize
CURES = {"c": "return .real, .imag or abs() of it", "f": "return astype('float64') of it"}
PER_EVENT = (WEIGHT, EVENT_NUMBER)
NumpyColumns = dict[str, np.ndarray]


def selected(file: SourceFile, analysis: Analysis, events: ak.Array) -> NumpyColumns:
    """Return the columns that the analysis makes of some events.

    Raises:
        AnalysisError: its own code failed.
        InputError: what it returns is not rectangular, of one length, of numbers, finite; or lacks what it declares.
    """
    name = type(analysis).__name__
    try:
        with Noting(f"in {name}.columns(events, {file.sample!r}) on {len(events)} events of {file.path}"):
            made = analysis.columns(events, file.sample)
    except UnsuitableArray as error:
        raise InputError(
            f"{where(file)}: {file.path}: {error}; {_place(analysis, error)} columns() of {name}"
        ) from error
    except AnalysisError as error:
        raise with_hint(error, analysis.reads) from error.__cause__
    if not isinstance(made, Mapping) or "weight" not in made:
        found = f"the columns {list(made)}" if isinstance(made, Mapping) else f"a {type(made).__name__}"
        raise InputError(
            f"{where(file)}: columns() of {name} returns {found}; it must return {{name: array}} with a 'weight'"
        )
    columns = {column: _rectangular(file, column, array) for column, array in made.items()}
    for column, array in columns.items():
        _require_shape(file, column, array, len(columns["weight"]))
        _require_finite(file, column, array)
    _require_collections(file, analysis, columns)
    _require_inputs(file, analysis, columns)
    return columns


def _place(analysis: Analysis, error: BaseException) -> str:
    """Return the line of the analysis's own file that an error passed through last."""
    file = inspect.getfile(type(analysis))
    lines = [line for line in traceback.extract_tb(error.__traceback__) if line.filename == file]
    return f"that is line {lines[-1].lineno} of {Path(file).name}, in" if lines else "that is in"


def _rectangular(file: SourceFile, column: str, array: object) -> np.ndarray:
    """Return the numbers of a column, in the type that they have; weights in float64.

    A type without a place in column files, or whose numbers would be rounded there, is refused.
    """
    try:
        found = np.asarray(ak.to_numpy(array, allow_missing=False))
    except (ValueError, TypeError) as error:
        kind = getattr(array, "type", None) or type(array).__name__
        raise InputError(
            f"{where(file)}: column {column!r} is no rectangular array of numbers but {kind}; "
            "use pad(array, objects) where the number of objects varies, ak.fill_none where values are missing"
        ) from error
    if found.dtype.kind not in NUMBERS or found.dtype.itemsize > LARGEST_TYPE:
        raise InputError(
            f"{where(file)}: column {column!r} is no rectangular array of numbers but holds {found.dtype}; allowed: "
            f"booleans, whole numbers, float16, float32, float64; {CURES.get(found.dtype.kind, 'convert or drop it')}"
        )
    if is_taken(column):
        raise InputError(f"{where(file)}: column {column!r}: {TAKEN}")
    if column == EVENT_NUMBER and found.dtype.kind not in "iu":
        raise InputError(
            f"{where(file)}: column {column!r} holds {found.dtype}; it is for the numbers that the bootstrap knows "
            f"events by: return events.{EVENT_NUMBER} of the events kept, or give your column another name"
        )
    if (
        found.dtype == np.float16
    ):  # its small numbers are so large that they would be lost, and few programs know it
        found = found.astype(np.float32)
    if column == WEIGHT:
        return found.astype(np.float64)
    return found.astype(found.dtype.newbyteorder("="), copy=False)


def _require_shape(file: SourceFile, column: str, array: np.ndarray, events: int) -> None:
    flat = array.ndim == 1
    wide = array.ndim == 2 and array.shape[1] > 0 and column not in PER_EVENT
    if not (flat or wide) or len(array) != events:
        allowed = "[events]" if column in PER_EVENT else "[events] or [events, objects]"
        found = f"column {column!r} has shape {array.shape}"
        raise InputError(f"{where(file)}: {found}; allowed: {allowed} with {events} events, as 'weight' has")


def _require_finite(file: SourceFile, column: str, array: np.ndarray) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        raise InputError(
            f"{where(file)}: column {column!r} of {file.path} holds {int(bad.sum())} values that are not finite "
            f"(the first: {array[bad][0]}, in selected event {np.argwhere(bad)[0][0]}); "
            "cut such events in columns()"
        )


def _require_collections(file: SourceFile, analysis: Analysis, columns: NumpyColumns) -> None:
    for mask_name, members in analysis.collections.items():
        for name in (mask_name, *members):
            if name not in columns or columns[name].shape != columns.get(mask_name, columns[name]).shape:
                raise InputError(
                    f"{where(file)}: collections[{mask_name!r}] of {type(analysis).__name__} names {name!r}, which is "
                    f"no column [events, objects] of {mask_name!r}'s shape; columns are {', '.join(columns)}"
                )


def _require_inputs(file: SourceFile, analysis: Analysis, columns: NumpyColumns) -> None:
    """Check the inputs that a generator in place of ``Analysis.simulate`` is given."""
    stage = analysis.simulated
    if stage is None:
        return
    events = columns["weight"].shape
    for name, shape in {**dict.fromkeys(stage.inputs, events), NOISE: (*events, stage.noise)}.items():
        found = (
            f"has shape {columns[name].shape}" if name in columns else f"is not one of {', '.join(columns)}"
        )
        if name not in columns or columns[name].shape != shape:
            raise InputError(
                f"{where(file)}: `simulated` of {type(analysis).__name__} needs a column {name!r} of shape {shape}; it "
                f"{found}; columns() makes it" + (" with pipeline.columns.noise" if name == NOISE else "")
            )
