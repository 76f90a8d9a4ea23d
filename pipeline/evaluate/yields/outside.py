"""Selected events that no bin counts: below the first edge and above the last one of each channel."""

import dataclasses
import math

import numpy as np

from pipeline.config import Config
from pipeline.data.datasets import NOMINAL
from pipeline.data.written import Written
from pipeline.gradient.held import Watched
from pipeline.gradient.sweeps import Executor, FreeValues, forward
from pipeline.gradient.work import Work
from pipeline.optimise.parameters import edges_at
from pipeline.templates.binning import Binning
from pipeline.templates.fill import EXACT


class Outside(Written):
    """Expected events of a sample beyond the edges of a channel; one at the last edge is in the last bin."""

    below: float
    above: float


def outside(
    config: Config, executor: Executor, work: Work, parameters: FreeValues
) -> dict[str, dict[str, Outside]]:
    """Return what no bin counts by channel and sample, with hard cuts, nominal; one sweep over the events.

    Channels without edges, and those whose outermost bins count everything (``overflow``), are not in it.
    """
    ends = {
        name: (edges[0], edges[-1])
        for name, edges in edges_at(config, parameters).items()
        if edges is not None
        and config.channels[name].edges is not None
        and not config.channels[name].overflow
    }
    if not ends:
        return {}
    axes = work.axes
    nominal = Watched((), axes.processes)
    found = forward(executor, _open_ended(work, ends), parameters, EXACT, watched=nominal).yields
    return {
        name: {
            sample: _beyond(np.asarray(found[name])[axes.row(sample, NOMINAL)]) for sample in axes.processes
        }
        for name in ends
    }


def _open_ended(work: Work, ends: dict[str, tuple[float, float]]) -> Work:
    """Return the same events for a bin between the ends of each channel and one beyond each end."""
    binnings = tuple(
        Binning(own.channel, _opened(*ends[own.channel])) if own.channel in ends else own
        for own in work.problem.binnings
    )
    return work._replace(problem=dataclasses.replace(work.problem, binnings=binnings))


def _opened(low: float, high: float) -> tuple[float, ...]:
    """Return edges from minus to plus infinity; the upper end is just above, as the last bin of a channel is closed."""
    above = math.nextafter(high, math.inf) if high else np.finfo(np.float64).tiny
    return -math.inf, low, float(above), math.inf


def _beyond(contents: np.ndarray) -> Outside:
    below, _, above = contents.tolist()
    return Outside(below=below, above=above)
