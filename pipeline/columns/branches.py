"""The branches of a TTree or the fields of an RNTuple -> events as the analysis sees them, once they make sense."""

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

import awkward as ak
import uproot
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory
from coffea.nanoevents.mapping import SimplePreloadedColumnSource

from pipeline.analysis import FlatTree, NanoAOD
from pipeline.data.jobs import SourceFile
from pipeline.errors import AnalysisError, InputError, nearest

Tree: TypeAlias = uproot.TTree | uproot.behaviors.RNTuple.RNTuple

TTREE, RNTUPLE = "TTree", "ROOT::RNTuple"
VECTOR = ("pt", "eta", "phi", "mass")  # what coffea makes a four-vector of
CHARGED = dict.fromkeys(("Electron", "LowPtElectron", "Muon", "Tau", "GenVisTau"), (*VECTOR, "charge"))
COORDINATES = {
    "MissingET": ("pt", "phi"),
    "Vertex": (),
    "SecondaryVertex": (),
    **CHARGED,
}  # vertices are none
SHOWN = 6  # sub-branches that a message lists


class Senseless(ValueError):
    """Bytes that could be read and make no sense."""


class _Schema(NanoAODSchema):  # type: ignore[misc]
    """NanoAOD without the complaints about branches that the analysis does not read."""

    warn_missing_crossrefs = False
    event_ids = ()


def where(file: SourceFile) -> str:
    """Return the beginning of a message."""
    return f"sample {file.sample!r}"


def of_tree(reads: NanoAOD | FlatTree, tree: Tree) -> NanoAOD | FlatTree:
    """Return what is read of a tree: the optional branches that it has are ordinary ones."""
    there = list(tree.keys())
    found = (branch for branch in reads.optional if key_of(reads, tree, branch, there) is not None)
    return dataclasses.replace(reads, branches=tuple(dict.fromkeys((*reads.branches, *found))), optional=())


def places(file: SourceFile, reads: NanoAOD | FlatTree, tree: Tree) -> dict[str, str | None]:
    """Return where each branch that is to be read is in the tree; None for the counter that an RNTuple does not need.

    Raises:
        InputError: a branch is not there, or nothing that can be read as arrays.
    """
    there = list(tree.keys())
    found: dict[str, str | None] = {}
    for branch in [*reads.branches, *([reads.event] if reads.event else [])]:
        place = key_of(reads, tree, branch, there)
        if place is None:
            friends = "; branches of its friends are not read" if _has_friends(tree) else ""
            raise InputError(
                f"{where(file)}: branch {branch!r} not in tree {reads.tree!r} of {file.path}; "
                f"{nearest(branch, there)}{friends}; if some files lack it, name it in `optional` of what is read"
            )
        found[branch] = place
        if not _is_rntuple(tree):
            _require_arrays(file, reads, branch, tree[place])
    for branch in reads.branches if isinstance(reads, NanoAOD) else ():
        counter = _counter(branch)
        if counter in there:
            found[counter] = counter
        elif _is_rntuple(tree):
            found[counter] = None
        elif isinstance(tree[branch].interpretation, uproot.AsJagged):
            hint = f"needs {counter!r} in tree {reads.tree!r} of {file.path}, as NanoAOD has it"
            raise InputError(f"{where(file)}: branch {branch!r} {hint}; or read it as a FlatTree")
    return found


def arrays(
    file: SourceFile,
    reads: NanoAOD | FlatTree,
    tree: Tree,
    found: Mapping[str, str | None],
    start: int,
    stop: int,
) -> dict[str, ak.Array]:
    """Return branches of some entries, and the counters of collections that have none of their own.

    The entries are ``start`` to ``stop``.

    Raises:
        Senseless: what uproot made of the bytes contradicts itself; awkward would notice when it is used, if ever.
        InputError: branches of a collection without a counter have different numbers of objects.
    """
    there = {name: place for name, place in found.items() if place is not None}
    try:
        made = _read(tree, there, start, stop)
    except Exception as error:
        objects = [n for n, place in there.items() if not _is_rntuple(tree) and _holds_objects(tree[place])]
        if not objects:
            raise
        raise InputError(
            f"{where(file)}: branch {objects[0]!r} of {file.path} holds objects, "
            f"{_kind(tree[there[objects[0]]])!r}, which uproot cannot read here ({' '.join(str(error).split())}); "
            "read other branches, or replace the file if it is damaged"
        ) from error
    for name, array in made.items():
        fault = ak.validity_error(array)
        if "union[" in str(array.type):
            raise InputError(
                f"{where(file)}: branch {name!r} of {file.path} holds {array.type.content}; read others"
            )
        if fault or len(array) != stop - start:
            raise Senseless(f"branch {name!r}: {fault or f'{len(array)} of {stop - start} entries'}")
    return made | _counts(file, reads, made, found) if isinstance(reads, NanoAOD) else made


def _read(tree: Tree, there: Mapping[str, str], start: int, stop: int) -> dict[str, ak.Array]:
    entries = {"entry_start": start, "entry_stop": stop}
    if _is_rntuple(tree):
        return {name: tree[place].array(**entries) for name, place in there.items()}
    read = tree.arrays(list(dict.fromkeys(there.values())), how=dict, **entries)
    return {name: read[place] for name, place in there.items()}


