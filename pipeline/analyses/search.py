"""The resonance search with everything that a search has: learned bins, control regions, an ABCD estimate.

Events and variations are those of ``resonance``. With the missing momentum above its cut, H_T and the best b-tag make
four regions: the signal region has both, B no b-tag, C a low H_T, D neither. Below that cut are two control regions, of
top pairs with two b-tags and of W+jets with none. No event is in two of the six. docs/search.md.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analyses.resonance import Resonance, lepton_jets_mass
from pipeline.analysis import Free, GaussianBins
from pipeline.containers import AnyArray, Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

FEATURES = ("mass", "centrality", "second_btag")
# What becomes 0, and how much is 1: mass [GeV], H_T over mass, second best b-tag.
CENTRES, UNITS = (600.0, 0.6, 0.3), (200.0, 0.15, 0.3)
FIRST_MASS, LAST_MASS = 350.0, 950.0  # GeV, of the components at the start


class Search(Resonance):
    """Eight free cuts, and bins of three features in the signal region: the components of a Gaussian mixture.

    Args:
        bins: how many, ``shares`` of the channel ``signal``; they start as equal bins of the mass.
    """

    parameters: Mapping[str, Free] = {
        **Resonance.parameters,
        "lepton_pt": Free(30.0, bounds=(28.0, 80.0), unit="GeV"),
        "met": Free(30.0, bounds=(20.0, 80.0), unit="GeV"),
        "ht": Free(300.0, bounds=(220.0, 450.0), unit="GeV"),
        "btag": Free(0.5, bounds=(0.2, 0.9)),
        "second_btag": Free(0.5, bounds=(0.1, 0.9)),
    }

    def __init__(self, bins: int = 5) -> None:
        self.binned = GaussianBins(FEATURES, bins, covariances=False)
        self.learned = {"signal": self.binned}

    def init(self, key: jax.Array) -> Mapping[str, AnyArray]:
        """Return components at equal distances in the mass, as wide as these, all else alike."""
        del key
        masses = (np.linspace(FIRST_MASS, LAST_MASS, self.binned.bins) - CENTRES[0]) / UNITS[0]
        means = np.stack([masses, *np.zeros((len(FEATURES) - 1, len(masses)))], axis=1)
        scales = np.ones_like(means)
        scales[:, 0] = masses[1] - masses[0]
        return self.binned.named(
            {"means": means, "log_scales": np.log(scales), "logits": np.zeros(len(masses))}
        )

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Divide the events with a lepton and four jets among six regions, those of the first among its bins."""
        pt = jnp.sort(c.jet_pt, axis=1)
        selected = relax.all(
            relax.greater(c.lepton_pt, p.lepton_pt),
            relax.greater(pt[:, 3], p.jet1_pt),
            relax.greater(pt[:, 2], p.jet2_pt),
            relax.greater(pt[:, 0], p.jet4_pt),
        )
        met = relax.greater(jnp.hypot(c.met_x, c.met_y), p.met)
        high = relax.greater(jnp.sum(pt, axis=1), p.ht)
        tagged = relax.greater(c.btag, p.btag)
        low_met, low, untagged = (relax.not_(passed) for passed in (met, high, tagged))
        regions = {
            "signal": (met, high, tagged),
            "B": (met, high, untagged),
            "C": (met, low, tagged),
            "D": (met, low, untagged),
            "CR_top": (low_met, tagged, relax.greater(c.second_btag, p.second_btag)),
            "CR_wjets": (low_met, untagged),
        }
        weights = {name: c.weight * relax.all(selected, *passed) for name, passed in regions.items()}
        shares = {"signal": self.binned.shares(p, _features(c, pt), relax)}
        return {name: Observation(weight, shares=shares.get(name)) for name, weight in weights.items()}


def _features(c: Columns, pt: Float[Array, "events objects"]) -> list[Float[Array, " events"]]:
    """Return mass, H_T over mass and second best b-tag, all of order 1, in the columns' precision."""
    mass = lepton_jets_mass(c).astype(pt.dtype)
    features = (mass, jnp.sum(pt, axis=1) / mass, c.second_btag)
    return [(x - centre) / unit for x, centre, unit in zip(features, CENTRES, UNITS, strict=True)]
