"""A process's share of each sweep: what it does with the events that it holds."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import jax
import numpy as np

from pipeline.containers import Columns, Templates
from pipeline.data import event_random
from pipeline.data.datasets import NOMINAL
from pipeline.errors import ConfigError, Failures
from pipeline.gradient.accumulator import Accumulator, arrays_of, empty
from pipeline.gradient.black_box import events
from pipeline.gradient.chunks import copies, parted
from pipeline.gradient.compiled import FreeValues, Visit, compiled, in_types, mixed_as_numpy_does, recipe
from pipeline.gradient.held import Watched
from pipeline.gradient.resident import Resident, Share, in_order
from pipeline.gradient.vectors import length
from pipeline.gradient.work import Group, Work
from pipeline.templates.axes import Axes
from pipeline.templates.fill import ExactCuts, Mode, Widths, bad_events

Tree = TypeVar("Tree")
GRADIENT = "gradient"  # the name of the only sum of a pullback


def bad_group(resident: Resident, group: Group, work: Work, parameters: FreeValues, mode: Mode) -> list[str]:
    """Return what is not finite in the first chunk of a group with such events.

    Raises:
        AnalysisError: it is what the function of a ``lookup`` raises.
    """
    problem = work.problem
    for chunk in in_order(_events(resident, [group], work, parameters, mode)):
        failures = Failures()
        events_of_chunk = Columns(parted(chunk).columns.arrays, failures)
        with mixed_as_numpy_does():
            worked_on = in_types(problem, parameters, events_of_chunk, mode)
            found = bad_events(recipe(problem, group.variations), *worked_on)
        failures.raised()
        if found:
            return found
    return []


def is_sound(
    resident: Resident,
    group: Group,
    work: Work,
    parameters: FreeValues,
    widths: Widths,
    cotangent: Templates,
    watched: Watched,
) -> bool:
    """Return whether a group's share of the gradient is finite."""
    found = pullback_share(resident, [group], work, parameters, widths, cotangent, watched)
    return bool(np.all(np.isfinite(arrays_of(found)[GRADIENT])))


def forward_share(
    resident: Resident,
    groups: Sequence[Group],
    work: Work,
    parameters: FreeValues,
    mode: Mode,
    replica: int | None,
    watched: Watched,
) -> dict[tuple[str, ...], Accumulator]:
    """Return the templates of what is watched of some groups, by the variations that are observed of them.

    Each is a sum [samples, numbers of the templates].
    """
    parameters, found = jax.device_put(parameters), {}
    for variations, own in _families(groups, watched).items():
        sweep = compiled(work.problem, variations)[0]
        total = empty((work.rows, length(no_templates(work, variations))))
        for share in _events(resident, own, work, parameters, mode):
            # Exact sweeps are given copies always, so that no program is compiled for replicas.
            exact = isinstance(mode, ExactCuts) or replica is not None
            times = copies(share.keys, replica) if exact else None
            total = sweep(total, parameters, _visit(share, work), mode, times)
        found[variations] = total
    return found


def pullback_share(
    resident: Resident,
    groups: Sequence[Group],
    work: Work,
    parameters: FreeValues,
    widths: Widths,
    cotangent: Templates,
    watched: Watched,
) -> dict[str, Accumulator]:
    """Return dL/dp of some groups, through what is watched of them: a sum [numbers of the gradient].

    Raises:
        ConfigError: there is no parameter.
    """
    if not parameters:
        raise ConfigError(
            f"{type(work.problem.analysis).__name__}.parameters is empty, and nothing is free in bins or init either: "
            "there is nothing to optimise; name one, or take templates and workspace alone (docs/only_templates.md)"
        )
    parameters = jax.device_put(parameters)
    total = empty((length(parameters),), work.problem.precision)
    for variations, own in _families(groups, watched).items():
        sweep = compiled(work.problem, variations)[1]
        slopes = _of_variations(cotangent, variations, work.axes)
        for share in _events(resident, own, work, parameters, widths):
            times = None if work.replica is None else copies(share.keys, work.replica)
            total = sweep(total, parameters, _visit(share, work), widths, slopes, times)
    return {GRADIENT: total}


def _families(groups: Sequence[Group], watched: Watched) -> dict[tuple[str, ...], list[Group]]:
    """Return the groups of which something is watched, by the variations that are."""
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        observed = watched.of(group)
        if observed is not None:
            found.setdefault(observed.variations, []).append(group)
    return found


def no_templates(work: Work, variations: tuple[str, ...]) -> Templates:
    """Return templates of one sample without events."""
    bins = {binning.channel: binning.bins for binning in work.problem.binnings}
    return Templates(
        {channel: np.zeros((1 + len(variations), number)) for channel, number in bins.items()},
        {channel: np.zeros(number) for channel, number in bins.items()},
    )


def even_templates(work: Work, value: float) -> Templates:
    """Return templates of all rows and variations with one number everywhere."""
    one = no_templates(work, work.axes.variations[1:])
    found: Templates = jax.tree.map(lambda array: np.full((work.rows, *array.shape), value), one)
    return found


def _visit(share: Share, work: Work) -> Visit:
    """Return the way of a sweep through the chunks of a stack."""
    room = len(share.keys)
    places, samples = np.zeros((2, room), dtype=np.int32)
    number = len(share.places)
    places[:number] = share.places
    samples[:number] = [work.axes.samples.index(owner.group.sample) for owner in share.owners]
    if work.problem.layout.halves:  # all events of a chunk are of the first one's
        samples[:number] += len(work.axes.samples) * event_random.half(share.keys[list(share.places), 0])
    return Visit(parted(share.columns), places, samples, np.asarray(number, dtype=np.int32))


def _events(
    resident: Resident, groups: Sequence[Group], work: Work, parameters: FreeValues, mode: Mode
) -> Iterable[Share]:
    """Return the chunks of some groups, with the columns that the analysis's stage without a derivative makes.

    Where something stands in for the stage, the chunks lack those columns, and the sweep completes them.
    """
    stand_in = isinstance(mode, Widths) and mode.surrogate is not None
    return events(resident, groups, work.problem, parameters, stand_in=stand_in)


def to_numpy(tree: Tree) -> Tree:
    """Return arrays in float64 NumPy, as they travel."""
    found: Tree = jax.tree.map(lambda x: np.asarray(x, dtype=np.float64), tree)
    return found


def _of_variations(cotangent: Templates, variations: tuple[str, ...], axes: Axes) -> Templates:
    """Return the derivative with respect to the templates of some variations, the nominal first."""
    rows = [axes.variations.index(name) for name in (NOMINAL, *variations)]
    yields = {channel: np.asarray(slopes)[:, rows] for channel, slopes in cotangent.yields.items()}
    return Templates(yields=yields, sumw2=cotangent.sumw2)
