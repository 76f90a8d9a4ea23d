"""A ROOT file -> rectangular arrays of the preselected events; the last module to know awkward and coffea."""

import hashlib
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
from pipeline.analysis import Analysis, FlatTree
from pipeline.config import Config
from pipeline.datasets import HELD_OUT, TRAIN, SourceFile
from pipeline.errors import InputError, nearest
from pipeline.store import read_provenance

Folds = dict[str, dict[str, np.ndarray]]

# What uproot raises on a file that is cut short or overwritten, apart from OSError.
DAMAGED = (OSError, ValueError, IndexError, struct.error, zlib.error, uproot.DeserializationError)


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
        raise TooManyObjects(f"an event has {longest} objects, more than the {objects} of pad(..., {objects})")
    padded = ak.fill_none(ak.pad_none(array, objects, clip=True), fill)
    return ak.to_numpy(padded).astype(np.float32).reshape(len(array), objects)


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
            read_per_fold[fold] += int(chosen.sum())
            pieces[fold].append(_columns(file, analysis, events[chosen]))
    folds = {fold: {name: np.concatenate([p[name] for p in parts]) for name in parts[0]} for fold, parts in pieces.items()}
    return folds, _provenance(file, folds, read_per_fold)


def is_held_out(event_numbers: np.ndarray, fraction: float) -> np.ndarray:
    """Whether each event is held out: a hash of its number, uniform in [0, 1), is below the fraction.

    The hash is the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), so that neither the order of the
    files nor a pattern in the numbers matters.
    """
    z = event_numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform = (z ^ (z >> np.uint64(31))).astype(np.float64) / 2.0**64
    return np.asarray(uniform < fraction)


def _entries(file: SourceFile, analysis: Analysis) -> int:
    """Number of entries, once tree and branches are known to be there."""
    reads = analysis.reads
    with _opened(file) as root:
        trees = {key.rpartition(";")[0] for key in root.keys(filter_classname=["TTree", "ROOT::RNTuple"])}
        if reads.tree not in trees:
            hint = nearest(reads.tree, trees) if trees else "it holds no tree"
            raise InputError(f"{_where(file)}: no tree {reads.tree!r} in {file.path}; {hint}")
        try:
            tree = root[reads.tree]
            branches = set(tree.keys())
        except DAMAGED as error:
            raise _damaged(file, error) from error
        wanted = [*reads.branches, *([reads.event] if reads.event else [])]
        for branch in wanted:
            if branch not in branches:
                raise InputError(
                    f"{_where(file)}: branch {branch!r} not in tree {reads.tree!r} of {file.path}; "
                    f"{nearest(branch, branches)}"
                )
        entries = int(tree.num_entries)
    if entries == 0:
        raise InputError(f"{_where(file)}: tree {reads.tree!r} of {file.path} has zero entries; remove the file")
    return entries


def _opened(file: SourceFile) -> Any:
    if not file.is_remote and not Path(file.path).exists():
        raise InputError(f"{_where(file)}: file {file.path} does not exist; check the manifest's paths")
    try:
        return uproot.open(file.path)
    except DAMAGED as error:
        raise _damaged(file, error) from error


def _events(file: SourceFile, analysis: Analysis, start: int, stop: int) -> tuple[Any, np.ndarray]:
    """Events `start` to `stop` as the analysis sees them, and their numbers."""
    reads = analysis.reads
    try:
        if isinstance(reads, FlatTree):
            with uproot.open({file.path: reads.tree}) as tree:
                names = [*reads.branches, *([reads.event] if reads.event else [])]
                events = tree.arrays(names, entry_start=start, entry_stop=stop)
        else:
            wanted = {*reads.branches, *(f"n{b.partition('_')[0]}" for b in reads.branches), reads.event}
            events = NanoEventsFactory.from_root(
                {file.path: reads.tree},
                schemaclass=_Schema,
                mode="virtual",
                entry_start=start,
                entry_stop=stop,
                iteritems_options={"filter_name": lambda name: name in wanted},
            ).events()
        numbers = np.arange(start, stop) if reads.event is None else ak.to_numpy(events[reads.event])
    except DAMAGED as error:
        raise _damaged(file, error) from error
    return events, numbers


def _columns(file: SourceFile, analysis: Analysis, events: Any) -> dict[str, np.ndarray]:
    """What the analysis makes of some events, checked: float32, one length, finite."""
    try:
        made = analysis.columns(events, file.sample)
    except TooManyObjects as error:
        raise InputError(f"{_where(file)}: {file.path}: {error}") from error
    except (OSError, struct.error, zlib.error, uproot.DeserializationError) as error:
        raise _damaged(file, error) from error
    columns = {name: np.asarray(ak.to_numpy(array), dtype=np.float32) for name, array in made.items()}
    if "weight" not in columns:
        raise InputError(f"{_where(file)}: columns() of {type(analysis).__name__} returns no 'weight'")
    for name, array in columns.items():
        if array.ndim not in (1, 2) or len(array) != len(columns["weight"]):
            raise InputError(
                f"{_where(file)}: column {name!r} has shape {array.shape}; allowed: [events] or [events, objects] "
                f"with {len(columns['weight'])} events, as 'weight' has"
            )
        bad = ~np.isfinite(array)
        if bad.any():
            value = array[bad][0]
            raise InputError(
                f"{_where(file)}: column {name!r} of {file.path} holds {int(bad.sum())} values that are not finite "
                f"(the first: {value}, selected event {np.argwhere(bad)[0][0]}); cut such events in columns()"
            )
    return columns


def _provenance(file: SourceFile, folds: Folds, read_per_fold: Mapping[str, int]) -> dict[str, Any]:
    content = hashlib.sha256()
    for columns in folds.values():
        for name, array in columns.items():
            content.update(name.encode() + array.tobytes())
    return {
        "sample": file.sample,
        "file": file.path,
        "entries_promised": file.entries,
        "entries_read": dict(read_per_fold),
        "entries_kept": {fold: len(columns["weight"]) for fold, columns in folds.items()},
        "sum_of_weights": {fold: float(columns["weight"].sum(dtype=np.float64)) for fold, columns in folds.items()},
        "content": content.hexdigest(),
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
