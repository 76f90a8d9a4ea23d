"""The Rosenbrock problem of local generative surrogates: a sum whose noise hides the function of ten parameters.

S. Shirobokov et al., arXiv:2002.04632, as in its code: y is normal, its mean l + g(p), its width 0.1 + |l| / 2, where
l is normal around x with width 1 and g = sum_i (p_(i+1) - p_i^2)^2 + (1 - p_i)^2, without the usual factor 100.
docs/surrogates.md.
"""

from collections.abc import Mapping

import awkward as ak
import numpy as np

from pipeline.analysis import Analysis, FlatTree, Free, Made, Simulated
from pipeline.columns import noise
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

DIMENSIONS = 10
NAMES = tuple(f"p_{number}" for number in range(DIMENSIONS))
RANDOM = 4  # numbers of the generator


def events(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the uniform number of an event."""
    del sample
    return {"x": rng.uniform(-10, 10, number)}


def rosenbrock(p: np.ndarray) -> float:
    """Return the constraint g, which is 0 where all are 1."""
    return float(np.sum((p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2))


class Rosenbrock(Analysis):
    """The mean of y over the draws."""

    reads = FlatTree(tree="Events", branches=("x",), event="event")
    parameters: Mapping[str, Free] = {name: Free(2.0, bounds=(-3.0, 3.0)) for name in NAMES}
    simulated = Simulated(parameters=NAMES, inputs=("x",), outputs=("y",), noise=RANDOM)

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every event."""
        del dataset
        random = noise(events.event, RANDOM)
        return {"weight": np.ones(len(random)), "x": events.x, "noise": random}

    def simulate(
        self, p: Mapping[str, float], c: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> Mapping[str, np.ndarray]:
        """Return a draw of y for each event."""
        level = c["x"] + rng.standard_normal(len(c["x"]))
        mean = level + rosenbrock(np.array([p[name] for name in NAMES]))
        return {"y": mean + (0.1 + 0.5 * np.abs(level)) * rng.standard_normal(len(level))}

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return y, and how many there are."""
        del p, relax
        return {"sums": Observation(weight=c.weight * c.y), "draws": Observation(weight=c.weight)}
