"""Where to put the edges of a few bins: a peak on a falling background that may be shifted.

The events are those of ``one_cut.peak``; the background's three-point systematic uncertainty moves all of it by 0.4 up
or down (``relaxed``'s example on binning). docs/gradhep.md.
"""

from collections.abc import Mapping

import awkward as ak
import numpy as np
from jaxtyping import Array

from pipeline.analysis import Analysis, FlatTree, Free, Made, Shift
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

SHIFT = 0.4  # of x, at one standard deviation


class BinEdges(Analysis):
    """The histogram of x; what is free are its edges, ``channels.x.free_edges``."""

    reads = FlatTree(tree="Events", branches=("x",), event="event")
    parameters: Mapping[str, Free] = {}

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every event."""
        del dataset
        return {"weight": np.ones(len(events.x)), "x": events.x}

    def variations(self) -> Mapping[str, Shift]:
        """Return all values move together."""
        return {"shift_up": Shift(_moved, +1), "shift_down": Shift(_moved, -1)}

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return the value itself."""
        del p, relax
        return {"x": Observation(weight=c.weight, value=c.x)}


def _moved(c: Columns, size: Array | float) -> Mapping[str, Array]:
    return {"x": c.x + SHIFT * size}
