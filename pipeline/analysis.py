"""The contract a physicist implements: one class says what to read, what is free, what is observed."""

import dataclasses
import functools
import json
import math
import numbers
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from pipeline import targets
from pipeline.containers import Columns, Observation, Parameters
from pipeline.errors import ConfigError, nearest
from pipeline.relax import Exact, Relaxed


@dataclasses.dataclass(frozen=True)
class Free:
    """A free parameter: start value, allowed range, unit. Optimisers stay inside the bounds."""

    initial: float
    bounds: tuple[float, float]
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class NanoAOD:
    """Read with coffea's NanoAOD schema in virtual mode: `events.Jet.pt` is branch `Jet_pt`.

    `event` is the branch that numbers the events and so decides, with nothing else, who is held out.
    """

    branches: tuple[str, ...]
    tree: str = "Events"
    event: str = "event"


@dataclasses.dataclass(frozen=True)
class FlatTree:
    """Read with uproot, branches as they are: `events.Jet_Px`.

    Without a branch that numbers the events, `event=None`, the entry's place in its file does.
    """

    branches: tuple[str, ...]
    tree: str = "events"
    event: str | None = None


NOISE = "noise"  # the column of random numbers for what stands in for `Analysis.simulate`


@dataclasses.dataclass(frozen=True)
class Simulated:
    """What `Analysis.simulate` needs and makes; the configuration's `surrogate` says how its gradient is found.

    Arguments:
        parameters: free parameters that it depends on.
        inputs: columns [events] that say of an event what its outputs depend on.
        outputs: columns [events] that it makes.
        noise: random numbers an event gives the generator, as column `noise` [events, noise]
            (`pipeline.columns.noise`).
    """

    parameters: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    noise: int = 4


