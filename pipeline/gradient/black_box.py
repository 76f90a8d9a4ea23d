"""Call the stage of an analysis that has no derivative, for whole chunks or for a few events at several points."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile

import numpy as np
from jaxtyping import Float

from pipeline.analysis import Analysis, Simulated
from pipeline.columns.padding import NUMBERS
from pipeline.containers import AnyArray, Columns
from pipeline.errors import ConfigError, FitError, Noting
from pipeline.gradient.chunks import parted
from pipeline.gradient.resident import ChunkId, Resident, Share, in_order
from pipeline.gradient.scratch import Arrays
from pipeline.gradient.work import Group, Problem, Work
from pipeline.templates.surrogate import Call
from pipeline.templates.variations import WEIGHT

LARGEST_WHOLE = 2**53  # of what float64 holds exactly


def events(
    resident: Resident,
    groups: Sequence[Group],
    problem: Problem,
    parameters: Mapping[str, AnyArray | np.number | float],
    *,
    stand_in: bool,
) -> Iterable[Share]:
    """Return the chunks of some groups, with the columns of the analysis's stage without a derivative where it has one.

    What the stage made at the parameters it was called for last is kept beside the events, in the same budget.

    Args:
        stand_in: a generator makes those columns later.
    """
    stage = problem.analysis.simulated
    if stage is None or stand_in:
        return resident.shares(groups, problem)
    point = tuple(float(parameters[name]) for name in stage.parameters)

    def outputs(owner: ChunkId, chunk: Columns) -> Arrays:
        rng = np.random.default_rng([*_seed(owner.group), owner.number])
        return _called(problem.analysis, stage, point, _arrays(chunk), rng)

    return resident.completed(groups, problem, (problem, point), outputs)


def draw(
    resident: Resident,
    group: Group,
    work: Work,
    points: Float[np.ndarray, "calls params"],
    number: int,
    seed: tuple[int, ...],
) -> list[Call]:
    """Return a group's share of ``number`` events as the stage makes them at each point.

    They are drawn at random, anew for each point.
    """
    stage = work.problem.analysis.simulated
    if stage is None:
        raise TypeError("an analysis without a stage to call")
    before = sum(other.events for other in takewhile(lambda other: other != group, work.groups))
    rngs = [np.random.default_rng([*seed, *_seed(group), call]) for call in range(len(points))]
    found: list[list[Call]] = [[] for _ in points]
    for chunk in in_order(resident.shares([group], work.problem)):
        arrays = _arrays(chunk)
        there = np.flatnonzero(arrays[WEIGHT])
        share = _until(before + len(there), number, work.events) - _until(before, number, work.events)
        before += len(there)
        for point, rng, own in zip(points, rngs, found, strict=True):
            chosen = rng.choice(there, size=share, replace=False)
            some = {name: array[chosen] for name, array in arrays.items()}
            own.append(_call(work.problem.analysis, stage, point, some, rng))
    return [joined(own) for own in found]


def joined(parts: Sequence[Call]) -> Call:
    """Return calls at one point as one."""
    inputs, outputs = (np.concatenate([getattr(p, kind) for p in parts]) for kind in ("inputs", "outputs"))
    return Call(parts[0].point, inputs, outputs)


def _until(events: int, number: int, total: int) -> int:
    """Return events to draw among the first so many of all."""
    return events * min(number, total) // total


def _call(
    analysis: Analysis, stage: Simulated, point: np.ndarray, arrays: Arrays, rng: np.random.Generator
) -> Call:
    made = _called(analysis, stage, point.tolist(), arrays, rng)
    inputs = np.stack([arrays[name] for name in stage.inputs], axis=1, dtype=np.float32)
    return Call(point, inputs, np.stack([made[name] for name in stage.outputs], axis=1, dtype=np.float32))


def _called(
    analysis: Analysis, stage: Simulated, point: Sequence[float], arrays: Arrays, rng: np.random.Generator
) -> Arrays:
    """Return the outputs, checked: all there, one number for each event, finite."""
    name = type(analysis).__name__
    values = dict(zip(stage.parameters, map(float, point), strict=True))
    with Noting(f"in {name}.simulate(p, c, rng) of {len(arrays[WEIGHT])} events at {values}"):
        made = analysis.simulate(values, arrays, rng)
    if not isinstance(made, Mapping):
        raise ConfigError(
            f"simulate() of {name} returns a {type(made).__name__}; it must return {{column: array}}"
        )
    found = {output: np.asarray(made[output]) for output in stage.outputs if output in made}
    for output in stage.outputs:
        if output in found and found[output].dtype.kind not in NUMBERS:
            raise ConfigError(
                f"simulate() of {name}: output {output!r} holds {found[output].dtype}, no numbers"
            )
        if output not in found or found[output].shape != arrays[WEIGHT].shape:
            shape = f"has shape {found[output].shape}" if output in found else "is not there"
            raise ConfigError(
                f"simulate() of {name}: output {output!r} {shape}; it must return every one of {stage.outputs}, "
                f"each [events] = {arrays[WEIGHT].shape}"
            )
        if not np.all(np.isfinite(found[output])):
            raise FitError(
                f"simulate() of {name} at {values}: output {output!r} is not finite for some events"
            )
    return {output: _floating(name, output, array) for output, array in found.items()}


def _floating(name: str, output: str, array: np.ndarray) -> np.ndarray:
    """Return outputs as they are, whole numbers in float64: what stands in for the stage makes no others."""
    if array.dtype.kind == "f":
        return array
    if array.dtype.kind != "b" and np.any(np.abs(array) > LARGEST_WHOLE):
        raise ConfigError(
            f"simulate() of {name}: output {output!r} holds whole numbers above 2^53, which float64 rounds; give floats"
        )
    return array.astype(np.float64)


def _arrays(chunk: Columns) -> Arrays:
    """Return the columns of a chunk, as the stage is given them."""
    return {name: np.asarray(array) for name, array in parted(chunk).columns.arrays.items()}


def _seed(group: Group) -> Iterator[int]:
    return (int(file.digest[:16], 16) for file in group.files)
