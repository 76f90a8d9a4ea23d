"""The three-hump problem of local generative surrogates: a random number whose law is known by its draws alone.

S. Shirobokov et al., arXiv:2002.04632, as in its code: h = 2 a^2 - 1.05 a^4 + a^6 / 6 + a b + b^2; of two normal
numbers of means x1 h and x2 h and width 1
one is chosen, the first with probability |a| / (|a| + |b|), and smeared once more.
What is minimised, sigmoid(y - 10) - sigmoid(y), wants y between 0 and 10. docs/surrogates.md.
"""

from collections.abc import Mapping

import awkward as ak
import jax
import numpy as np

from pipeline.analysis import Analysis, FlatTree, Free, Made, Simulated
from pipeline.columns import noise
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

RANDOM = 4  # numbers of the generator


def events(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the two uniform numbers of an event."""
    del sample
    return {"x1": rng.uniform(-2, 2, number), "x2": rng.uniform(0, 5, number)}


def hump(a: float, b: float) -> float:
    """Return the three-hump camel function."""
    return 2 * a**2 - 1.05 * a**4 + a**6 / 6 + a * b + b**2


class ThreeHump(Analysis):
    """The mean of the loss over the draws."""

    reads = FlatTree(tree="Events", branches=("x1", "x2"), event="event")
    parameters: Mapping[str, Free] = {
        "a": Free(2.0, bounds=(-3.0, 3.0)),
        "b": Free(0.0, bounds=(-3.0, 3.0)),
    }
    simulated = Simulated(parameters=("a", "b"), inputs=("x1", "x2"), outputs=("y",), noise=RANDOM)

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every event."""
        del dataset
        random = noise(events.event, RANDOM)
        return {"weight": np.ones(len(random)), "x1": events.x1, "x2": events.x2, "noise": random}

    def simulate(
        self, p: Mapping[str, float], c: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> Mapping[str, np.ndarray]:
        """Return a draw of y for each event."""
        number = len(c["x1"])
        first = rng.random(number) * (abs(p["a"]) + abs(p["b"])) < abs(p["a"])
        mean = np.where(first, c["x1"], c["x2"]) * hump(p["a"], p["b"]) + rng.standard_normal(number)
        return {"y": mean + rng.standard_normal(number)}

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return the loss, and how many there are."""
        del p, relax
        loss = jax.nn.sigmoid(c.y - 10) - jax.nn.sigmoid(c.y)
        return {"losses": Observation(weight=c.weight * loss), "draws": Observation(weight=c.weight)}
