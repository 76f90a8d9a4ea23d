"""WW production with one muon, on the simulation of the CMS HEP Tutorial (CMS Open Data record 50).

Signal WW; backgrounds single top, WZ, ZZ. An isolated-muon trigger and exactly one isolated muon; then two upper
cuts are free: on the largest b-tag discriminant of the event and on H_T. The event weights are normalised to 50/pb.
"""

from collections.abc import Mapping

import awkward as ak
import numpy as np

from pipeline.analysis import Analysis, FlatTree, Free, Made
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

MUON_PT = 25.0  # GeV
MUON_RELATIVE_ISOLATION = 0.1


class HepTutorial(Analysis):
    """Counting experiment behind two free cuts."""

    reads = FlatTree(
        tree="events",
        branches=(
            *("Jet_Px", "Jet_Py", "Jet_btag"),
            *("Muon_Px", "Muon_Py", "Muon_Iso"),
            *("triggerIsoMu24", "EventWeight"),
        ),
    )
    parameters: Mapping[str, Free] = {
        "btag": Free(5.0, bounds=(-1.5, 6.0)),
        "ht": Free(1000.0, bounds=(0.0, 1500.0), unit="GeV"),
    }

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Select the trigger and exactly one isolated muon; return the largest b-tag discriminant and H_T."""
        muon_pt = np.hypot(events.Muon_Px, events.Muon_Py)
        good = (muon_pt > MUON_PT) & (events.Muon_Iso / muon_pt < MUON_RELATIVE_ISOLATION)
        events = events[events.triggerIsoMu24 & (ak.sum(good, axis=1) == 1)]
        return {
            "weight": events.EventWeight,
            "event_number": events.event_number,
            "has_jet": ak.num(events.Jet_btag) > 0,
            "max_btag": ak.fill_none(ak.max(events.Jet_btag, axis=1), np.float32(0)),
            "ht": ak.sum(np.hypot(events.Jet_Px, events.Jet_Py), axis=1),
        }

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Count events without a jet above the b-tag cut and with H_T below its own."""
        untagged = relax.any(relax.not_(c.has_jet), relax.less(c.max_btag, p.btag))
        return {"selected": Observation(weight=c.weight * untagged * relax.less(c.ht, p.ht))}
