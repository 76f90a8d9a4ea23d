"""Cuts on a plateau: no training event is so near that hard cuts would notice, and the smooth one has no derivative.

Whether events are near is asked of the exact templates: where they are the same, bit for bit, with the cut three widths
lower and three widths higher, no event that counts lies between. It holds for cuts on objects as for cuts on events,
whatever the analysis makes of a parameter.
"""

import numpy as np

from pipeline.analysis import analysis_of
from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.data.progress import Moment
from pipeline.data.written import Written
from pipeline.errors import FitError
from pipeline.gradient.sweeps import Executor, FreeValues, forward
from pipeline.gradient.work import Work
from pipeline.optimise.schedule import widths_at
from pipeline.templates.fill import EXACT

FAR = 3.0  # widths: beyond, a sigmoid has 18 % of its steepest slope, and less


class Plateau(Written):
    """A cut with no event within ``FAR`` widths: its name, value, and the width at the epoch that is kept."""

    parameter: str
    value: float
    width: float


def plateaus(
    config: Config, executor: Executor, work: Work, parameters: FreeValues, kept: Moment, exact: Templates
) -> tuple[Plateau, ...]:
    """Return the cuts on a plateau, of those that have a width of their own name.

    One exact sweep is made for each cut, as a rule, and two for one on a plateau.

    Args:
        work: of training events.
        kept: the epoch that is kept, whose widths count.
        exact: the templates with hard cuts at the parameters.
    """
    free, widths = analysis_of(config).parameters, widths_at(config, kept.epoch).operations
    found = []
    for name in (name for name in widths if name in free):
        width, value = float(widths[name]), float(parameters[name])
        ends = np.clip([value - FAR * width, value + FAR * width], *free[name].bounds)
        there = ({**parameters, name: np.float64(end)} for end in ends if end != value)
        if all(_is_same(executor, work, point, exact) for point in there):
            found.append(Plateau(parameter=name, value=value, width=width))
    return tuple(found)


def _is_same(executor: Executor, work: Work, point: FreeValues, exact: Templates) -> bool:
    """Return whether the templates at a point are others in no bit."""
    try:
        there = forward(executor, work, point, EXACT)
    except FitError:  # not finite there
        return False
    return all(np.array_equal(there.yields[channel], array) for channel, array in exact.yields.items())
