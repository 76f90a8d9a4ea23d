"""What an analysis declares: the tree that it reads, its free parameters, a stage without a derivative."""

import dataclasses
import math
import numbers
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from pipeline.containers import Columns
from pipeline.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Free:
    """A free parameter: start value, allowed range, unit. Optimisers stay inside the bounds."""

    initial: float
    bounds: tuple[float, float]
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class NanoAOD:
    """A tree to read in coffea's NanoAOD schema, where ``Jet_pt`` is ``events.Jet.pt``.

    ``Jet_pt`` is a branch of a TTree, or a field of an RNTuple. An RNTuple may also hold it as ``Jet.pt``,
    and needs no counters ``nJet``.

    ``event`` is the branch that numbers the events and so decides, with nothing else, who is held out. ``optional``
    branches are read from the files that have them: ``columns`` asks ``"btagPNetB" in events.Jet.fields``.
    """

    branches: tuple[str, ...]
    tree: str = "Events"
    event: str = "event"
    optional: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class FlatTree:
    """Read with uproot, branches as they are: ``events.Jet_Px``.

    Without a branch that numbers the events, ``event=None``, the entry's place in its file does. ``optional`` branches
    are read from the files that have them: ``columns`` asks ``"genWeight" in events.fields``.
    """

    branches: tuple[str, ...]
    tree: str = "events"
    event: str | None = None
    optional: tuple[str, ...] = ()


EVENT_NUMBER = "event_number"  # the field, and column, of whole numbers by which the bootstrap knows an event
WEIGHT = "weight"  # the column of the event weights; an observable never depends on it
NOISE = "noise"  # the column of random numbers for what stands in for `Analysis.simulate`


@dataclasses.dataclass(frozen=True)
class Simulated:
    """What ``Analysis.simulate`` needs and makes; the configuration's ``surrogate`` says how its gradient is found.

    Args:
        parameters: free parameters that it depends on.
        inputs: columns [events] that say of an event what its outputs depend on.
        outputs: columns [events] that it makes.
        noise: random numbers an event gives the generator, as column ``noise`` [events, noise]
            (``pipeline.columns.noise``).
    """

    parameters: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    noise: int = 4


def check(analysis: Any) -> None:
    """Raise where an attribute of an analysis is not what the contract asks for.

    Raises:
        ConfigError: which, its value, and what it must be.
    """
    reads, parameters = getattr(analysis, "reads", None), getattr(analysis, "parameters", None)
    branches, members = getattr(reads, "branches", None), analysis.collections
    optional = getattr(reads, "optional", ())
    are_collections = isinstance(members, Mapping) and all(map(_are_names, members.values()))
    allowed = {
        "reads": (
            reads,
            isinstance(reads, NanoAOD | FlatTree),
            "NanoAOD(branches=...) or FlatTree(branches=...)",
        ),
        "reads.branches": (branches, _are_names(branches), "a tuple of names"),
        "reads.optional": (optional, _are_names(optional), "a tuple of names"),
        "parameters": (
            parameters,
            isinstance(parameters, Mapping),
            "{name: Free(initial, bounds)}, {} where all that is free comes from init",
        ),
        "collections": (members, are_collections, "{mask: (names of columns)}"),
    }
    for attribute, (value, fits, wanted) in allowed.items():
        if not fits:
            raise ConfigError(f"{type(analysis).__name__}.{attribute} is {short(value)}; it must be {wanted}")
    _check_parameters(type(analysis).__name__, analysis.parameters)


def _are_names(value: object) -> bool:
    return (
        not isinstance(value, str) and isinstance(value, Sequence) and all(isinstance(n, str) for n in value)
    )


TAKEN = "`p` and `c` have something else of this name; give it another name"


def is_taken(name: str) -> bool:
    """Return whether a parameter or column of this name could not be reached as ``p.name`` or ``c.name``."""
    return name.startswith("__") or hasattr(Columns, name) or name in Columns.__dataclass_fields__


def short(value: object) -> str:
    """Return a value as messages show it: in one line, with its type."""
    return textwrap.shorten(f"{value!r} ({type(value).__name__})", 200, placeholder=" ...")


def shape_of(array: object) -> tuple[int, ...] | None:
    """Return the shape of an array or a number; None for anything else."""
    if isinstance(array, jax.Array | np.ndarray | np.generic):
        return array.shape
    return () if isinstance(array, numbers.Real) else None


def shaped(array: object) -> str:
    """Return the words of a message for an array, or for what should be one."""
    shape = shape_of(array)
    return short(array) if shape is None else f"an array of shape {shape}" if shape else "a single number"


def _check_parameters(analysis: str, parameters: Mapping[object, object]) -> None:
    """Raise where the free parameters are none that an optimiser could move."""
    for name, free in parameters.items():
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{analysis}: the parameter {name!r} needs a text for its name")
        if is_taken(name):
            raise ConfigError(f"{analysis}: parameter {name!r}: {TAKEN}")
        if reason := _fault(free):
            raise ConfigError(f"{analysis}: parameter {name!r}: {reason}")


def _fault(free: object) -> str | None:
    """Return the fault of a free parameter as a sentence, or None."""
    if not isinstance(free, Free):
        return f"{free!r} is no Free(initial, bounds=(lower, upper))"
    bounds: Any = free.bounds
    if not (isinstance(bounds, tuple | list) and len(bounds) == 2):
        return f"bounds {bounds!r} are not two numbers, (lower, upper)"
    values: dict[str, object] = {"initial": free.initial, "lower bound": bounds[0], "upper bound": bounds[1]}
    for what, value in values.items():
        if not _is_finite(value):
            return (
                f"{what} {value!r} is no finite number; the optimiser moves in units of the allowed range, so give the "
                "range that the parameter could sensibly have"
            )
    low, high = map(float, free.bounds)
    if not low < high or not math.isfinite(high - low):
        return f"bounds ({low}, {high}) must be two ascending numbers with a finite range"
    if not low <= free.initial <= high:
        return f"initial {free.initial} is outside its bounds ({low}, {high}); choose a value inside"
    return None if isinstance(free.unit, str) else f"unit {free.unit!r} is no text"


def _is_finite(value: object) -> bool:
    """Return whether something is a number that a float can hold; Python's truth values are none."""
    if isinstance(value, bool):
        return False
    try:
        return isinstance(value, numbers.Real) and math.isfinite(float(value))
    except OverflowError:
        return False
