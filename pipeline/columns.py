"""A ROOT file -> rectangular arrays of the preselected events; the last module to know awkward."""

from collections.abc import Callable, Mapping
from typing import Any

import awkward as ak
import numpy as np

from pipeline import analysis as contract
from pipeline import bookkeeping, draws, reading
from pipeline.analysis import NOISE, Analysis
from pipeline.branches import with_hint
from pipeline.config import Config
from pipeline.datasets import HELD_OUT, LEFT_OUT, TRAIN, SourceFile, is_held_out
from pipeline.errors import AnalysisError, InputError, Noting
from pipeline.provenance import branch_of_generator_weights, recipe
from pipeline.reading import UnreadableFile, where

Columns = dict[str, np.ndarray]
Folds = dict[str, Columns]


class TooManyObjects(InputError):
    """An event has more objects than the columns hold."""


def pad(array: ak.Array, objects: int, *, fill: float = 0.0) -> np.ndarray:
    """Jagged [events][objects] to rectangular [events, objects], missing ones filled; float32.

    Raises:
        TooManyObjects: an event has more; nothing is dropped in silence. Cut or slice (`jets[:, :8]`) first.
    """
    counts = np.asarray(ak.to_numpy(ak.num(array)))
    if len(counts) and counts.max() > objects:
        raise TooManyObjects(
            f"an event has {counts.max()} objects, more than the {objects} of pad(..., {objects})"
        )
    padded = np.full((len(counts), objects), fill, dtype=np.float32)
    padded[np.arange(objects) < counts[:, None]] = ak.to_numpy(ak.flatten(array), allow_missing=False)
    return padded


def mask(array: ak.Array, objects: int) -> np.ndarray:
    """1 where `pad` holds an object, 0 where it filled; float32 [events, objects]."""
    return pad(ak.ones_like(array), objects)


def normal(event_numbers: ak.Array | np.ndarray, objects: ak.Array, stream: str) -> ak.Array:
    """Standard normal numbers [events][objects], each a function of event number, place and `stream` alone.

    Give all objects of the events, before any selection: their places are part of it.
    """
    counts = ak.to_numpy(ak.num(objects))
    numbers = np.repeat(ak.to_numpy(event_numbers), counts)
    return ak.unflatten(
        draws.normal(numbers, ak.to_numpy(ak.flatten(ak.local_index(objects))), stream), counts
    )


def noise(event_numbers: ak.Array | np.ndarray, number: int, stream: str = "noise") -> np.ndarray:
    """`number` standard normal numbers per event, [events, number], functions of its number and `stream` alone.

    As column `noise` they are what the generator that stands in for `Analysis.simulate` draws by.
    """
    events = ak.to_numpy(event_numbers)
    index = np.tile(np.arange(number), len(events))
    return draws.normal(np.repeat(events, number), index, stream).reshape(len(events), number)


def make(config: Config, file: SourceFile, say: Callable[[str], None]) -> tuple[Folds, dict[str, Any]]:
    """Columns of one range of a file of a run, and their provenance: what was read, by which analysis and version.

    A file that cannot be read gives no columns at all where `data.unreadable_files` is `leave_out`: its provenance
    says why, and the normalisation goes by the events that were read.
    """
    made_of = recipe(config, file)
    found = contract.load(config.analysis.target, config.analysis.options_json, config.analysis.content)
    retried = reading.retried(file, config.data.read_attempts, say)
    try:
        folds, provenance = retried(
            lambda: read(
                file,
                found,
                held_out_fraction=config.data.held_out_fraction,
                generator_weight=branch_of_generator_weights(config, file),
            )
        )
    except UnreadableFile as error:
        if config.data.unreadable_files == "fail":
            raise
        say(f"left out: {error}")
        folds = {TRAIN: {}, HELD_OUT: {}}
        provenance = {**_provenance(file, folds, dict.fromkeys(folds, 0)), LEFT_OUT: str(error)}
    if recipe(config, file) != made_of:
        raise InputError(
            f"{where(file)}: the analysis or {file.path} was changed while it was read; run again"
        )
    return folds, {**provenance, **made_of}


