"""Where a run starts: what is waited for, and what is out of the ordinary before the first update.

Gradient descent never moves a parameter without a derivative, and a run of which none moves looks like one that has
converged.
"""

import logging
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from pipeline.analysis import Free, analysis_of
from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.data.datasets import NOMINAL
from pipeline.errors import FitError
from pipeline.gradient.halves import whole
from pipeline.gradient.sweeps import Executor, FreeValues, Step, forward
from pipeline.gradient.work import Work
from pipeline.templates.cautions import cautions, summary
from pipeline.templates.fill import Widths

logger = logging.getLogger(__name__)
Start = tuple[FreeValues, Widths]

MOVES = (0.1, 1.0)  # shares of the way to the farther bound at which templates are looked at, too
MOST_LINES = 5  # of each kind in a log


def compiling() -> str:
    """Return the sentence on what is waited for before the first number."""
    kept = jax.config.values["jax_compilation_cache_dir"]
    where = f"; kept in {kept} for the next time" if kept else ""
    return f"compiling the sweeps and the objective, which takes minutes where the model is large{where}"


def look(
    config: Config,
    executor: Executor,
    work: Work,
    point: Start,
    step: Step,
) -> None:
    """Say what is out of the ordinary in the first step.

    Raises:
        FitError: no parameter has a derivative.
    """
    templates = whole(step.templates, work.axes)
    for line in summary(cautions(templates, work.axes, config), MOST_LINES):
        logger.info(f"note: {line}")
    names = without_derivative(step.gradient)
    lines = reasons(executor, work, point, step.templates, analysis_of(config).parameters, names)
    if names and len(names) == len(step.gradient):
        where = f"epoch 0: nothing would move, the objective stays at {step.objective:.6g}"
        raise FitError(f"{where}: {'. '.join([*without_events(config, work, templates), *lines])}")
    for line in lines:
        logger.warning(f"warning: {line}")


def without_events(config: Config, work: Work, templates: Templates) -> list[str]:
    """Return samples, and regions, without events: what is made of them has no derivative either."""
    rows = {sample: work.axes.row(sample, NOMINAL) for sample in config.data.samples}
    found = [
        f"sample {sample!r} has no event in any channel of the fit"
        for sample, row in rows.items()
        if config.regions and not any(np.any(templates.yields[channel][row]) for channel in config.regions)
    ]
    total = {c: sum(np.sum(templates.yields[c][row]) for row in rows.values()) for c in config.regions}
    return found + [f"channel {channel!r} has no events" for channel, size in total.items() if not size > 0]


def without_derivative(gradient: FreeValues) -> list[str]:
    """Return parameters, and arrays of them, whose derivatives are all exactly 0."""
    return [name for name, slope in gradient.items() if np.size(slope) and not np.any(slope)]


def reasons(
    executor: Executor,
    work: Work,
    point: Start,
    templates: Templates,
    free: Mapping[str, Free],
    names: Sequence[str],
) -> list[str]:
    """Return a line for each of the first few names: whether the templates depend on it elsewhere, and what to do."""
    lines = []
    for name in names[:MOST_LINES]:
        moved = _moved(executor, work, point, templates, free[name], name) if name in free else None
        why = _why(name, name in free, moved)
        lines.append(
            f"the derivative with respect to {name!r} is exactly 0 at the start, so it does not move; {why}"
        )
    if len(names) > MOST_LINES:
        lines.append(
            f"nor do {len(names) - MOST_LINES} more parameters: {', '.join(map(repr, names[MOST_LINES:]))}"
        )
    return lines


def _moved(
    executor: Executor, work: Work, point: Start, templates: Templates, free: Free, name: str
) -> float | None:
    """Return the first value away from the start at which the templates are others, if there is one."""
    parameters, widths = point
    start = float(parameters[name])
    end = max(free.bounds, key=lambda bound: abs(bound - start))
    for share in MOVES:
        value = start + share * (end - start)
        try:
            there = forward(executor, work, {**parameters, name: np.float64(value)}, widths).yields
        except FitError:  # not finite there, and it is here
            return value
        if any(not np.array_equal(there[channel], array) for channel, array in templates.yields.items()):
            return value
    return None


def _why(name: str, bounded: bool, moved: float | None) -> str:
    if not bounded:
        return "is it used by `observe`, or does all that it feeds end in a hard decision or in zeros?"
    if moved is None:
        return (
            f"the templates are the same wherever it is: does `observe` use p.{name}, is any event near it?"
        )
    return (
        f"yet at {moved:.6g} the templates are others: a hard comparison in `observe` has no derivative, write "
        f"relax.greater(c.x, p.{name}) for c.x > p.{name}; if it has none, no event is within a width of the start "
        "value: start elsewhere or with a larger width"
    )
