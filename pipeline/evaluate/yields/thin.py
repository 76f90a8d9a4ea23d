"""Bins that rest on few simulated events, samples on none: holes that an optimiser has found, not a better analysis."""

from collections.abc import Iterator

import numpy as np

from pipeline.data.datasets import NOMINAL
from pipeline.evaluate.evaluation import YieldTables

LARGE = 0.3  # relative statistical error of a bin's total: some ten events of equal weight


def noisy_bins(tables: YieldTables) -> Iterator[tuple[str, list[int], float]]:
    """Yield each channel that has such bins, these, and the largest relative statistical error of their totals.

    An error that is larger than its total counts as 1.
    """
    for channel, samples in tables.yields.items():
        total = np.sum([own[NOMINAL] for own in samples.values()], axis=0)
        error = np.sqrt(np.sum([*tables.sumw2[channel].values()], axis=0))
        relative = np.divide(
            error, np.maximum(np.abs(total), error), out=np.zeros_like(error), where=error > 0
        )
        bins = np.flatnonzero(relative > LARGE)
        if bins.size:
            yield channel, bins.tolist(), float(relative.max())


def absent_samples(tables: YieldTables) -> list[str]:
    """Return the samples without an event in any channel, which a likelihood then does not know."""
    channels = list(tables.yields.values())
    names = dict.fromkeys(name for samples in channels for name in samples)
    return [name for name in names if not any(np.any(own[name][NOMINAL]) for own in channels if name in own)]
