"""WW with one muon in the CMS HEP Tutorial's simulation, behind 2 to 12 free cuts: `hep_tutorial` with more of them."""

import awkward as ak
import jax.numpy as jnp
import numpy as np

from pipeline.analyses.hep_tutorial import MUON_PT, MUON_RELATIVE_ISOLATION, HepTutorial
from pipeline.analysis import FlatTree, Free
from pipeline.containers import Observation

# Each from where it cuts nothing away, with room for the smooth one; the first two are those of `hep_tutorial`.
UPPER = {
    "btag": Free(5.0, bounds=(-1.5, 6.0)),
    "ht": Free(1000.0, bounds=(0.0, 1500.0), unit="GeV"),
    "jet_pt": Free(400.0, bounds=(20.0, 400.0), unit="GeV"),
    "second_jet_pt": Free(300.0, bounds=(20.0, 300.0), unit="GeV"),
    "muon_eta": Free(2.8, bounds=(0.5, 2.8)),
    "isolation": Free(0.12, bounds=(0.0, 0.12)),
    "lepton_pt": Free(200.0, bounds=(5.0, 200.0), unit="GeV"),
    "jet_eta": Free(4.0, bounds=(0.5, 4.0)),
}
LOWER = {
    "met": Free(-10.0, bounds=(-10.0, 150.0), unit="GeV"),
    "mt": Free(-10.0, bounds=(-10.0, 150.0), unit="GeV"),
    "muon_pt": Free(20.0, bounds=(20.0, 100.0), unit="GeV"),
    "dphi": Free(-0.3, bounds=(-0.3, 3.1)),
}
ORDER = (
    "btag",
    "ht",
    "met",
    "mt",
    "muon_pt",
    "jet_pt",
    "second_jet_pt",
    "muon_eta",
    "isolation",
    "lepton_pt",
    "dphi",
)
ORDER = (*ORDER, "jet_eta")


class WwCuts(HepTutorial):
    """Counting experiment behind the first ``cuts`` of ``ORDER``.

    Upper cuts: largest b-tag discriminant, H_T, pt of the leading and of the second jet, |eta| and relative isolation
    of the muon, pt of the leading other lepton, |eta| of the leading jet. Lower ones: missing momentum, transverse
    mass, pt of the muon, angle between muon and missing momentum. What an event lacks is 0.
    """

    def __init__(self, cuts: int = 12) -> None:
        everything = {**UPPER, **LOWER}
        self.parameters = {name: everything[name] for name in ORDER[:cuts]}
        objects = [f"{kind}_{part}" for kind in ("Jet", "Muon", "Electron") for part in ("Px", "Py", "Pz")]
        others = ("Jet_btag", "Muon_Iso", "MET_px", "MET_py", "triggerIsoMu24", "EventWeight")
        self.reads = FlatTree(tree="events", branches=(*objects, *others))

    def columns(self, events, dataset):
        """The selection of `hep_tutorial`, and what the further cuts look at."""
        muon_pt = np.hypot(events.Muon_Px, events.Muon_Py)
        good = (muon_pt > MUON_PT) & (events.Muon_Iso / muon_pt < MUON_RELATIVE_ISOLATION)
        selected = events.triggerIsoMu24 & (ak.sum(good, axis=1) == 1)
        made = super().columns(events, dataset)
        events, muon_pt, good = events[selected], muon_pt[selected], good[selected]
        px, py, pz = (ak.firsts(events[f"Muon_{part}"][good]) for part in ("Px", "Py", "Pz"))
        pt, met = np.hypot(px, py), np.hypot(events.MET_px, events.MET_py)
        dphi = _angle(np.arctan2(py, px) - np.arctan2(events.MET_py, events.MET_px))
        jet_pt = np.hypot(events.Jet_Px, events.Jet_Py)
        by_pt = ak.argsort(jet_pt, ascending=False)
        jets, jet_eta = jet_pt[by_pt], abs(np.arcsinh(events.Jet_Pz / jet_pt))[by_pt]
        others = ak.concatenate([muon_pt[~good], np.hypot(events.Electron_Px, events.Electron_Py)], axis=1)
        return {
            **made,
            "met": met,
            "mt": np.sqrt(2 * pt * met * (1 - np.cos(dphi))),
            "muon_pt": pt,
            "dphi": dphi,
            "jet_pt": _or_0(ak.firsts(jets)),
            "second_jet_pt": _or_0(ak.firsts(jets[:, 1:])),
            "muon_eta": abs(np.arcsinh(pz / pt)),
            "isolation": ak.firsts(events.Muon_Iso[good]) / pt,
            "lepton_pt": _or_0(ak.max(others, axis=1)),
            "jet_eta": _or_0(ak.firsts(jet_eta)),
        }

    def observe(self, p, c, relax):
        """Count events that pass all cuts."""
        passing = relax.any(relax.not_(c.has_jet), relax.less(c.max_btag, p.btag))
        for name in self.parameters:
            if name != "btag":
                decided = relax.less if name in UPPER else relax.greater
                passing = passing * decided(getattr(c, name), getattr(p, name))
        return {"selected": Observation(weight=c.weight * jnp.asarray(passing))}


def _angle(difference):
    return abs((difference + np.pi) % (2 * np.pi) - np.pi)


def _or_0(array):
    return ak.fill_none(array, np.float32(0))
