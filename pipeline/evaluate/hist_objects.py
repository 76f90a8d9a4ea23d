"""Templates as objects of the library hist."""

from collections.abc import Mapping, Sequence
from typing import Any

import hist
import numpy as np

from pipeline.data.datasets import NOMINAL


def as_hist(
    edges: Sequence[float] | None,
    yields: Mapping[str, Mapping[str, Sequence[float]]],
    sumw2: Mapping[str, Sequence[float]],
) -> "hist.Hist[Any]":
    """Return the templates of a channel, with axes ``bin``, ``process`` and ``variation``.

    Variances are the sums of squared weights of the nominal templates; those of variations are not known, NaN.

    Args:
        edges: of the bins; None for a channel that counts, or whose bins have none.
        yields: bins by sample and variation.
    """
    variations = list(dict.fromkeys(name for own in yields.values() for name in own))
    number = len(next(iter(next(iter(yields.values())).values())))
    bins = hist.axis.Variable(edges, name="bin") if edges else hist.axis.Integer(0, number, name="bin")
    made = hist.Hist(
        bins,
        hist.axis.StrCategory([*yields], name="process"),
        hist.axis.StrCategory(variations, name="variation"),
        storage=hist.storage.Weight(),
    )
    view: Any = made.view()
    view.variance[...] = np.nan
    for row, (sample, own) in enumerate(yields.items()):
        for variation, values in own.items():
            view.value[:, row, variations.index(variation)] = values
        view.variance[:, row, variations.index(NOMINAL)] = sumw2[sample]
    return made
