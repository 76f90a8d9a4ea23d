"""A counting experiment behind one free cut: a peak on a falling background, and A. Held's two normal distributions.

The peak: signal N(2, 0.5), background Exp(1) smeared by N(0, 0.1); 100 and 1000 events (``relaxed``'s examples, N.
Simpson's thesis). Held: signal N(50, 5), background N(40, 10); 300 and 8000 events
(github.com/alexander-held/differentiable-analysis-example). docs/gradhep.md.
"""

from collections.abc import Mapping

import awkward as ak
import numpy as np

from pipeline.analysis import Analysis, FlatTree, Free, Made
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

SMEARING = 0.1  # standard deviation, of the exponential background


def peak(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return branches of generated events: a peak on a falling background."""
    normal = rng.standard_normal(number)
    if sample == "signal":
        return {"x": 2.0 + 0.5 * normal}
    if sample == "background":
        return {"x": rng.standard_exponential(number) + SMEARING * normal}
    raise ValueError(f"sample {sample!r} is not 'signal' or 'background'")


def held(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return branches of generated events of A. Held's example."""
    shapes = {"signal": (50.0, 5.0), "background": (40.0, 10.0)}
    if sample not in shapes:
        raise ValueError(f"sample {sample!r} is not 'signal' or 'background'")
    mean, deviation = shapes[sample]
    return {"x": mean + deviation * rng.standard_normal(number)}


class OneCut(Analysis):
    """Events above the cut are counted; start and range of the peak's example."""

    reads = FlatTree(tree="Events", branches=("x",), event="event")
    parameters: Mapping[str, Free] = {"cut": Free(4.0, bounds=(0.0, 8.0))}

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every event."""
        del dataset
        return {"weight": np.ones(len(events.x)), "x": events.x}

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return the events above the cut."""
        return {"selected": Observation(weight=c.weight * relax.greater(c.x, p.cut))}


class HeldsCut(OneCut):
    """The same with start and range of Held's example."""

    parameters: Mapping[str, Free] = {"cut": Free(20.0, bounds=(20.0, 70.0))}