def _counts(
    file: SourceFile, reads: NanoAOD, made: Mapping[str, ak.Array], found: Mapping[str, str | None]
) -> dict[str, ak.Array]:
    """Return the numbers of objects, the same for all branches of a collection."""
    counts: dict[str, ak.Array] = {}
    for branch in reads.branches:
        counter = _counter(branch)
        if counter not in found or made[branch].ndim < 2:
            continue
        own = counts.setdefault(counter, made.get(counter, ak.num(made[branch])))
        if ak.array_equal(ak.num(made[branch]), own, dtype_exact=False, check_parameters=False):
            continue
        if found[counter] is not None:
            raise Senseless(f"branch {branch!r} has other numbers of objects than {counter!r} says")
        raise InputError(
            f"{where(file)}: branch {branch!r} of {file.path} has other numbers of objects than others of its "
            "collection; read them as a FlatTree"
        )
    return counts


def assembled(reads: NanoAOD | FlatTree, made: Mapping[str, ak.Array]) -> ak.Array:
    """Return the events of the branches: records of them as they are, or in coffea's NanoAOD schema.

    There, a collection without all coordinates of a vector is one without a vector's methods.
    """
    if isinstance(reads, FlatTree):
        return ak.zip(made, depth_limit=1)
    lacking = incomplete(reads)
    mixins = {name: mixin for name, mixin in _Schema.mixins.items() if name not in lacking}
    events = len(next(iter(made.values())))
    source = SimplePreloadedColumnSource(made, uuid="", num_rows=events, object_path=reads.tree)
    schema = type("Schema", (_Schema,), {"mixins": mixins})
    return NanoEventsFactory.from_preloaded(source, schemaclass=schema).events()


def incomplete(reads: NanoAOD | FlatTree) -> dict[str, list[str]]:
    """Return the branches that collections lack to be vectors, by collection."""
    if isinstance(reads, FlatTree):
        return {}
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(branch.partition("_")[0] for branch in reads.branches):
        if name in _Schema.mixins:
            wanted = [f"{name}_{c}" for c in COORDINATES.get(_Schema.mixins[name], VECTOR)]
            lacking = [branch for branch in wanted if branch not in reads.branches]
            if lacking:
                found[name] = lacking
    return found


def with_hint(error: AnalysisError, reads: NanoAOD | FlatTree) -> AnalysisError:
    """Return the same error, with what to add where a collection is no vector because branches were not asked for."""
    lacking = incomplete(reads)
    if not lacking or not isinstance(error.__cause__, AttributeError | LookupError | TypeError | ValueError):
        return error
    hints = (
        f"{name} is no vector, for that add {', '.join(names)} to branches" for name, names in lacking.items()
    )
    return AnalysisError(f"{error}; {'; '.join(hints)}, or use FlatTree", error.details)


def key_of(reads: NanoAOD | FlatTree, tree: Tree, branch: str, there: list[str]) -> str | None:
    """Return the key of a branch in a tree, or None where there is none.

    An RNTuple may hold ``Jet_pt`` as ``Jet.pt``, or in a collection of any name as ``Jet_pt``.
    """
    if branch in there:
        return branch
    last = [key for key in there if key.endswith(("/" + branch, "." + branch))]
    if not _is_rntuple(tree):
        return last[0] if len(last) == 1 and last[0].endswith("/" + branch) else None
    if isinstance(reads, FlatTree):
        return None
    nested = branch.replace("_", ".", 1)
    return nested if nested in there else last[0] if len(last) == 1 else None


def _require_arrays(file: SourceFile, reads: NanoAOD | FlatTree, name: str, branch: uproot.TBranch) -> None:
    """Raise where a sound file has objects, or a group of branches, instead of numbers."""
    place = f"{where(file)}: branch {name!r} in tree {reads.tree!r} of {file.path}"
    if branch.branches:
        within = [f"{name}/{b.name}" for b in branch.branches]
        more = f" and {len(within) - SHOWN} more" if len(within) > SHOWN else ""
        raise InputError(
            f"{place} is a group; read what it holds: {', '.join(map(repr, within[:SHOWN]))}{more}"
        )
    rule = branch.interpretation
    try:
        if not isinstance(rule, uproot.interpretation.identify.UnknownInterpretation):
            rule.awkward_form(branch.file)
            return
        reason = rule.reason
    except Exception as error:
        reason = " ".join(str(error).split())
    raise InputError(
        f"{place} holds {_kind(branch)!r}, which uproot cannot read as arrays ({reason}); read other "
        "branches, or write it as plain numbers or vectors of them"
    )


def _is_rntuple(tree: Tree) -> bool:
    return str(tree.classname) == RNTUPLE


def _kind(branch: uproot.TBranch) -> str:
    """Return the C++ type of a branch, where uproot knows it."""
    with contextlib.suppress(Exception):
        return str(branch.typename)
    return str(branch.interpretation)


def _holds_objects(branch: uproot.TBranch) -> bool:
    """Return whether uproot needs the streamers of classes, of which it does not know all kinds."""
    return any(word in repr(branch.interpretation) for word in ("Model_", "AsPointer", "AsMap"))


def _has_friends(tree: Tree) -> bool:
    return not _is_rntuple(tree) and bool(tree.all_members.get("fFriends"))


def _counter(branch: str) -> str:
    """Return the branch with the number of objects of each event: ``nJet`` of ``Jet_pt``."""
    return f"n{branch.partition('_')[0]}"
