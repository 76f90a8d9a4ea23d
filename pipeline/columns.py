"""A ROOT file -> rectangular arrays of the preselected events; the last module to know awkward and coffea."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory

import pipeline
from pipeline import analysis as contract
from pipeline.analysis import Analysis, FlatTree, NanoAOD
from pipeline.config import Config
from pipeline.datasets import HELD_OUT, TRAIN, SourceFile, is_held_out
from pipeline.errors import ConfigError, InputError, Noting, nearest
from pipeline.store import read_provenance

Folds = dict[str, dict[str, np.ndarray]]

# What uproot and awkward raise on bytes that make no sense.
DAMAGED = (
    *(OSError, ValueError, LookupError, TypeError, RuntimeError, EOFError, MemoryError, OverflowError),
    *(struct.error, zlib.error, uproot.DeserializationError),
)


class _Schema(NanoAODSchema):  # type: ignore[misc]
    """NanoAOD without the complaints about branches that the analysis does not read."""

    warn_missing_crossrefs = False
    event_ids = ()


class TooManyObjects(ValueError):
    """An event has more objects than the columns hold."""


def pad(array: ak.Array, objects: int, *, fill: float = 0.0) -> np.ndarray:
    """Jagged [events][objects] to rectangular [events, objects], missing ones filled; float32.

    Raises:
        TooManyObjects: an event has more; nothing is dropped in silence. Cut or slice (`jets[:, :8]`) first.
    """
    longest = int(ak.max(ak.num(array), initial=0)) if len(array) else 0
    if longest > objects:
        raise TooManyObjects(
            f"an event has {longest} objects, more than the {objects} of pad(..., {objects})"
        )
    padded = ak.fill_none(ak.pad_none(array, objects, clip=True), fill)
    return np.asarray(ak.to_numpy(padded), dtype=np.float32).reshape(len(array), objects)


def mask(array: ak.Array, objects: int) -> np.ndarray:
    """1 where `pad` holds an object, 0 where it filled; float32 [events, objects]."""
    return pad(ak.ones_like(array), objects)


def make(config: Config, file: SourceFile) -> tuple[Folds, dict[str, Any]]:
    """Columns of one file of a run, and their provenance: what was read, and by which analysis and version."""
    found = contract.load(config.analysis.target, config.analysis.options_json)
    folds, provenance = read(file, found, held_out_fraction=config.data.held_out_fraction)
    return folds, {**provenance, **_recipe(config, file)}


def is_current(config: Config, file: SourceFile, path: Path) -> bool:
    """Whether a column file is there and made by this analysis and version from the ROOT file as it is now."""
    if not path.exists() or not (file.is_remote or Path(file.path).exists()):
        return False
    provenance = read_provenance(path)
    return all(provenance.get(key) == value for key, value in _recipe(config, file).items())


def read(
    file: SourceFile, analysis: Analysis, *, held_out_fraction: float, step_events: int = 100_000
) -> tuple[Folds, dict[str, Any]]:
    """Columns of one ROOT file for each fold, and where they come from.

    Arguments:
        held_out_fraction: share of events, by event number, that go to the held-out fold.
        step_events: entries read at a time; bounds the memory, changes no result.

    Raises:
        InputError: missing or damaged file, missing tree or branch, no entries, values that are not finite.
    """
    entries = _entries(file, analysis)
    pieces: dict[str, list[dict[str, np.ndarray]]] = {TRAIN: [], HELD_OUT: []}
    read_per_fold = dict.fromkeys(pieces, 0)
    for start in range(0, entries, step_events):
        events, numbers = _events(file, analysis, start, min(start + step_events, entries))
        held_out = is_held_out(numbers, held_out_fraction)
        for fold, chosen in ((TRAIN, ~held_out), (HELD_OUT, held_out)):
            if chosen.any():
                read_per_fold[fold] += int(chosen.sum())
                pieces[fold].append(_columns(file, analysis, events[chosen]))
    folds = _joined(file, pieces)
    return folds, _provenance(file, folds, read_per_fold)


def _entries(file: SourceFile, analysis: Analysis) -> int:
    """Number of entries, once the file is known to be whole and tree and branches to be there."""
    reads = analysis.reads
    with _opened(file) as root:
        try:
            classes = {name.rpartition(";")[0]: kind for name, kind in root.classnames().items()}
            _require_tree(file, reads.tree, classes)
            tree = root[reads.tree]
            branches, entries = dict(tree.items()), int(tree.num_entries)
        except DAMAGED as error:
            raise _damaged(file, error) from error
    for branch in [*reads.branches, *([reads.event] if reads.event else [])]:
        if branch not in branches:
            hint = f"not in tree {reads.tree!r} of {file.path}; {nearest(branch, branches)}"
            raise InputError(f"{_where(file)}: branch {branch!r} {hint}")
        bare = isinstance(reads, NanoAOD) and _counter(branch) not in branches
        if bare and isinstance(branches[branch].interpretation, uproot.AsJagged):
            hint = f"needs {_counter(branch)!r} in tree {reads.tree!r} of {file.path}, as NanoAOD has it"
            raise InputError(f"{_where(file)}: branch {branch!r} {hint}; or read it as a FlatTree")
    if entries == 0:
        place = f"tree {reads.tree!r} of {file.path}"
        raise InputError(f"{_where(file)}: {place} has zero entries; take the file out of the manifest")
    return entries


def _counter(branch: str) -> str:
    """The branch with the number of objects of each event: `nJet` of `Jet_pt`."""
    return f"n{branch.partition('_')[0]}"


def _require_tree(file: SourceFile, tree: str, classes: Mapping[str, str]) -> None:
    trees = [name for name, kind in classes.items() if kind in ("TTree", "ROOT::RNTuple")]
    if tree in trees:
        return
    found = f"{tree!r} is a {classes[tree]} there" if tree in classes else f"no tree {tree!r} there"
    hint = nearest(tree, trees) if trees else "it holds no tree at all"
    raise InputError(f"{_where(file)}: cannot read tree {tree!r} of {file.path}: {found}; {hint}")


def _opened(file: SourceFile) -> Any:
    """The open file, where it is as long as its header says."""
    path = Path(file.path)
    if not file.is_remote and not path.is_file():
        what = "is no file" if path.exists() else "does not exist here or beside the manifest"
        raise InputError(f"{_where(file)}: file {path} {what}; correct the manifest, or run `simulate` first")
    try:
        root = uproot.open({file.path: None})
        promised = int(root.file.fEND)
    except ImportError as error:  # the reader of a protocol, such as fsspec-xrootd, is a package of its own
        raise ConfigError(f"{_where(file)}: {file.path} cannot be read: {error}") from error
    except DAMAGED as error:
        raise _damaged(file, error) from error
    if not file.is_remote and path.stat().st_size < promised:
        root.close()
        raise _damaged(file, EOFError(f"it has {path.stat().st_size} of {promised} bytes"))
    return root


def _events(file: SourceFile, analysis: Analysis, start: int, stop: int) -> tuple[Any, np.ndarray]:
    """Events `start` to `stop` as the analysis sees them, and their numbers.

    Its branches are read here, not when it first touches them: what fails is the file's fault, not the analysis's.
    """
    reads = analysis.reads
    try:
        if isinstance(reads, FlatTree):
            with uproot.open({file.path: reads.tree}) as tree:
                names = dict.fromkeys([*reads.branches, *([reads.event] if reads.event else [])])
                events = tree.arrays(list(names), entry_start=start, entry_stop=stop)
        else:
            wanted = {*reads.branches, *map(_counter, reads.branches), reads.event}
            lazy = NanoEventsFactory.from_root(
                {file.path: reads.tree},
                schemaclass=_Schema,
                mode="virtual",
                entry_start=start,
                entry_stop=stop,
                iteritems_options={"filter_name": lambda name: name in wanted},
            ).events()
            events = ak.materialize(lazy)
        numbers = np.arange(start, stop) if reads.event is None else ak.to_numpy(events[reads.event])
    except DAMAGED as error:
        raise _damaged(file, error) from error
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise InputError(
            f"{_where(file)}: branch {reads.event!r} of {file.path}, which should number the events, holds "
            f"{numbers.dtype} of shape {numbers.shape[1:]}; it must hold one integer per event"
        )
    return events, numbers


def _columns(file: SourceFile, analysis: Analysis, events: Any) -> dict[str, np.ndarray]:
    """What the analysis makes of some events, checked: float32, one length, finite."""
    name = type(analysis).__name__
    try:
        with Noting(f"in {name}.columns(events, {file.sample!r}) on {len(events)} events of {file.path}"):
            made = analysis.columns(events, file.sample)
    except TooManyObjects as error:
        raise InputError(
            f"{_where(file)}: {file.path}: {error}; the pad is in columns() of {name}"
        ) from error
    if not isinstance(made, Mapping) or "weight" not in made:
        found = f"the columns {list(made)}" if isinstance(made, Mapping) else f"a {type(made).__name__}"
        raise InputError(
            f"{_where(file)}: columns() of {name} returns {found}; it must return {{name: array}} with a 'weight'"
        )
    columns = {column: _rectangular(file, column, array) for column, array in made.items()}
    for column, array in columns.items():
        _require_shape(file, column, array, len(columns["weight"]))
        _require_finite(file, column, array)
    return columns


def _rectangular(file: SourceFile, column: str, array: Any) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # too large for float32 is infinite, and found so
            return np.asarray(ak.to_numpy(array, allow_missing=False), dtype=np.float32)
    except (ValueError, TypeError) as error:
        kind = getattr(array, "type", None) or type(array).__name__
        raise InputError(
            f"{_where(file)}: column {column!r} is no rectangular array of numbers but {kind}; "
            "use pad(array, objects) where the number of objects varies, ak.fill_none where values are missing"
        ) from error


def _require_shape(file: SourceFile, column: str, array: np.ndarray, events: int) -> None:
    flat = array.ndim == 1
    wide = array.ndim == 2 and array.shape[1] > 0 and column != "weight"
    if not (flat or wide) or len(array) != events:
        allowed = "[events]" if column == "weight" else "[events] or [events, objects]"
        found = f"column {column!r} has shape {array.shape}"
        raise InputError(f"{_where(file)}: {found}; allowed: {allowed} with {events} events, as 'weight' has")


def _require_finite(file: SourceFile, column: str, array: np.ndarray) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        raise InputError(
            f"{_where(file)}: column {column!r} of {file.path} holds {int(bad.sum())} values that are not finite "
            f"in float32 (the first: {array[bad][0]}, in selected event {np.argwhere(bad)[0][0]}); "
            "cut such events in columns()"
        )


def _joined(file: SourceFile, pieces: Mapping[str, list[dict[str, np.ndarray]]]) -> Folds:
    """The pieces of each fold in one; a fold without events has the columns of the other."""
    first = next(parts[0] for parts in pieces.values() if parts)
    shapes = {name: array.shape[1:] for name, array in first.items()}
    for piece in (piece for parts in pieces.values() for piece in parts):
        found = {name: array.shape[1:] for name, array in piece.items()}
        if found != shapes:
            raise InputError(
                f"{_where(file)}: columns() returns {found} for some events of {file.path} and {shapes} for others; "
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
        "file": file.path,
        "entries_promised": file.entries,
        "entries_read": dict(read_per_fold),
        "entries_kept": {fold: len(columns["weight"]) for fold, columns in folds.items()},
        "sum_of_weights": {
            fold: float(columns["weight"].sum(dtype=np.float64)) for fold, columns in folds.items()
        },
    }


def _recipe(config: Config, file: SourceFile) -> dict[str, Any]:
    """All that decides the columns of a file; a local file is recognised by size and modification time."""
    recipe = {
        "version": pipeline.__version__,
        "analysis": config.analysis.digest,
        "held_out_fraction": config.data.held_out_fraction,
    }
    if file.is_remote:
        return recipe
    status = Path(file.path).stat()
    return {**recipe, "source_bytes": status.st_size, "source_mtime_ns": status.st_mtime_ns}


def _where(file: SourceFile) -> str:
    return f"sample {file.sample!r}"


def _damaged(file: SourceFile, error: BaseException) -> InputError:
    reason = str(error).strip().splitlines()
    return InputError(
        f"{_where(file)}: {file.path} cannot be read: it is truncated, damaged or no ROOT file "
        f"({type(error).__name__}: {reason[0] if reason else ''}); replace it or take it out of the manifest"
    )
