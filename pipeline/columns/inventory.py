"""ROOT files, by names and patterns -> a manifest of them: events, checksums, sums of generator weights."""

import glob
import logging
import re
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import uproot

from pipeline.analysis import FlatTree
from pipeline.columns import bookkeeping, rootfile
from pipeline.columns.branches import key_of
from pipeline.columns.rootfile import UnreadableFile
from pipeline.data import checksums, datasets
from pipeline.data.datasets import NOMINAL, TRAIN
from pipeline.data.jobs import SourceFile
from pipeline.errors import ConfigError, InputError

logger = logging.getLogger(__name__)
GENERATOR_WEIGHT = "genWeight"  # NanoAOD's; a file without it just has no sum, unless the branch is asked for
STEP_EVENTS = 1_000_000  # weights read at a time: bounds the memory, changes no result
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+.-]*")  # as in data.samples


class _ManifestFile(TypedDict):
    """A file: its events, its checksum, and the sum of the generator weights of all that were generated for it."""

    path: str
    nevts: int
    checksum: NotRequired[str]
    sumw: NotRequired[float]


class _Variation(TypedDict):
    """The files of a variation, and their sums."""

    nevts_total: int
    sumw_total: NotRequired[float]
    files: list[_ManifestFile]


Taken = dict[str, dict[str, _Variation]]


def taken(
    processes: Sequence[Sequence[str]],
    *,
    tree: str,
    generator_weight: str | None,
    algorithm: str | None,
    allow_repeated: bool,
) -> Taken:
    """Return the manifest of the files of each process.

    Args:
        processes: for each its name, ``process`` or ``process__variation``, and then files, URLs or patterns of files.
        generator_weight: branch to add up; None takes ``genWeight`` where there is one.
        algorithm: of the checksums; None leaves them out.

    Raises:
        ConfigError: a name that no sample can have, or one given twice.
        InputError: a pattern that matches nothing, a file or a content that is there twice, one that cannot be read.
    """
    found: Taken = {}
    listed: list[tuple[str, _ManifestFile]] = []
    for name, *patterns in processes:
        process, variation = _entry(name, patterns)
        if variation in found.setdefault(process, {}):
            raise ConfigError(f"--process {name} is given twice; give all its files behind one")
        files = [
            _described(name, path, tree, generator_weight, algorithm) for path in _matching(name, patterns)
        ]
        found[process][variation] = _totals(files)
        listed += [(name, file) for file in files]
        logger.info(f"{name}: {len(files)} files, {sum(file['nevts'] for file in files)} events")
    if not allow_repeated:
        _require_different(listed)
    return found


def _entry(name: str, patterns: Sequence[str]) -> tuple[str, str]:
    process, parted, variation = name.partition("__")
    names = [process, variation] if parted else [process]
    if not all(NAME.fullmatch(part) for part in names) or variation == NOMINAL:
        raise ConfigError(
            f"--process {name!r} is no name of a sample: letters, digits and _ + . -, or process__variation"
        )
    if not patterns:
        raise ConfigError(
            f"--process {name}: name its files behind it, as in --process {name} 'data/{name}*.root'"
        )
    return process, variation or NOMINAL


def _matching(name: str, patterns: Iterable[str]) -> list[str]:
    """Return paths of the files, in order of the patterns and then of their names; URLs are taken as they are."""
    paths: list[str] = []
    for pattern in patterns:
        literal = "://" in pattern or Path(pattern).is_file()
        found = [pattern] if literal else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  (absolute ones too)
        files = [path for path in found if literal or Path(path).is_file()]
        if not files:
            what = f"matches no file, only {found[0]}" if found else "matches no file"
            raise InputError(
                f"--process {name}: {pattern!r} {what}; correct the pattern or the working directory"
            )
        paths += files
    return paths


def _described(name: str, path: str, tree: str, branch: str | None, algorithm: str | None) -> _ManifestFile:
    file, reads = SourceFile(name, path), FlatTree((), tree=tree)
    try:
        with rootfile.opened(file, reads) as root:
            entries = len(rootfile.entries(file, reads, root))
            total = _sum_of_weights(file, reads, root, branch)
    except UnreadableFile:
        raise
    except InputError as error:
        raise InputError(f"{error}; the options are --tree and --generator-weight") from error
    described: _ManifestFile = {"path": path, "nevts": entries}
    if algorithm is not None:
        described["checksum"] = _checksum(file, algorithm)
    if total is not None:
        described["sumw"] = total
    return described


def _sum_of_weights(
    file: SourceFile, reads: FlatTree, root: uproot.ReadOnlyDirectory, branch: str | None
) -> float | None:
    """Return the sums over all events generated for a file, as its tree ``Runs`` says, or over those in it."""
    in_runs = bookkeeping.sum_in_runs(file, reads, root)
    tree = root[reads.tree]
    wanted = branch or GENERATOR_WEIGHT
    if in_runs is not None or (branch is None and key_of(reads, tree, wanted, list(tree.keys())) is None):
        return in_runs
    entries = int(root[reads.tree].num_entries)
    total = 0.0
    for start in range(0, entries, STEP_EVENTS):
        everything = np.ones(min(STEP_EVENTS, entries - start), dtype=bool)
        sums = bookkeeping.weights(file, reads, root, wanted, start, {TRAIN: everything})
        total += sums[TRAIN] if sums else 0.0
    return total


def _checksum(file: SourceFile, algorithm: str) -> str:
    with rootfile.blaming(file):
        return str(checksums.of(file.path, algorithm))


def _totals(files: Sequence[_ManifestFile]) -> _Variation:
    events = sum(file["nevts"] for file in files)
    if all("sumw" in file for file in files):
        weights = sum(file["sumw"] for file in files)
        return {"nevts_total": events, "sumw_total": weights, "files": list(files)}
    return {"nevts_total": events, "files": list(files)}


def _require_different(listed: Sequence[tuple[str, _ManifestFile]]) -> None:
    """Refuse one file or one content twice, which would count twice."""
    seen: dict[Hashable, tuple[str, str]] = {}
    for name, file in listed:
        same = [
            *datasets.places(file["path"]),
            *([(file["checksum"], file["nevts"])] if "checksum" in file else []),
        ]
        if known := next((seen[key] for key in same if key in seen), None):
            raise InputError(
                f"--process {name}: {file['path']} is {known[1]} of --process {known[0]}, the same file or a copy "
                "of it; its events would count twice: give it once, or say that it is meant by --allow-repeated"
            )
        seen |= dict.fromkeys(same, (name, file["path"]))
