"""One bin whose background is known the worse, the larger its signal-to-background ratio: nothing but a trade-off.

s = 15 + phi and b = 45 - 2 phi events, the background to a standard deviation u + v phi^2 (N. Simpson's thesis, chapter
on data analysis as a differentiable program; the examples and tests of gradhep's ``relaxed``). docs/gradhep.md.
"""

from collections.abc import Mapping

import awkward as ak
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analysis import Analysis, FlatTree, Free, Made, WeightFactor
from pipeline.containers import AnyArray, Columns, Observation, Parameters
from pipeline.errors import ConfigError, nearest
from pipeline.relax import Exact, Relaxed

# (u, v) of the background's standard deviation u + v phi^2
LAWS = {"steep": (0.5, 0.1), "quadratic": (1.0, 0.04), "steeper": (1.0, 0.2)}


def events(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return events without a property but a random number, which nothing looks at."""
    del sample
    return {"x": rng.uniform(size=number)}


def yields(phi: Float[AnyArray, "*points"], law: str) -> tuple[Float[AnyArray, "*points"], ...]:
    """Return expected events of signal and background, and the background's standard deviation by a law."""
    constant, slope = LAWS[law]
    return 15 + phi, 45 - 2 * phi, constant + slope * phi**2


class Counting(Analysis):
    """Events carry the expectation as their weight; each sample is normalised to one event by the configuration."""

    reads = FlatTree(tree="Events", branches=("x",), event="event")
    parameters: Mapping[str, Free] = {"phi": Free(9.0, bounds=(0.0, 10.0))}

    def __init__(self, uncertainty: str = "steep") -> None:
        if uncertainty not in LAWS:
            raise ConfigError(f"analysis.options.uncertainty: {uncertainty!r}; {nearest(uncertainty, LAWS)}")
        self.uncertainty = uncertainty

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every event, and whether it is signal."""
        ones = np.ones(len(events.x))
        return {"weight": ones, "signal": ones * (dataset == "signal")}

    def variations(self) -> Mapping[str, WeightFactor]:
        """Return the background's yield up and down by its standard deviation."""
        names = ("background_up", "background_down")
        return {name: WeightFactor(self.factors, name) for name in names}

    def factors(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Array]:
        """Return the same relative change of every event."""
        del relax
        _, background, deviation = yields(p.phi, self.uncertainty)
        relative = jnp.broadcast_to(deviation / background, c.weight.shape)
        return {"background_up": 1 + relative, "background_down": 1 - relative}

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return every event, with the weight that phi gives to its sample."""
        del relax
        signal, background, _ = yields(p.phi, self.uncertainty)
        return {"bin": Observation(weight=c.weight * jnp.where(c.signal > 0, signal, background))}
