"""An analysis whose signal has weights at three points of a coefficient, as a generator's reweighting gives them."""

from collections.abc import Mapping

import numpy as np

from pipeline.analysis import Analysis, Benchmarks, FlatTree, Free, Theory, Transform, WeightFactor
from pipeline.containers import Observation

THEORY = {"c": Theory(0.5, valid=(-1.0, 2.0))}
POINTS = {"w_nominal": {}, "w_up": {"c": 2.0}, "w_down": {"c": -1.0}}


def events(sample, number, rng):
    """Events in x; of the signal |1 + c (0.3 - x) + i c x / 2|^2 times something common is the weight at c."""
    x, common = rng.uniform(0.0, 1.0, number), rng.uniform(0.5, 1.5, number)
    made = {"x": x, "y": rng.normal(0.0, 0.05, number)}
    for name, point in POINTS.items():
        made[name] = common * amplitude(x, point.get("c", 0.5)) if sample == "signal" else common
    return made


def amplitude(x, c):
    """The square of the amplitude."""
    return (1 + c * (0.3 - x)) ** 2 + (c * x / 2) ** 2


class Benchmarked(Analysis):
    """A cut on x, and an observable that depends on a parameter."""

    reads = FlatTree(tree="Events", branches=("x", "y", *POINTS), event="event")
    parameters: Mapping[str, Free] = {
        "cut": Free(0.2, bounds=(0.0, 1.0)),
        "mix": Free(0.5, bounds=(0.0, 1.0)),
    }
    theory = THEORY
    morphing = Benchmarks(THEORY, POINTS)

    def columns(self, events, dataset):
        """Every event, weighted as at the nominal coefficient."""
        found = {name: np.asarray(events[name]) for name in self.reads.branches}
        return {**found, "weight": found["w_nominal"]}

    def theory_weight(self, t, c):
        """The polynomial through the three weights."""
        return self.morphing.factor(t, c)

    def variations(self):
        """Larger values, and a weight that depends on the selection."""
        return {
            "x_up": Transform(lambda c: {"x": 1.1 * c.x}),
            "w_up": WeightFactor(lambda p, c, relax: 1 + 0.2 * relax.greater(c.x, 0.5, width="cut")),
        }

    def observe(self, p, c, relax):
        """What passes the cut."""
        return {"x": Observation(weight=c.weight * relax.greater(c.x, p.cut), value=c.x + p.mix * c.y)}
