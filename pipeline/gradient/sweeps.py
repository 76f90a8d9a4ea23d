"""The exact gradient over chunks: a forward sweep, the centre, a pullback sweep, over any executor.

With chunks c, parameters p, templates T(p) = sum_c f(p, c) and objective L = g(T, p),

    dL/dp = dg/dp + sum_c (df(p, c)/dp)^T (dg/dT):

every chunk sends its templates, the centre sends back dg/dT, every chunk sends its share of dL/dp. Nothing that
travels grows with the number of events. A worker adds up all its chunks before it answers, and workers are added up in
a tree, by sums that know no order (``accumulator``): the same bits come out for any number of workers.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np

from pipeline.containers import Templates
from pipeline.data.datasets import NOMINAL
from pipeline.errors import FitError
from pipeline.gradient.accumulator import Accumulator
from pipeline.gradient.compiled import FreeValues as FreeValues
from pipeline.gradient.held import HeldTemplates, Watched, everything
from pipeline.gradient.shares import (
    GRADIENT,
    bad_group,
    even_templates,
    forward_share,
    is_sound,
    no_templates,
    pullback_share,
    to_numpy,
)
from pipeline.gradient.vectors import tree_of
from pipeline.gradient.work import Work
from pipeline.templates.axes import Axes
from pipeline.templates.fill import EXACT, ExactCuts, Mode, Widths

Found = TypeVar("Found")
NamedSums = dict[Any, Accumulator]
# Templates and parameters -> L, dL/dT, and what of dL/dp does not go through the templates (nothing, as a rule).
Centre = Callable[[Templates, FreeValues], tuple[float, Templates, FreeValues]]


@runtime_checkable
class Executor(Protocol):
    """Goes through the groups of a work, somewhere."""

    @property
    def workers(self) -> int:
        """Processes that share the work."""
        ...

    def sweep(self, function: Callable[..., Found], work: Work, *broadcast: object) -> list[Found]:
        """Return ``[function(resident, group, work, *broadcast) for group in work.groups]``.

        ``resident`` holds the events of the process that works on a group.
        """
        ...

    def total(
        self, function: Callable[..., NamedSums], work: Work, *broadcast: object, precision: str = "float64"
    ) -> dict[Any, np.ndarray]:
        """Return the arrays of ``function(resident, work.groups, work, *broadcast)``, sums by name.

        Processes make a part each, of their own groups; parts are added up where they are, and one of their size
        travels, in the given precision.
        """
        ...


class Step(NamedTuple):
    """Objective and gradient at one point, what they cost in seconds, and the templates."""

    objective: float
    gradient: FreeValues
    seconds: dict[str, float]
    templates: Templates
    slopes: Templates  # of the objective in the templates


def forward(
    executor: Executor,
    work: Work,
    parameters: FreeValues,
    mode: Mode,
    *,
    replica: int | None = None,
    watched: Watched | None = None,
) -> Templates:
    """Run the first sweep: the templates of all groups, [samples, variations, bins] per channel, in float64.

    Args:
        replica: number of a bootstrap sample of the events; None for that of the work, where it has one.
        watched: what is observed, the others are 0; None for all.

    Raises:
        FitError: a template is not finite; the message says which, and which column or observable it comes from.
    """
    watched = watched or everything(work.axes)
    replica = work.replica if replica is None else replica
    found = executor.total(forward_share, work, *_as_sent(work, parameters, mode), replica, watched)
    nothing = even_templates(work, 0.0)
    yields, sumw2 = (
        {c: np.asarray(array) for c, array in part.items()} for part in (nothing.yields, nothing.sumw2)
    )
    for variations, vectors in found.items():
        templates = tree_of(vectors, no_templates(work, variations))
        rows = [work.axes.variations.index(name) for name in (NOMINAL, *variations)]
        for channel in yields:
            yields[channel][:, rows] += templates.yields[channel]
            sumw2[channel] += templates.sumw2[channel]
    for channel, array in yields.items():
        if not np.all(np.isfinite(array)):
            raise FitError(_cause(_place(channel, array, work.axes), executor, work, parameters, mode))
    return Templates(yields, sumw2)


def pullback(
    executor: Executor,
    work: Work,
    parameters: FreeValues,
    widths: Widths,
    cotangent: Templates,
    watched: Watched | None = None,
) -> FreeValues:
    """Run the second sweep: dL/dp from dL/dT, summed over all groups; through what is watched, None for all.

    Of a work that is a bootstrap sample, both are of that sample.
    """
    sent = _sent_back(work, parameters, widths, cotangent, watched)
    found = executor.total(pullback_share, work, *sent, precision=work.problem.precision)
    gradient: FreeValues = tree_of(found[GRADIENT], parameters)
    return gradient


def _as_sent(work: Work, parameters: FreeValues, mode: Mode) -> tuple[FreeValues, Mode]:
    """Return parameters and widths as they travel: those of relaxed sweeps in the precision that these work in."""
    if isinstance(mode, ExactCuts):
        return to_numpy(parameters), mode
    sent: tuple[FreeValues, Mode] = jax.tree.map(
        lambda x: np.asarray(x, dtype=work.problem.precision), (parameters, mode)
    )
    return sent


def _sent_back(
    work: Work, parameters: FreeValues, widths: Widths, cotangent: Templates, watched: Watched | None
) -> tuple[object, ...]:
    """Return what travels for a pullback."""
    return *_as_sent(work, parameters, widths), to_numpy(cotangent), watched or everything(work.axes)


def value_and_grad(
    executor: Executor,
    work: Work,
    parameters: FreeValues,
    widths: Widths,
    centre: Centre,
    held: HeldTemplates | None = None,
    *,
    exact: bool = False,
) -> Step:
    """Return objective over all events and its exact gradient.

    Args:
        held: templates that are not observed but held relative to the nominal: the gradient is that of the objective
            with them.
        exact: whether objective and its derivative are at the templates of exact cuts; those of the templates in the
            parameters are relaxed in any case.

    Raises:
        FitError: a template, the objective or the gradient is not finite; the message says which.
    """
    if work.problem.analysis.simulated is not None and widths.surrogate is None:
        raise TypeError(
            "the gradient through a stage without a derivative is that of a surrogate, which is not given"
        )
    started = time.perf_counter()
    watched = None if held is None else held.watched
    templates = forward(executor, work, parameters, EXACT if exact else widths, watched=watched)
    templates = templates if held is None else held.completed(templates)
    swept = time.perf_counter()
    objective, slopes, direct = centre(templates, parameters)
    cotangent = slopes if held is None else held.pulled_back(slopes)
    centred = time.perf_counter()
    gradient = pullback(executor, work, parameters, widths, cotangent, watched)
    gradient |= {name: gradient[name] + np.asarray(part) for name, part in direct.items()}
    bad = [name for name, slope in gradient.items() if not np.all(np.isfinite(slope))]
    if bad:
        why = _undefined(executor, work, parameters, widths, cotangent, watched)
        raise FitError(
            f"the gradient with respect to {', '.join(map(repr, bad))} is not finite, though {why}"
        )
    done = time.perf_counter()
    seconds = {"forward": swept - started, "centre": centred - swept, "pullback": done - centred}
    return Step(objective, gradient, seconds, templates, slopes)


def _place(channel: str, array: np.ndarray, axes: Axes) -> str:
    """Return the first place of a template that is not finite."""
    sample, variation, number = np.argwhere(~np.isfinite(array))[0]
    sample_name = axes.samples[sample % len(axes.samples)]  # rows of halves: twice the samples
    variation_name = axes.variations[variation]
    return f"{channel!r} (sample {sample_name!r}, variation {variation_name!r}, bin {number})"


def _cause(place: str, executor: Executor, work: Work, parameters: FreeValues, mode: Mode) -> str:
    """Return why a template is not finite: its parameters, or what one more look at all events finds."""
    bad = [name for name, array in parameters.items() if not np.all(np.isfinite(array))]
    reasons = [f"parameters that are not finite: {', '.join(bad)}"] if bad else []
    if not bad:
        found = executor.sweep(bad_group, work, to_numpy(parameters), to_numpy(mode))
        reasons = [
            f"sample {g.sample!r}: {why}" for g, whys in zip(work.groups, found, strict=True) for why in whys
        ]
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return (
        f"template {place} is not finite: {'; '.join(reasons[:3]) or 'is a width too small?'}{more}; mask such "
        "events in the analysis, before the division, logarithm or root that makes them"
    )


def _undefined(
    executor: Executor,
    work: Work,
    parameters: FreeValues,
    widths: Widths,
    cotangent: Templates,
    watched: Watched | None,
) -> str:
    """Return why a gradient is not finite where templates and objective are."""
    for channel, array in cotangent.yields.items():
        if not np.all(np.isfinite(array)):
            where = _place(channel, np.asarray(array), work.axes)
            return (
                "the objective is: so is its derivative with respect to the template "
                f"{where}; is there a bin without events or without background?"
            )
    finite = executor.sweep(is_sound, work, *_sent_back(work, parameters, widths, cotangent, watched))
    samples = {group.sample: None for group, good in zip(work.groups, finite, strict=True) if not good}
    where = f"of sample {' and '.join(map(repr, samples))} " if samples else ""
    return (
        f"every template {where}and the objective are: the root, logarithm, power or quotient of an event has no "
        "finite derivative at 0, and jnp.where around the result does not take that away; put a harmless number in as "
        "well, jnp.where(ok, jnp.sqrt(jnp.where(ok, x, 1.0)), 0.0)"
    )
