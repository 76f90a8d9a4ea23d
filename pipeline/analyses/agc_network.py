"""The Analysis Grand Challenge with a neural network's output in place of the triplet mass, trained through the fit."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.analyses.agc_ttbar import AgcTtbar
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

LEADING = 4  # jets whose pt and b-tag discriminant the network sees
FEATURES = 5 + 2 * LEADING
TOP_MASS = 172.5  # GeV; where the untrained output is 1/2
TOP_WIDTH = 60.0  # GeV; how fast it rises with the mass
PT_SCALE, HT_SCALE = 100.0, 400.0  # GeV; what makes features of order 1


class AgcTtbarNetwork(AgcTtbar):
    """In 4j2b the observable is sigmoid((m_bjj - m_top) / width + N(features)), between 0 and 1.

    N is a network with one hidden layer whose last weights start at 0: training starts from the triplet mass.
    Features: the triplet mass, H_T, lepton pt, numbers of jets and b-tags; pt and discriminant of the first four
    selected jets. All of them follow the cuts and the systematic variations.
    """

    def __init__(self, hidden: int = 16, **options: Any) -> None:
        super().__init__(**options)
        self.hidden = hidden

    def init(self, key: jax.Array) -> Mapping[str, jax.Array]:
        """Start values of the weights; LeCun's variance 1 / inputs in the first layer."""
        return {
            "network_in": jax.random.normal(key, (FEATURES, self.hidden)) / FEATURES**0.5,
            "network_bias": jnp.zeros(self.hidden),
            "network_out": jnp.zeros(self.hidden),
        }

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return the regions of the challenge; in 4j2b the network's output."""
        seen = super().observe(p, c, relax)
        mass, h_t = seen["4j2b"].value, seen["4j1b"].value
        assert mass is not None
        assert h_t is not None
        features = self.features(p, c, relax, mass, h_t)
        hidden = jnp.tanh(
            features @ p.network_in + jnp.broadcast_to(p.network_bias, (len(mass), self.hidden))
        )
        output = jax.nn.sigmoid((mass - TOP_MASS) / TOP_WIDTH + hidden @ p.network_out)
        return {**seen, "4j2b": Observation(weight=seen["4j2b"].weight, value=output)}

    def features(
        self,
        p: Parameters,
        c: Columns,
        relax: Relaxed | Exact,
        mass: Float[Array, " events"],
        h_t: Float[Array, " events"],
    ) -> Float[Array, "events features"]:
        """Return the input features of the network."""
        leptons, jets, tags = self.decisions(p, c, relax)
        leading = [relax.nth_passing(jets, n + 1) for n in range(LEADING)]
        return jnp.stack(
            [
                (mass - TOP_MASS) / TOP_WIDTH,
                h_t / HT_SCALE - 1,
                relax.sum(leptons * c.lepton_pt) / PT_SCALE - 1,
                relax.count(jets) - LEADING,
                relax.count(tags) - 2,
                *(relax.sum(weights * c.jet_pt) / PT_SCALE - 1 for weights in leading),
                *(relax.sum(weights * c.jet_btag) for weights in leading),
            ],
            axis=1,
        )