class Analysis:
    """Base of every analysis.

    `reads` names the tree and its branches, `parameters` the free parameters. Arrays that are no cut, such as the
    weights of a network, come from `init`. `collections` may name the columns that hold the objects of one kind, by
    the column that says which are there (`mask`): chunks are then trimmed to the objects their events have.
    `weight_variations` names the systematic variations that `weights` makes. `merit_label` and `merit_unit` say what
    `merit` is. `simulated` declares columns that a stage without a derivative makes, `simulate`.
    """

    reads: NanoAOD | FlatTree
    parameters: Mapping[str, Free]
    collections: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    weight_variations: tuple[str, ...] = ()
    merit_label: str = "figure of merit"
    merit_unit: str = ""
    simulated: Simulated | None = None

    def columns(self, events: Any, dataset: str) -> Mapping[str, Any]:
        """Awkward events in, rectangular arrays of the preselected ones out; once per ROOT file.

        The result holds [events] and [events, objects] arrays (see `pipeline.columns.pad`), one of them `weight`.
        The preselection must keep every event that any allowed value of the parameters could select.
        """
        raise TypeError(f"{type(self).__name__} defines no method columns(events, dataset)")

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Columns in, one observation per channel out; every decision goes through `relax`."""
        raise TypeError(f"{type(self).__name__} defines no method observe(p, c, relax)")

    def simulate(
        self, p: Mapping[str, float], c: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> Mapping[str, np.ndarray]:
        """The columns `simulated.outputs` of some events, at one point, by a program that has no derivative.

        Events are added up, so what it makes of one must not depend on which others there are.

        Arguments:
            p: the parameters in `simulated.parameters`.
            c: columns of the events, as NumPy arrays.
            rng: random numbers, fixed by the events of the group and the seed.
        """
        del p, c, rng
        raise TypeError(
            f"{type(self).__name__} declares `simulated` but defines no method simulate(p, c, rng)"
        )

    def variations(self) -> Mapping[str, Callable[[Columns], Columns]]:
        """Systematic variations: columns to columns, each makes templates of its own."""
        return {}

    def shifts(self) -> Mapping[str, Callable[[Columns, Any], Columns]]:
        """Systematic variations of any size: columns and the size, in its own unit, to columns; 0 changes nothing.

        Shift `x` is the variations `x_up` and `x_down`, at +1 and -1. Being differentiable in its size, it can enter
        the optimisation by its derivative instead: `optimise.shifts`.
        """
        return {}

    def weights(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, jax.Array]:
        """Systematic variations of the weight alone that depend on the selection: a factor [events] for each.

        They share the nominal's selection and observables, so they cost next to nothing.
        """
        del p, c, relax
        return {}

    def merit(self, p: Parameters, sums: Mapping[str, jax.Array]) -> jax.Array:
        """What `objective.kind: merit` minimises: the number of an analysis that no fit judges.

        Arguments:
            sums: the channels with `in_fit: false`, their bins [bins] added up over all events and samples.
        """
        del p, sums
        raise TypeError(
            f"{type(self).__name__} defines no method merit(p, sums), which objective.kind: merit needs"
        )

    @property
    def variation_names(self) -> tuple[str, ...]:
        """All systematic variations that the analysis makes, in the order of the templates."""
        return (*self.transforms, *self.weight_variations)

    @property
    def shifted(self) -> dict[str, tuple[str, float]]:
        """The variations that are a shift, by name: which one, and its size."""
        ends = {"up": 1.0, "down": -1.0}
        return {f"{name}_{end}": (name, size) for name in self.shifts() for end, size in ends.items()}

    @property
    def transforms(self) -> dict[str, Callable[[Columns], Columns]]:
        """The variations of the columns by name: those of `variations`, and the shifts at +1 and -1."""
        shifts = self.shifts()
        of_shifts = {
            n: functools.partial(_at, shifts[shift], size) for n, (shift, size) in self.shifted.items()
        }
        return {**self.variations(), **of_shifts}

    def init(self, key: jax.Array) -> Mapping[str, jax.Array]:
        """Start values of the free arrays that have no bounds, such as the weights of a network."""
        del key
        return {}


def _at(shift: Callable[[Columns, Any], Columns], size: float, columns: Columns) -> Columns:
    return shift(columns, size)


@functools.cache
def load(target: str, options: str = "{}") -> Analysis:
    """The analysis that a configuration names: `module:Class` or `path/to/file.py:Class`.

    `options` is JSON, so that equal requests give the same object, which compiled functions are kept for.
    """
    name, colon, cls = target.partition(":")
    if not colon:
        raise ConfigError(f"analysis.target {target!r} is not 'module:Class' or 'path/to/file.py:Class'")
    module = targets.module(target, "analysis.target")
    found = getattr(module, cls, None)
    if found is None:
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Analysis)]
        raise ConfigError(f"analysis.target {target!r}: no class {cls!r} in {name}; {nearest(cls, classes)}")
    if not (isinstance(found, type) and issubclass(found, Analysis)):
        raise ConfigError(
            f"analysis.target {target!r}: {cls} is not a subclass of pipeline.analysis.Analysis"
        )
    try:
        made = found(**json.loads(options))
    except TypeError as error:
        raise ConfigError(
            f"analysis.options and analysis.files {options} do not fit {target}: {error}"
        ) from error
    _check_parameters(target, getattr(made, "parameters", None))
    return made


def _check_parameters(target: str, parameters: Any) -> None:
    """Raise where the free parameters are none that an optimiser could move."""
    if not isinstance(parameters, Mapping):
        raise ConfigError(
            f"{target}: parameters is {parameters!r}, not a mapping of names to Free; write parameters = {{}} where "
            "all that is free comes from init"
        )
    for name, free in parameters.items():
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{target}: the parameter {name!r} needs a text for its name")
        if reason := _fault(free):
            raise ConfigError(f"{target}: parameter {name!r}: {reason}")


def _fault(free: Any) -> str | None:
    """What is wrong with a free parameter, if anything."""
    if not isinstance(free, Free):
        return f"{free!r} is no Free(initial, bounds=(lower, upper))"
    bounds: Any = free.bounds
    if not (isinstance(bounds, tuple | list) and len(bounds) == 2):
        return f"bounds {bounds!r} are not two numbers, (lower, upper)"
    values: dict[str, Any] = {"initial": free.initial, "lower bound": bounds[0], "upper bound": bounds[1]}
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


def _is_finite(value: Any) -> bool:
    """Whether something is a number that a float can hold; Python's truth values are none."""
    if isinstance(value, bool):
        return False
    try:
        return isinstance(value, numbers.Real) and math.isfinite(float(value))
    except OverflowError:
        return False
