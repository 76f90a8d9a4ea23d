"""H->tautau of the size of CMS's training through the fit: seven classes, 86 uncertainties of shape, two signals.

A network has an output for each class. An event goes to the class of the largest output, and there into a bin of that
class's probability, as CMS does (arXiv:2502.13047). Events are made up; docs/sannt.md.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import awkward as ak
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analyses import networks, tautau_systematics
from pipeline.analyses.tautau_events import CLASSES, FEATURES, MEDIANS, MOST_JETS, YIELDS
from pipeline.analysis import Analysis, FlatTree, Free, Made
from pipeline.analysis.systematics import Variation
from pipeline.containers import AnyArray, Columns, Observation, Parameters
from pipeline.objective.cross_entropy import categorical_cross_entropy
from pipeline.relax import Exact, Relaxed

FEATURE_WIDTH = 0.5  # of a feature's logarithm; what makes inputs of order 1
INPUTS = len(FEATURES) + MOST_JETS
READ = ("jets", "decay_mode", "jet_smearing", "met_smearing", *FEATURES)


class Tautau(Analysis):
    """The class by argmax of a network's outputs, and the probability of that class; no cut anywhere.

    Args:
        hidden: sizes of the layers between the 14 inputs and the 7 outputs.
        start: a ``.npz`` file with start values of the weights, as of a network trained before; absent: He's.
    """

    reads = FlatTree(tree="Events", branches=READ, event="event")
    parameters: Mapping[str, Free] = {}

    def __init__(self, hidden: Sequence[int] = (32,), start: Path | None = None) -> None:
        self.sizes = (INPUTS, *hidden, len(CLASSES))
        self.start = start

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every event, and the number of its class."""
        number = len(events.jets)
        return {
            "weight": np.ones(number),
            "label": np.full(number, CLASSES.index(dataset), dtype=np.int32),
            **{name: getattr(events, name) for name in READ},
        }

    def variations(self) -> Mapping[str, Variation]:
        """Return the uncertainties of shape."""
        return tautau_systematics.variations()

    def init(self, key: jax.Array) -> Mapping[str, AnyArray]:
        """Start values of the network."""
        if self.start is None:
            return networks.start(key, self.sizes)
        with np.load(self.start) as given:
            return dict(given)

    def outputs(self, p: Parameters, c: Columns) -> Float[Array, "events classes"]:
        """Return the outputs of the network, the logits of the classes."""
        inputs = [
            jnp.where(c.jets >= feature.jets, _standard(name, c.arrays[name]), 0.0)
            for name, feature in FEATURES.items()
        ]
        jets = [(c.jets > number).astype(inputs[0].dtype) for number in range(MOST_JETS)]
        return networks.outputs(p, jnp.stack([*inputs, *jets], axis=1))

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return the probability of each event's class, and ``loss``, in which all classes count the same."""
        outputs = self.outputs(p, c)
        chosen, probabilities = relax.assign(outputs, width="class"), jax.nn.softmax(outputs, axis=1)
        share = jnp.asarray([1 / (len(CLASSES) * size) for size in YIELDS.values()], dtype=outputs.dtype)
        loss = share[c.label] * categorical_cross_entropy(outputs, c.label)
        return {
            "loss": Observation(weight=c.weight * loss),
            **{
                name: Observation(weight=c.weight * chosen[:, place], value=probabilities[:, place])
                for place, name in enumerate(CLASSES)
            },
        }


def _standard(name: str, values: Float[Array, " events"]) -> Float[Array, " events"]:
    """Return a feature as an input, by its logarithm; a number without meaning for events that lack it."""
    centre = float(np.mean(np.log(MEDIANS[name])))
    return (jnp.log(jnp.maximum(values, 1e-3)) - centre) / FEATURE_WIDTH
