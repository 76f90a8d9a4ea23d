"""What a ROOT file says of its events besides their columns: sums of generator weights, and which file it is."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import awkward as ak
import numpy as np
import uproot

from pipeline.analysis import FlatTree, NanoAOD
from pipeline.columns import rootfile
from pipeline.columns.branches import key_of
from pipeline.columns.rootfile import blaming, damaged, where
from pipeline.data import checksums
from pipeline.data.jobs import SourceFile
from pipeline.data.names import Part
from pipeline.errors import InputError, nearest

RUNS = "Runs"  # NanoAOD's tree with an entry per run and file; sums of the events before any skim
SUMS = ("genEventSumw", "genEventSumw_")  # its name in most versions of NanoAOD, and in version 6
COUNTS = ("genEventCount", "genEventCount_")
FIRST_EVENTS = 1000  # enough to tell files apart: the numbers of so many events do not agree by chance
DISTINCT = 16  # different values of a real branch among them; with fewer, other files may well begin alike


class Facts(NamedTuple):
    """Entries of a file's tree, its UUID, the events generated for it and the sum of their weights.

    The last two are what the tree ``Runs`` says, None where it does not.
    """

    file_uuid: str
    entries_in_file: int
    events_in_runs: float | None
    weights_in_runs: float | None


def verify(file: SourceFile) -> None:
    """Raise where the file's bytes are not those whose checksum the manifest gives.

    Raises:
        UnreadableFile: another checksum, or the bytes do not come.
    """
    if file.checksum is None or not (file.is_remote or Path(file.path).is_file()):
        return  # that it is missing is said when it is opened
    promised = checksums.parse(file.checksum)
    with blaming(file):
        found = checksums.of(file.path, promised.algorithm)
    if found != promised:
        raise damaged(file, ValueError(f"its checksum is {found}, and the manifest promises {promised}"))


def of_file(
    file: SourceFile, reads: NanoAOD | FlatTree, root: uproot.ReadOnlyDirectory, branch: str | None
) -> Facts:
    """Return what a file says of itself, with the sum of generator weights of a ``branch``."""
    return Facts(
        file_uuid=str(root.file.uuid),
        entries_in_file=int(root[reads.tree].num_entries),
        events_in_runs=_in_runs(file, root, COUNTS),
        weights_in_runs=None if branch is None else sum_in_runs(file, reads, root),
    )


def first_events(
    file: SourceFile, reads: NanoAOD | FlatTree, root: uproot.ReadOnlyDirectory, events: ak.Array
) -> tuple[str, bool]:
    """Return a digest of the first events of a file, and whether it is distinctive.

    The digest is of all branches that the analysis reads, and the same whatever range of the file is read. It
    is distinctive where other events do not have the same one by chance, as those of a toy might.
    """
    first = min(FIRST_EVENTS, int(root[reads.tree].num_entries))
    if len(events) < first:  # a range of fewer
        events, _ = rootfile.events(file, reads, root, 0, first)
    _, length, buffers = ak.to_buffers(ak.to_packed(events[:first]))
    total = hashlib.sha256(f"{length} {sorted(ak.fields(events))}".encode())
    distinct = 0
    for name in sorted(buffers):
        array = np.ascontiguousarray(buffers[name])
        total.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
        if array.dtype.kind == "f":
            distinct = max(distinct, len(np.unique(array)))
    return total.hexdigest(), distinct >= DISTINCT


def weights(
    file: SourceFile,
    reads: NanoAOD | FlatTree,
    root: uproot.ReadOnlyDirectory,
    branch: str,
    start: int,
    parts: Mapping[Part, np.ndarray],
) -> dict[Part, float] | None:
    """Return sums of the generator weights of the entries from ``start`` on, of each part of them.

    None where only the tree ``Runs`` has their sum.

    Raises:
        UnreadableFile: damaged.
        InputError: no such branch, or it does not hold one finite number per event.
    """
    tree = root[reads.tree]
    key = key_of(reads, tree, branch, list(tree.keys()))
    if key is None:
        if sum_in_runs(file, reads, root) is not None:
            return None
        raise InputError(
            f"{where(file)}: data.generator_weight {branch!r} is not in tree {reads.tree!r} of {file.path}, nor is "
            f"{SUMS[0]!r} in a tree {RUNS!r}; {nearest(branch, tree.keys())}; or use data.normalise: events"
        )
    with blaming(file):
        stop = start + len(next(iter(parts.values())))
        found = tree[key].array(entry_start=start, entry_stop=stop)
        numbers = ak.to_numpy(found) if found.ndim == 1 else np.empty(0, dtype=object)
    if numbers.dtype.kind not in "fiu" or not np.isfinite(numbers).all():
        raise InputError(
            f"{where(file)}: data.generator_weight {branch!r} of {file.path} holds {found.type}; it must "
            "hold one finite number per event"
        )
    return {fold: float(np.sum(numbers[own], dtype=np.float64)) for fold, own in parts.items()}


def added(parts: Sequence[Mapping[Part, float] | None]) -> dict[Part, float] | None:
    """Return the sums per fold of all parts of a range; None where they are not known."""
    known = [part for part in parts if part is not None]
    if not parts or len(known) < len(parts):
        return None
    return {fold: math.fsum(part[fold] for part in known) for fold in known[0]}


def sum_in_runs(file: SourceFile, reads: NanoAOD | FlatTree, root: uproot.ReadOnlyDirectory) -> float | None:
    """Return the sum of the generator weights of all events that were generated for a file; None where it does not say.

    Raises:
        InputError: it counts fewer events than the file has, so it is of something else.
    """
    total, generated = _in_runs(file, root, SUMS), _in_runs(file, root, COUNTS)
    entries = int(root[reads.tree].num_entries)
    if total is not None and (not np.isfinite(total) or (generated is not None and generated < entries)):
        events = "" if generated is None else f" of {generated:.0f} events"
        raise InputError(
            f"{where(file)}: tree {RUNS!r} of {file.path} says {SUMS[0]} = {total:g}{events}, and tree "
            f"{reads.tree!r} has {entries}: it is not of this file; mend the file, or use data.normalise: events"
        )
    return total


def _in_runs(file: SourceFile, root: uproot.ReadOnlyDirectory, names: Sequence[str]) -> float | None:
    """Return the sum over the tree ``Runs`` of the first of some branches that it has; None where it has none."""
    with blaming(file):
        if RUNS not in root.keys(cycle=False) or root.classname_of(RUNS) not in ("TTree", "ROOT::RNTuple"):
            return None
        branch = next((name for name in names if name in root[RUNS].keys()), None)  # noqa: SIM118
        if branch is None:
            return None
        return float(np.sum(ak.to_numpy(root[RUNS].arrays([branch])[branch]), dtype=np.float64))
