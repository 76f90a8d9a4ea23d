"""A group's share of each sweep: what the process does that holds its events."""

import functools
from collections.abc import Iterable
from typing import TypeVar

import jax
import numpy as np

from pipeline.containers import Columns, Templates
from pipeline.data.datasets import NOMINAL
from pipeline.gradient.black_box import events
from pipeline.gradient.chunks import Resident, copies, parted
from pipeline.gradient.compiled import FreeValues, compiled, in_types, mixed_as_numpy_does, recipe
from pipeline.gradient.held import Watched
from pipeline.gradient.work import Group, Work
from pipeline.templates.axes import Axes
from pipeline.templates.fill import ExactCuts, Mode, Widths, bad_events

Tree = TypeVar("Tree")


def bad_group(resident: Resident, group: Group, work: Work, parameters: FreeValues, mode: Mode) -> list[str]:
    """Return what is not finite in the first chunk of a group with such events."""
    problem = work.problem
    for chunk in _events(resident, group, work, parameters, mode):
        with mixed_as_numpy_does():
            worked_on = in_types(problem, parameters, parted(chunk).columns, mode)
            found = bad_events(recipe(problem, group.variations), *worked_on)
        if found:
            return found
    return []


def forward_group(
    resident: Resident,
    group: Group,
    work: Work,
    parameters: FreeValues,
    mode: Mode,
    replica: int | None,
    watched: Watched,
) -> Templates | None:
    """Return templates of what is watched of a group, [variations, bins]; None where that is nothing."""
    observed = watched.of(group)
    if observed is None:
        return None
    sweep = compiled(work.problem, observed.variations)[0]

    def one(chunk: Columns) -> Templates:
        columns, keys, factor = parted(chunk)
        # Exact sweeps are given copies always, so that no program is compiled for replicas.
        found: Templates = sweep(
            parameters,
            columns,
            mode,
            factor,
            copies(keys, replica) if isinstance(mode, ExactCuts) or replica is not None else None,
        )
        return found

    total: Templates = _sum(map(one, _events(resident, group, work, parameters, mode)))
    return total


def pullback_group(
    resident: Resident,
    group: Group,
    work: Work,
    parameters: FreeValues,
    widths: Widths,
    cotangent: Templates,
    watched: Watched,
) -> FreeValues | None:
    """Return a group's share of dL/dp, through what is watched of it; None where that is nothing."""
    observed = watched.of(group)
    if observed is None:
        return None
    sweep = compiled(work.problem, observed.variations)[1]
    own = _part(cotangent, rows(observed, work.axes))

    def one(chunk: Columns) -> FreeValues:
        columns, _, factor = parted(chunk)
        found: FreeValues = sweep(parameters, columns, widths, factor, own)
        return found

    total: FreeValues = _sum(map(one, _events(resident, group, work, parameters, widths)))
    return total


def _events(
    resident: Resident, group: Group, work: Work, parameters: FreeValues, mode: Mode
) -> Iterable[Columns]:
    """Return the chunks of a group, completed by the analysis's stage without a derivative.

    Where something stands in for the stage, that completes them later.
    """
    stand_in = isinstance(mode, Widths) and mode.surrogate is not None
    return events(resident, group, work.problem, parameters, stand_in=stand_in)


def _sum(results: Iterable[Tree]) -> Tree:
    """Sum in order, in float64 NumPy: what leaves a worker."""
    total: Tree = functools.reduce(lambda a, b: jax.tree.map(np.add, a, b), map(to_numpy, results))
    return total


def to_numpy(tree: Tree) -> Tree:
    """Return arrays in float64 NumPy, as they travel."""
    found: Tree = jax.tree.map(lambda x: np.asarray(x, dtype=np.float64), tree)
    return found


def rows(group: Group, axes: Axes) -> tuple[int, list[int]]:
    """Return where the templates of all groups have those of one: its sample, its variations."""
    names = (NOMINAL, *group.variations)
    return axes.samples.index(group.sample), [axes.variations.index(name) for name in names]


def _part(cotangent: Templates, rows: tuple[int, list[int]]) -> Templates:
    return Templates(
        yields={channel: np.asarray(c)[rows] for channel, c in cotangent.yields.items()},
        sumw2={channel: np.asarray(c)[rows[0]] for channel, c in cotangent.sumw2.items()},
    )
