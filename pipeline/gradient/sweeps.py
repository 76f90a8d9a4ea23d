"""The exact gradient over chunks: a forward sweep, the centre, a pullback sweep, over any executor.

With chunks c, parameters p, templates T(p) = sum_c f(p, c) and objective L = g(T, p),

    dL/dp = dg/dp + sum_c (df(p, c)/dp)^T (dg/dT):

every chunk sends its templates, the centre sends back dg/dT, every chunk sends its share of dL/dp. Nothing that
travels grows with the number of events. Sums are done in float64 in an order fixed by the files alone: chunks within
their group, groups at the centre. The same bits come out for any number of workers.
"""

import functools
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np

from pipeline.containers import Columns, Templates
from pipeline.data.datasets import NOMINAL
from pipeline.errors import FitError
from pipeline.gradient.black_box import events
from pipeline.gradient.chunks import Resident, copies, parted
from pipeline.gradient.compiled import FreeValues as FreeValues
from pipeline.gradient.compiled import compiled, in_types, mixed_as_numpy_does, recipe
from pipeline.gradient.work import Group, Work
from pipeline.templates.axes import Axes
from pipeline.templates.fill import ExactCuts, Mode, Widths, bad_events

Found = TypeVar("Found")
Tree = TypeVar("Tree")
# Templates and parameters -> L, dL/dT, and what of dL/dp does not go through the templates (nothing, as a rule).
Centre = Callable[[Templates, FreeValues], tuple[float, Templates, FreeValues]]


@runtime_checkable
class Executor(Protocol):
    """Goes through the groups of a work, somewhere, and returns what each gives in their order."""

    @property
    def workers(self) -> int:
        """Processes that share the work."""
        ...

    def sweep(self, function: Callable[..., Found], work: Work, *broadcast: object) -> list[Found]:
        """`[function(resident, group, work, *broadcast) for group in work.groups]`.

        `resident` holds the events of the process that works on a group.
        """
        ...


class Step(NamedTuple):
    """Objective and gradient at one point, what they cost in seconds, and the templates."""

    objective: float
    gradient: FreeValues
    seconds: dict[str, float]
    templates: Templates


def forward(
    executor: Executor,
    work: Work,
    parameters: FreeValues,
    mode: Mode,
    *,
    replica: int | None = None,
) -> Templates:
    """First sweep: the templates of all groups, [samples, variations, bins] per channel, in float64.

    Arguments:
        replica: number of a bootstrap sample of the events; None for the events themselves.

    Raises:
        FitError: a template is not finite; the message says which, and which column or observable it comes from.
    """
    partial = executor.sweep(_forward_group, work, _to_numpy(parameters), _to_numpy(mode), replica)
    yields, sumw2 = _zeros(work)
    for group, templates in zip(work.groups, partial, strict=True):
        rows = _rows(group, work.axes)
        for channel in yields:
            yields[channel][rows] += templates.yields[channel]
            sumw2[channel][rows[0]] += templates.sumw2[channel]
    for channel, array in yields.items():
        if not np.all(np.isfinite(array)):
            raise FitError(_cause(_place(channel, array, work.axes), executor, work, parameters, mode))
    return Templates(yields, sumw2)


def pullback(
    executor: Executor, work: Work, parameters: FreeValues, widths: Widths, cotangent: Templates
) -> FreeValues:
    """Second sweep: dL/dp from dL/dT, summed over all groups in order."""
    partial = executor.sweep(
        _pullback_group, work, _to_numpy(parameters), _to_numpy(widths), _to_numpy(cotangent)
    )
    return functools.reduce(lambda a, b: jax.tree.map(np.add, a, b), partial)


def value_and_grad(
    executor: Executor, work: Work, parameters: FreeValues, widths: Widths, centre: Centre
) -> Step:
    """Objective over all events and its exact gradient.

    Raises:
        FitError: a template, the objective or the gradient is not finite; the message says which.
    """
    if work.problem.analysis.simulated is not None and widths.surrogate is None:
        raise TypeError(
            "the gradient through a stage without a derivative is that of a surrogate, which is not given"
        )
    started = time.perf_counter()
    templates = forward(executor, work, parameters, widths)
    swept = time.perf_counter()
    objective, cotangent, direct = centre(templates, parameters)
    centred = time.perf_counter()
    gradient = pullback(executor, work, parameters, widths, cotangent)
    gradient |= {name: gradient[name] + np.asarray(part) for name, part in direct.items()}
    bad = [name for name, slope in gradient.items() if not np.all(np.isfinite(slope))]
    if bad:
        why = _undefined(executor, work, parameters, widths, cotangent)
        raise FitError(
            f"the gradient with respect to {', '.join(map(repr, bad))} is not finite, though {why}"
        )
    done = time.perf_counter()
    seconds = {"forward": swept - started, "centre": centred - swept, "pullback": done - centred}
    return Step(objective, gradient, seconds, templates)


def _place(channel: str, array: np.ndarray, axes: Axes) -> str:
    """The first place of a template that is not finite."""
    sample, variation, number = np.argwhere(~np.isfinite(array))[0]
    variation_name = axes.variations[variation]
    return f"{channel!r} (sample {axes.samples[sample]!r}, variation {variation_name!r}, bin {number})"


