"""A ROOT file -> rectangular arrays of the preselected events; the last module to know awkward."""

import inspect
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from pipeline import analysis as contract
from pipeline import reading, store
from pipeline.analysis import EVENT_NUMBER, NOISE, Analysis
from pipeline.config import Config
from pipeline.datasets import HELD_OUT, LEFT_OUT, TRAIN, SourceFile, is_held_out
from pipeline.errors import InputError, Noting
from pipeline.padding import FLOATS, NUMBERS, UnsuitableArray
from pipeline.padding import mask as mask
from pipeline.padding import noise as noise
from pipeline.padding import normal as normal
from pipeline.padding import pad as pad
from pipeline.provenance import LARGEST_WEIGHT, ORIGIN, recipe
from pipeline.reading import UnreadableFile, where

# longdouble, which few readers know, may be wider; NumPy and Parquet have the others on every machine.
LARGEST_TYPE = np.dtype(np.float64).itemsize
CURES = {"c": "return .real, .imag or abs() of it", "f": "return astype('float64') of it"}
PER_EVENT = ("weight", EVENT_NUMBER)
Columns = dict[str, np.ndarray]
Folds = dict[str, Columns]
WEIGHT = "weight"
SUBNORMAL = "subnormal"  # entry of a provenance: how many values of a column were too small for their type


def make(config: Config, file: SourceFile, say: Callable[[str], None]) -> tuple[Folds, dict[str, Any]]:
    """Columns of one range of a file of a run, and their provenance: what was read, by which analysis and version.

    A file that cannot be read gives no columns at all where `data.unreadable_files` is `leave_out`: its provenance
    says why, and the normalisation goes by the events that were read.
    """
    found = contract.load(config.analysis.target, config.analysis.options_json)
    retried = reading.retried(file, config.data.read_attempts, say)
    try:
        folds, provenance = retried(
            lambda: read(file, found, held_out_fraction=config.data.held_out_fraction)
        )
    except UnreadableFile as error:
        if config.data.unreadable_files == "fail":
            raise
        say(f"left out: {error}")
        folds = {TRAIN: {}, HELD_OUT: {}}
        provenance = {**_provenance(file, folds, dict.fromkeys(folds, 0)), LEFT_OUT: str(error)}
    for column, number in provenance.get(SUBNORMAL, {}).items():
        say(f"note: {number} values of column {column!r} are too small for their type and were set to 0")
    return folds, {**provenance, **recipe(config, file)}


def read(
    file: SourceFile, analysis: Analysis, *, held_out_fraction: float, step_events: int = 200_000
) -> tuple[Folds, dict[str, Any]]:
    """Columns of one range of a ROOT file for each fold, and where they come from.

    Arguments:
        held_out_fraction: share of events, by event number, that go to the held-out fold.
        step_events: entries read at a time; bounds the memory, changes no result.

    Raises:
        UnreadableFile: missing or damaged file, no entries.
        InputError: missing tree or branch, values that are not finite.
    """
    pieces: dict[str, list[Columns]] = {TRAIN: [], HELD_OUT: []}
    numbers_given: dict[str, list[np.ndarray]] = {fold: [] for fold in pieces}
    with reading.opened(file, analysis.reads) as root:
        entries = reading.entries(file, analysis.reads, root)
        for start in entries[::step_events]:
            stop = min(start + step_events, entries.stop)
            events, numbers = reading.events(file, analysis.reads, root, start, stop)
            if EVENT_NUMBER not in events.fields:
                events = ak.with_field(events, numbers, EVENT_NUMBER)
            held_out = is_held_out(numbers, held_out_fraction)
            for fold, chosen in ((TRAIN, ~held_out), (HELD_OUT, held_out)):
                if chosen.any():
                    numbers_given[fold].append(numbers[chosen])
                    pieces[fold].append(_columns(file, analysis, events[chosen]))
        identity = root.file.uuid.hex
    read_per_fold = {fold: sum(map(len, numbers)) for fold, numbers in numbers_given.items()}
    folds, origin = _numbered(file, _joined(file, pieces), numbers_given, identity)
    subnormal = {name: _flushed(folds, name) for name in next(iter(folds.values()))}
    provenance = {**_provenance(file, folds, read_per_fold), ORIGIN: origin}
    found = {name: number for name, number in subnormal.items() if number}
    return folds, {**provenance, SUBNORMAL: found} if found else provenance


def _columns(file: SourceFile, analysis: Analysis, events: Any) -> Columns:
    """What the analysis makes of some events, checked: float32, one length, finite."""
    name = type(analysis).__name__
    try:
        with Noting(f"in {name}.columns(events, {file.sample!r}) on {len(events)} events of {file.path}"):
            made = analysis.columns(events, file.sample)
    except UnsuitableArray as error:
        raise InputError(
            f"{where(file)}: {file.path}: {error}; {_place(analysis, error)} columns() of {name}"
        ) from error
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
    """The line of the analysis's own file that an error passed through last."""
    file = inspect.getfile(type(analysis))
    lines = [line for line in traceback.extract_tb(error.__traceback__) if line.filename == file]
    return f"that is line {lines[-1].lineno} of {Path(file).name}, in" if lines else "that is in"


