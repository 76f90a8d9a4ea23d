"""An analysis with a classifier beside its regions: the loss is a channel that is not in the fit."""

import jax
import jax.numpy as jnp

from pipeline.analyses.agc_ttbar import AgcTtbar
from pipeline.containers import Observation
from pipeline.objective import binary_cross_entropy


class Classified(AgcTtbar):
    """Which events have a hard fourth jet, learnt from the other jets."""

    def init(self, key):
        return {"slopes": 0.1 * jax.random.normal(key, (4,))}

    def observe(self, p, c, relax):
        features = jnp.stack([c.jet_pt[:, 0] / 100, c.jet_pt[:, 1] / 100, c.jet_pt[:, 2] / 100], axis=1)
        logit = jnp.matmul(features, p.slopes[:3]) + p.slopes[3]
        loss = binary_cross_entropy(logit, jnp.where(c.jet_pt[:, 3] > 40, 1.0, 0.0))
        return {**super().observe(p, c, relax), "loss": Observation(weight=c.weight * loss)}
