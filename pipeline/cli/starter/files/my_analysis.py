"""A heavy boson that decays to top quarks, lepton + jets: what is read, which cuts are free, what is observed."""

import awkward as ak

from pipeline.analysis import Analysis, FlatTree, Free, Shift, Transform
from pipeline.columns import mask, pad
from pipeline.containers import Observation

MOST_JETS = 10  # of an event; one with more would be refused, not cut short


class MyAnalysis(Analysis):
    """Four free cuts before a histogram of the mass of lepton, jets and missing momentum."""

    # The tree and its branches. `event` numbers the events: it decides who is held out. NanoAOD has a class of its own.
    reads = FlatTree(
        tree="Events",
        branches=(
            *("jet_pt", "jet_btag", "lepton_pt", "missing_et", "mass"),
            *("weight", "weight_scale_up", "weight_scale_down"),
        ),
        event="event",
    )
    # What the optimiser may move, from where, within which bounds.
    parameters = {
        "lepton_pt": Free(30.0, bounds=(25.0, 80.0), unit="GeV"),
        "missing_et": Free(20.0, bounds=(10.0, 90.0), unit="GeV"),
        "jet_pt": Free(30.0, bounds=(25.0, 60.0), unit="GeV"),
        "btag": Free(0.20, bounds=(0.10, 0.95)),
    }

    def columns(self, events, dataset):
        """Awkward events in, rectangular arrays out; once per file. Keep all that any allowed cut could select."""
        events = events[(events.lepton_pt > 20) & (ak.num(events.jet_pt) >= 4)]  # 5 GeV below the lowest cut
        return {
            "weight": events.weight,
            "weight_scale_up": events.weight_scale_up,
            "weight_scale_down": events.weight_scale_down,
            "event_number": events.event_number,
            "lepton_pt": events.lepton_pt,
            "missing_et": events.missing_et,
            "mass": events.mass,
            "jet_pt": pad(events.jet_pt, MOST_JETS),
            "jet_btag": pad(events.jet_btag, MOST_JETS),
            "jet": mask(events.jet_pt, MOST_JETS),  # which of the places hold a jet
        }

    def variations(self):
        """Systematic variations by name; the YAML file says which uncertainty they are, and of which samples."""

        def energy_scale(c, size):  # of the jets, by 3 %, and of what is made of them
            return {"jet_pt": (1 + 0.03 * size) * c.jet_pt, "mass": (1 + 0.02 * size) * c.mass}

        return {
            "jes_up": Shift(energy_scale, +1),
            "jes_down": Shift(energy_scale, -1),
            "scale_up": Transform(lambda c: {"weight": c.weight_scale_up}),
            "scale_down": Transform(lambda c: {"weight": c.weight_scale_down}),
        }

    def observe(self, p, c, relax):
        """Free parameters and columns in, an observation per channel out; every decision goes through `relax`."""
        jets = relax.greater(c.jet_pt, p.jet_pt, mask=c.jet)  # of each jet, 0 to 1; 0 or 1 with exact cuts
        tags = jets * relax.greater(c.jet_btag, p.btag)
        selected = (
            relax.greater(c.lepton_pt, p.lepton_pt)
            * relax.greater(c.missing_et, p.missing_et)
            * relax.at_least(jets, 4)
            * relax.at_least(tags, 1)
        )
        return {"four_jets": Observation(weight=c.weight * selected, value=c.mass)}