def read(
    file: SourceFile,
    analysis: Analysis,
    *,
    held_out_fraction: float,
    generator_weight: str | None = None,
    step_events: int = 200_000,
) -> tuple[Folds, dict[str, Any]]:
    """Columns of one range of a ROOT file for each fold, and where they come from.

    Arguments:
        held_out_fraction: share of events, by event number, that go to the held-out fold.
        generator_weight: branch whose sum per fold goes into the provenance, if any.
        step_events: entries read at a time; bounds the memory, changes no result.

    Raises:
        UnreadableFile: missing or damaged file, another checksum than the manifest's, fewer entries than it promises.
        InputError: missing tree or branch, values that are not finite.
    """
    pieces: dict[str, list[Columns]] = {TRAIN: [], HELD_OUT: []}
    read_per_fold = dict.fromkeys(pieces, 0)
    weights = []
    bookkeeping.verify(file)
    with reading.opened(file, analysis.reads) as root:
        entries = reading.entries(file, analysis.reads, root)
        facts = bookkeeping.of_file(file, analysis.reads, root, generator_weight)
        for start in entries[::step_events]:
            stop = min(start + step_events, entries.stop)
            events, numbers = reading.events(file, analysis.reads, root, start, stop)
            held_out = is_held_out(numbers, held_out_fraction)
            if start == 0:
                facts |= bookkeeping.first_events(file, analysis.reads, root, events)
            if generator_weight is not None:
                weights.append(
                    bookkeeping.weights(file, analysis.reads, root, generator_weight, start, held_out)
                )
            for fold, chosen in ((TRAIN, ~held_out), (HELD_OUT, held_out)):
                if chosen.any():
                    read_per_fold[fold] += int(chosen.sum())
                    pieces[fold].append(_columns(file, analysis, events[chosen]))
    folds = _joined(file, pieces)
    facts["generator_weights"] = bookkeeping.added(weights)
    return folds, {**_provenance(file, folds, read_per_fold), **facts}


def _columns(file: SourceFile, analysis: Analysis, events: Any) -> Columns:
    """What the analysis makes of some events, checked: float32, one length, finite."""
    name = type(analysis).__name__
    try:
        with Noting(f"in {name}.columns(events, {file.sample!r}) on {len(events)} events of {file.path}"):
            made = analysis.columns(events, file.sample)
    except TooManyObjects as error:
        raise InputError(f"{where(file)}: {file.path}: {error}; the pad is in columns() of {name}") from error
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


def _rectangular(file: SourceFile, column: str, array: Any) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # too large for float32 is infinite, and found so
            return np.asarray(ak.to_numpy(array, allow_missing=False), dtype=np.float32)
    except (ValueError, TypeError) as error:
        kind = getattr(array, "type", None) or type(array).__name__
        raise InputError(
            f"{where(file)}: column {column!r} is no rectangular array of numbers but {kind}; "
            "use pad(array, objects) where the number of objects varies, ak.fill_none where values are missing"
        ) from error


def _require_shape(file: SourceFile, column: str, array: np.ndarray, events: int) -> None:
    flat = array.ndim == 1
    wide = array.ndim == 2 and array.shape[1] > 0 and column != "weight"
    if not (flat or wide) or len(array) != events:
        allowed = "[events]" if column == "weight" else "[events] or [events, objects]"
        found = f"column {column!r} has shape {array.shape}"
        raise InputError(f"{where(file)}: {found}; allowed: {allowed} with {events} events, as 'weight' has")


def _require_finite(file: SourceFile, column: str, array: np.ndarray) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        raise InputError(
            f"{where(file)}: column {column!r} of {file.path} holds {int(bad.sum())} values that are not finite "
            f"in float32 (the first: {array[bad][0]}, in selected event {np.argwhere(bad)[0][0]}); "
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
    shapes = {name: array.shape[1:] for name, array in first.items()}
    for piece in (piece for parts in pieces.values() for piece in parts):
        found = {name: array.shape[1:] for name, array in piece.items()}
        if found != shapes:
            raise InputError(
                f"{where(file)}: columns() returns {found} for some events of {file.path} and {shapes} for others; "
                "names and numbers of objects must not depend on the events"
            )
    empty = {name: array[:0] for name, array in first.items()}
    return {
        fold: {name: np.concatenate([piece[name] for piece in parts or [empty]]) for name in first}
        for fold, parts in pieces.items()
    }


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
        "sum_of_absolute_weights": {
            fold: float(np.sum(np.abs(columns.get("weight", ())), dtype=np.float64))
            for fold, columns in folds.items()
        },
    }
