"""Events that are in two channels of the fit at once, which a likelihood takes for independent."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from pipeline.cli.check.cut_values import as_observed, columns_of
from pipeline.config import Config
from pipeline.gradient.compiled import FreeValues, mixed_as_numpy_does
from pipeline.gradient.work import Work
from pipeline.relax import Exact
from pipeline.templates.variations import Observer, observe


def shared_events(config: Config, work: Work, parameters: FreeValues) -> Iterator[str]:
    """Yield a note on each two channels of the fit that share events with exact cuts."""
    fitted = [name for name, channel in config.channels.items() if channel.in_fit]
    shared = Counter[tuple[str, str]]()
    for columns in columns_of(work) if len(fitted) > 1 else ():
        passed = _passed(work, parameters, columns)
        for pair in itertools.combinations(fitted, 2):
            shared[pair] += int(np.sum(passed[pair[0]] & passed[pair[1]]))
    for (first, second), events in shared.items():
        if events:
            yield (
                f"channels {first!r} and {second!r}: {events} of the {work.events} sampled events are in both at the "
                "start parameters, which the fit counts twice, as if they were others; make one exclude the other"
            )


def _passed(work: Work, parameters: FreeValues, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return which events have a weight in each channel."""
    problem = work.problem
    with mixed_as_numpy_does():
        p, c = as_observed(problem, parameters, columns)
        weights, _ = observe(Observer(problem.analysis, problem.binnings, p, Exact()), c)
    return {name: np.asarray(weight) != 0 for name, weight in weights.items()}
