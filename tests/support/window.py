"""An analysis of one cut, for runs from Python: their processes import this file."""

from collections.abc import Mapping

import awkward as ak
import numpy as np

from pipeline.analysis import Analysis, FlatTree, Free
from pipeline.containers import Observation


class Window(Analysis):
    """A cut on one value, jets that are only read."""

    reads = FlatTree(tree="Events", branches=("x", "jets"), event="event")
    parameters: Mapping[str, Free] = {"cut": Free(0.3, bounds=(0.0, 0.9))}

    def columns(self, events, dataset):
        return {"weight": np.ones(len(events.x)), "x": events.x, "jets": ak.num(events.jets)}

    def observe(self, p, c, relax):
        return {"all": Observation(value=c.x, weight=c.weight * relax.greater(c.x, p.cut))}
