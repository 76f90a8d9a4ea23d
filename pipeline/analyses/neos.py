"""The problem of neos: a signal, a background and its two variations, four round clouds in a plane.

N. Simpson, L. Heinrich, arXiv:2203.05570. Covariances are the identity; the means are those of its code, which the
paper's appendix permutes. The original draws all clouds with one random key; here each has its own. docs/neos.md.
"""

from collections.abc import Mapping, Sequence

import awkward as ak
import jax
import jax.numpy as jnp
import numpy as np

from pipeline.analyses import networks
from pipeline.analysis import Analysis, FlatTree, Free, Made
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

SIGNAL, BACKGROUND = 20.0, 100.0  # expected events
MEANS = {
    "signal": (-1.0, 1.0),
    "background": (1.0, -1.0),
    "background__up": (2.5, 2.0),
    "background__down": (-2.5, -1.5),
}


def events(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return branches of generated events of one cloud."""
    if sample not in MEANS:
        raise ValueError(f"sample {sample!r} is not one of {', '.join(MEANS)}")
    x, y = np.asarray(MEANS[sample])[:, None] + rng.standard_normal((2, number))
    return {"x": x, "y": y}


class Neos(Analysis):
    """The sigmoid of a network's output as the observable; ``loss`` is a classifier's cross-entropy, event by event."""

    reads = FlatTree(tree="Events", branches=("x", "y"), event="event")
    parameters: Mapping[str, Free] = {}

    def __init__(self, hidden: Sequence[int] = (1024, 1024)) -> None:
        self.sizes = (2, *hidden, 1)

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every event, and whether it is signal."""
        ones = np.ones(len(events.x))
        return {"weight": ones, "x": events.x, "y": events.y, "label": ones * (dataset == "signal")}

    def init(self, key: jax.Array) -> Mapping[str, jax.Array]:
        """Start values of the network."""
        return networks.start(key, self.sizes)

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return the output's histogram, and the loss with equal weights of signal and background."""
        del relax
        output = networks.outputs(p, jnp.stack([c.x, c.y], axis=1))[:, 0]
        return networks.observed(c, output, signal=SIGNAL, background=BACKGROUND)