def _cause(place: str, executor: Executor, work: Work, parameters: FreeValues, mode: Mode) -> str:
    """Why a template is not finite: its parameters, or what one more look at all events finds."""
    bad = [name for name, array in parameters.items() if not np.all(np.isfinite(array))]
    reasons = [f"parameters that are not finite: {', '.join(bad)}"] if bad else []
    if not bad:
        found = executor.sweep(_bad_group, work, _to_numpy(parameters), _to_numpy(mode))
        reasons = [
            f"sample {g.sample!r}: {why}" for g, whys in zip(work.groups, found, strict=True) for why in whys
        ]
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return (
        f"template {place} is not finite: {'; '.join(reasons[:3]) or 'is a width too small?'}{more}; mask such "
        "events in the analysis, before the division, logarithm or root that makes them"
    )


def _undefined(
    executor: Executor, work: Work, parameters: FreeValues, widths: Widths, cotangent: Templates
) -> str:
    """Why a gradient is not finite where templates and objective are."""
    for channel, array in cotangent.yields.items():
        if not np.all(np.isfinite(array)):
            where = _place(channel, np.asarray(array), work.axes)
            return (
                "the objective is: so is its derivative with respect to the template "
                f"{where}; is there a bin without events or without background?"
            )
    partial = executor.sweep(
        _pullback_group, work, _to_numpy(parameters), _to_numpy(widths), _to_numpy(cotangent)
    )
    finite = [all(np.all(np.isfinite(slope)) for slope in part.values()) for part in partial]
    samples = {group.sample: None for group, good in zip(work.groups, finite, strict=True) if not good}
    where = f"of sample {' and '.join(map(repr, samples))} " if samples else ""
    return (
        f"every template {where}and the objective are: the root, logarithm, power or quotient of an event has no "
        "finite derivative at 0, and jnp.where around the result does not take that away; put a harmless number in as "
        "well, jnp.where(ok, jnp.sqrt(jnp.where(ok, x, 1.0)), 0.0)"
    )


def _bad_group(resident: Resident, group: Group, work: Work, parameters: FreeValues, mode: Mode) -> list[str]:
    """What is not finite in the first chunk of a group that has such events."""
    problem = work.problem
    for chunk in _events(resident, group, work, parameters, mode):
        with mixed_as_numpy_does():
            worked_on = in_types(problem, parameters, parted(chunk).columns, mode)
            found = bad_events(recipe(problem, group.variations), *worked_on)
        if found:
            return found
    return []


def _forward_group(
    resident: Resident,
    group: Group,
    work: Work,
    parameters: FreeValues,
    mode: Mode,
    replica: int | None,
) -> Templates:
    sweep = compiled(work.problem, group.variations)[0]

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


def _pullback_group(
    resident: Resident, group: Group, work: Work, parameters: FreeValues, widths: Widths, cotangent: Templates
) -> FreeValues:
    sweep = compiled(work.problem, group.variations)[1]
    own = _part(cotangent, _rows(group, work.axes))

    def one(chunk: Columns) -> FreeValues:
        columns, _, factor = parted(chunk)
        found: FreeValues = sweep(parameters, columns, widths, factor, own)
        return found

    total: FreeValues = _sum(map(one, _events(resident, group, work, parameters, widths)))
    return total


def _events(
    resident: Resident, group: Group, work: Work, parameters: FreeValues, mode: Mode
) -> Iterable[Columns]:
    """The chunks of a group, complete: by the analysis's stage without a derivative, or by what stands in for it."""
    stand_in = isinstance(mode, Widths) and mode.surrogate is not None
    return events(resident, group, work.problem, parameters, stand_in=stand_in)


def _sum(results: Iterable[Tree]) -> Tree:
    """Sum in order, in float64 NumPy: what leaves a worker."""
    total: Tree = functools.reduce(lambda a, b: jax.tree.map(np.add, a, b), map(_to_numpy, results))
    return total


def _to_numpy(tree: Tree) -> Tree:
    found: Tree = jax.tree.map(lambda x: np.asarray(x, dtype=np.float64), tree)
    return found


def _rows(group: Group, axes: Axes) -> tuple[int, list[int]]:
    names = (NOMINAL, *group.variations)
    return axes.samples.index(group.sample), [axes.variations.index(name) for name in names]


def _zeros(work: Work) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    samples, variations = len(work.axes.samples), len(work.axes.variations)
    bins = {binning.channel: binning.bins for binning in work.problem.binnings}
    return (
        {channel: np.zeros((samples, variations, n)) for channel, n in bins.items()},
        {channel: np.zeros((samples, n)) for channel, n in bins.items()},
    )


def _part(cotangent: Templates, rows: tuple[int, list[int]]) -> Templates:
    return Templates(
        yields={channel: np.asarray(c)[rows] for channel, c in cotangent.yields.items()},
        sumw2={channel: np.asarray(c)[rows[0]] for channel, c in cotangent.sumw2.items()},
    )
