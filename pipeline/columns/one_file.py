"""A range of a ROOT file -> rectangular arrays of the preselected events; the last module to know awkward."""

from collections.abc import Mapping

import awkward as ak
import numpy as np

from pipeline.analysis import EVENT_NUMBER, Analysis
from pipeline.columns import bookkeeping, rootfile
from pipeline.columns.padding import FLOATS
from pipeline.columns.rootfile import where
from pipeline.columns.selection import WEIGHT, NumpyColumns, selected
from pipeline.data import store
from pipeline.data.column_file import Contents
from pipeline.data.datasets import divided
from pipeline.data.jobs import SourceFile
from pipeline.data.names import TRAIN, Part
from pipeline.errors import InputError

Folds = dict[Part, NumpyColumns]


def read_events(
    file: SourceFile,
    analysis: Analysis,
    *,
    held_out_fraction: float,
    folds: int | None = None,
    generator_weight: str | None = None,
    step_events: int = 200_000,
) -> tuple[Folds, Contents]:
    """Return columns of one range of a ROOT file for each fold, and where they come from.

    Args:
        held_out_fraction: share of events, by event number, that go to the held-out fold.
        folds: number of those that events go to by their number instead; None: of training and held-out ones.
        generator_weight: branch whose sum per fold goes into the provenance, if any.
        step_events: entries read at a time; bounds the memory, changes no result.

    Raises:
        UnreadableFile: missing or damaged file, another checksum than the manifest's, fewer entries than it promises.
        InputError: missing tree or branch, values that are not finite.
    """
    pieces: dict[Part, list[NumpyColumns]] = {part: [] for part in divided(np.empty(0, np.int64), 0.0, folds)}
    numbers_given: dict[Part, list[np.ndarray]] = {fold: [] for fold in pieces}
    weights = []
    first = "", False
    bookkeeping.verify(file)
    with rootfile.opened(file, analysis.reads) as root:
        entries = rootfile.entries(file, analysis.reads, root)
        facts = bookkeeping.of_file(file, analysis.reads, root, generator_weight)
        for start in entries[::step_events]:
            stop = min(start + step_events, entries.stop)
            events, numbers = rootfile.events(file, analysis.reads, root, start, stop)
            if start == 0:
                first = bookkeeping.first_events(file, analysis.reads, root, events)
            if EVENT_NUMBER not in events.fields:
                events = ak.with_field(events, numbers, EVENT_NUMBER)
            parts = divided(numbers, held_out_fraction, folds)
            if generator_weight is not None:
                weights.append(
                    bookkeeping.weights(file, analysis.reads, root, generator_weight, start, parts)
                )
            for fold, chosen in parts.items():
                if chosen.any():
                    numbers_given[fold].append(numbers[chosen])
                    pieces[fold].append(selected(file, analysis, events[chosen]))
        identity = root.file.uuid.hex
    read_per_fold = {fold: sum(map(len, numbers)) for fold, numbers in numbers_given.items()}
    made, origin = _numbered(file, _joined(file, pieces), numbers_given, identity)
    subnormal = {name: _flushed(made, name) for name in next(iter(made.values()))}
    contents = contents_of(file, made, read_per_fold).changed(
        **facts._asdict(),
        event_numbers_of=origin,
        subnormal={name: number for name, number in subnormal.items() if number},
        first_events=first[0],
        distinctive=first[1],
        generator_weights=bookkeeping.added(weights),
    )
    return made, contents


def _joined(file: SourceFile, pieces: Mapping[Part, list[NumpyColumns]]) -> Folds:
    """Return the pieces of each fold in one; a fold without events has the columns of the others."""
    first = next(parts[0] for parts in pieces.values() if parts)
    expected = kinds(first)
    for piece in (piece for parts in pieces.values() for piece in parts):
        if kinds(piece) != expected:
            names = {*expected, *piece}
            apart = {n for n in names if kinds(piece).get(n) != expected.get(n)}
            found, others = ({n: k[n] for n in k if n in apart} for k in (kinds(piece), expected))
            raise InputError(
                f"{where(file)}: columns() returns {found} for some events of {file.path} and {others} for others; "
                "names, types and numbers of objects must not depend on the events"
            )
    empty = {name: array[:0] for name, array in first.items()}
    return {
        fold: {name: np.concatenate([piece[name] for piece in parts or [empty]]) for name in first}
        for fold, parts in pieces.items()
    }


def kinds(columns: NumpyColumns) -> dict[str, str]:
    """Return type and number of objects of each column."""
    return {name: f"{array.dtype}{list(array.shape[1:]) or ''}" for name, array in columns.items()}


def _numbered(
    file: SourceFile, folds: Folds, given: Mapping[Part, list[np.ndarray]], identity: str
) -> tuple[Folds, str]:
    """Return the columns with the numbers that the bootstrap knows the events by, and what these are numbers in.

    Those of the column that the analysis returns; or of the events, where it keeps all; or else the row's place among
    those kept of this range and fold, see ``_places``. In a file the numbers are its own: a copy of it has the same.
    """
    if not int(identity, 16):  # written by a program that gives files no identity
        identity = "".join(map(store.digest, folds.values()))
    if EVENT_NUMBER in next(iter(folds.values())):
        return folds, identity
    numbers = {fold: np.concatenate(parts or [np.empty(0, np.int64)]) for fold, parts in given.items()}
    rows = {fold: len(columns[WEIGHT]) for fold, columns in folds.items()}
    if rows == {fold: len(array) for fold, array in numbers.items()}:
        made, origin = numbers, identity
    else:
        made, origin = _places(rows), f"{identity} {file.start}"
    kept = [array for array in made.values() if len(array)]
    kind = np.result_type(*kept) if kept else np.dtype(np.int64)
    return {f: {**c, EVENT_NUMBER: made[f].astype(kind)} for f, c in folds.items()}, origin


def _places(rows: Mapping[Part, int]) -> dict[Part, np.ndarray]:
    """Return the place of each row in its fold; in all of ``data.folds``, which one bootstrap sees together."""
    ends = np.cumsum([*rows.values()])
    firsts = {
        part: 0 if TRAIN in rows else int(end) - rows[part] for part, end in zip(rows, ends, strict=True)
    }
    return {part: np.arange(first, first + rows[part]) for part, first in firsts.items()}


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


def contents_of(file: SourceFile, folds: Folds, read_per_fold: Mapping[Part, int]) -> Contents:
    """Return the numbers of events and the sums of weights of a range."""
    weights = {fold: np.asarray(columns.get(WEIGHT, ())) for fold, columns in folds.items()}
    return Contents(
        entries_promised=file.entries,
        entries_read=dict(read_per_fold),
        entries_kept={fold: len(own) for fold, own in weights.items()},
        sum_of_weights={fold: float(np.sum(own, dtype=np.float64)) for fold, own in weights.items()},
        sum_of_absolute_weights={
            fold: float(np.sum(np.abs(own), dtype=np.float64)) for fold, own in weights.items()
        },
        digest=store.digest_of_folds(folds),
        largest_weight=max(float(np.max(np.abs(own), initial=0)) for own in weights.values()),
    )