def _rectangular(file: SourceFile, column: str, array: Any) -> np.ndarray:
    """The numbers of a column, in the type that they have; weights in float64.

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
    if column == EVENT_NUMBER and found.dtype.kind not in "iu":
        raise InputError(
            f"{where(file)}: column {column!r} holds {found.dtype}; it is for the numbers that the bootstrap knows "
            f"events by: return events.{EVENT_NUMBER} of the events kept, or give your column another name"
        )
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


def _require_collections(file: SourceFile, analysis: Analysis, columns: Columns) -> None:
    for mask_name, members in analysis.collections.items():
        for name in (mask_name, *members):
            if name not in columns or columns[name].shape != columns.get(mask_name, columns[name]).shape:
                raise InputError(
                    f"{where(file)}: collections[{mask_name!r}] of {type(analysis).__name__} names {name!r}, which is "
                    f"no column [events, objects] of {mask_name!r}'s shape; columns are {', '.join(columns)}"
                )


def _require_inputs(file: SourceFile, analysis: Analysis, columns: Columns) -> None:
    """What the generator that stands in for `Analysis.simulate` is given of an event."""
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


def _joined(file: SourceFile, pieces: Mapping[str, list[Columns]]) -> Folds:
    """The pieces of each fold in one; a fold without events has the columns of the other."""
    first = next(parts[0] for parts in pieces.values() if parts)
    kinds = _kinds(first)
    for piece in (piece for parts in pieces.values() for piece in parts):
        if _kinds(piece) != kinds:
            names = {*kinds, *piece}
            apart = {n for n in names if _kinds(piece).get(n) != kinds.get(n)}
            found, others = ({n: k[n] for n in k if n in apart} for k in (_kinds(piece), kinds))
            raise InputError(
                f"{where(file)}: columns() returns {found} for some events of {file.path} and {others} for others; "
                "names, types and numbers of objects must not depend on the events"
            )
    empty = {name: array[:0] for name, array in first.items()}
    return {
        fold: {name: np.concatenate([piece[name] for piece in parts or [empty]]) for name in first}
        for fold, parts in pieces.items()
    }


def _kinds(columns: Columns) -> dict[str, str]:
    """Type and number of objects of each column."""
    return {name: f"{array.dtype}{list(array.shape[1:]) or ''}" for name, array in columns.items()}


def _numbered(
    file: SourceFile, folds: Folds, given: Mapping[str, list[np.ndarray]], identity: str
) -> tuple[Folds, str]:
    """The columns with the numbers that the bootstrap knows the events by, and what these are numbers in.

    Those of the column that the analysis returns; or of the events, where it keeps all; or else the row's place among
    those kept of this range and fold. In a file the numbers are its own: a copy of it has the same.
    """
    if not int(identity, 16):  # written by a program that gives files no identity
        identity = store.digest(folds[TRAIN]) + store.digest(folds[HELD_OUT])
    if EVENT_NUMBER in folds[TRAIN]:
        return folds, identity
    numbers = {fold: np.concatenate(parts or [np.empty(0, np.int64)]) for fold, parts in given.items()}
    rows = {fold: len(columns[WEIGHT]) for fold, columns in folds.items()}
    if rows == {fold: len(array) for fold, array in numbers.items()}:
        made, origin = numbers, identity
    else:
        made, origin = {fold: np.arange(number) for fold, number in rows.items()}, f"{identity} {file.start}"
    kind = np.result_type(*(array for array in made.values() if len(array)))
    return {f: {**c, EVENT_NUMBER: made[f].astype(kind)} for f, c in folds.items()}, origin


def _flushed(folds: Folds, name: str) -> int:
    """Set to 0 what is too small for its type to be a normal number, as XLA does in silence; how many there were."""
    number = 0
    for columns in folds.values():
        array = columns[name]
        if array.dtype.kind in FLOATS:
            small = (array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny)
            columns[name] = np.where(small, np.zeros_like(array), array) if small.any() else array
            number += int(small.sum())
    return number


def _provenance(file: SourceFile, folds: Folds, read_per_fold: Mapping[str, int]) -> dict[str, Any]:
    return {
        "sample": file.sample,
        "entries_promised": file.entries,
        "entries_read": dict(read_per_fold),
        "entries_kept": {fold: len(columns.get("weight", ())) for fold, columns in folds.items()},
        "sum_of_weights": {
            fold: float(np.sum(columns.get("weight", ()), dtype=np.float64))
            for fold, columns in folds.items()
        },
        LARGEST_WEIGHT: max(
            (float(np.max(np.abs(c[WEIGHT]), initial=0)) for c in folds.values() if c), default=0.0
        ),
    }
