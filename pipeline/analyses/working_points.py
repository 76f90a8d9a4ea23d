"""Two choices optimised together: the working point of the muon identification, and a jet-pt threshold of 25 or 30 GeV.

The selection and the observables are those of the Analysis Grand Challenge. A choice is a free parameter between 0 and
1: the relaxed analysis mixes both alternatives by a softmax, exact cuts take the nearer one. docs/working_points.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import awkward as ak
import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.analyses.agc_ttbar import AgcTtbar, JetDecisions
from pipeline.analysis import Free, NanoAOD, Variation, WeightFactor
from pipeline.columns.preselection import fulfilled, requirements
from pipeline.containers import Columns, Parameters
from pipeline.errors import ConfigError
from pipeline.relax import Exact, Relaxed

LEPTON_PT = 30.0  # GeV
JET_PT = (25.0, 30.0)  # GeV
BTAG = 0.5
MEDIUM = ("abs(eta) < 2.1", "mediumId == 1", "sip3d < 4", "pfRelIso04_all < 0.25")
TIGHT = ("tightId == 1", "pfRelIso04_all < 0.15")  # the challenge's, besides what the medium one requires
UNCERTAINTIES = (0.02, 0.011)  # relative, on the efficiency of medium and tight muons: docs/working_points.md
MUON_NAMES = ("muon_up", "muon_down")


class WorkingPoints(AgcTtbar):
    """``tight_muon``: medium (0) or tight (1) muons; ``jet_30``: jets above 25 (0) or 30 GeV (1).

    Option ``muon`` is the medium working point and what columns keep, ``tight`` what the tight one requires besides;
    ``uncertainties`` are those of the medium and the tight muons' efficiency.
    """

    parameters: Mapping[str, Free] = {
        "tight_muon": Free(0.5, bounds=(0.0, 1.0)),
        "jet_30": Free(0.5, bounds=(0.0, 1.0)),
    }

    def __init__(
        self,
        muon: Sequence[str] = MEDIUM,
        tight: Sequence[str] = TIGHT,
        uncertainties: Sequence[float] = UNCERTAINTIES,
        **options: Any,
    ) -> None:
        super().__init__(muon=muon, **options)
        self.tight = requirements(tight, "analysis.options.tight")
        if len(uncertainties) != 2 or not all(0 <= size < 1 for size in uncertainties):
            raise ConfigError(
                f"analysis.options.uncertainties: {list(uncertainties)} are not two numbers from 0 to below 1"
            )
        self.uncertainties = tuple(float(size) for size in uncertainties)
        branches = (*self.reads.branches, *(f"Muon_{requirement.field}" for requirement in self.tight))
        self.reads = NanoAOD(branches=tuple(dict.fromkeys(branches)))

    def lepton_fields(self, objects: ak.Array, *, muon: bool) -> Mapping[str, ak.Array]:
        """Add which leptons are muons, and which pass where tight muons are chosen."""
        ones = ak.ones_like(objects.pt)
        tight = fulfilled(objects, self.tight, objects.pt > 0) * ones if muon else ones
        return {**super().lepton_fields(objects, muon=muon), "muon": ones * muon, "tight": tight}

    def decisions(
        self, p: Parameters, c: Columns, relax: Relaxed | Exact
    ) -> tuple[Float[Array, "events _"], JetDecisions, JetDecisions]:
        """Return which leptons, jets and b-tagged jets pass, by the chosen alternatives."""
        above = relax.greater(c.lepton_pt, LEPTON_PT, mask=c.lepton, width="lepton_pt")
        identified = _choice(relax, jnp.ones_like(c.lepton_tight), c.lepton_tight, p.tight_muon, "tight_muon")
        low, high = (relax.greater(c.jet_pt, cut, mask=c.jet, width="jet_pt") for cut in JET_PT)
        jets = _choice(relax, low, high, p.jet_30, "jet_30")
        return above * identified, jets, jets * relax.greater(c.jet_btag, BTAG, mask=c.jet, width="btag")

    def variations(self) -> Mapping[str, Variation]:
        """Return the challenge's variations, and the efficiency of the chosen muons."""
        return {**super().variations(), **{name: WeightFactor(self.factors, name) for name in MUON_NAMES}}

    def factors(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Array]:
        """Return the factors of the challenge's variations and of the muons'."""
        leptons, _, _ = self.decisions(p, c, relax)
        medium, tight = (jnp.asarray(size, dtype=c.weight.dtype) for size in self.uncertainties)
        size = _choice(relax, medium, tight, p.tight_muon, "tight_muon")
        change = size * relax.sum(leptons * c.lepton_muon)
        return {**super().factors(p, c, relax), "muon_up": 1 + change, "muon_down": 1 - change}


def _choice(
    relax: Relaxed | Exact,
    first: Float[Array, "..."],
    second: Float[Array, "..."],
    preference: Float[Array, ""],
    width: str,
) -> Float[Array, "..."]:
    """Return the first alternative where ``preference`` is 0, the second where it is 1."""
    logits = jnp.stack([1 - preference, preference])
    return relax.mixture(jnp.stack([first, second], axis=-1), logits, width=width)
