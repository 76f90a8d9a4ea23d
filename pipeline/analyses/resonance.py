"""A search for a resonance of top-quark pairs in lepton + jets, on the embedded data set: eight free cuts, free bins.

Exactly one electron or muon, as in the Analysis Grand Challenge, and four jets. The observable is the mass of the
lepton and the four leading jets.
"""

from collections.abc import Mapping
from functools import partial

import awkward as ak
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analyses.agc_ttbar import ELECTRON, JET, JET_ENERGY_SCALE_UP, JET_RESOLUTION_UP, MUON, passing
from pipeline.analyses.generator_weights import BRANCHES, shower_variations, weight_columns
from pipeline.analysis import Analysis, Free, Made, NanoAOD, Transform, Variation, WeightFactor
from pipeline.columns import normal
from pipeline.columns.preselection import fulfilled, requirements
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

JETS = 4
LEPTON_PT, JET_PT = 25.0, 22.0  # GeV; of the preselection: below every allowed cut
BTAG_PER_JET = 0.04  # uncertainty of the efficiency of a b-tag
TAGGER = "btagCSVV2"
VECTOR = ("pt", "eta", "phi", "mass")


class Resonance(Analysis):
    """Cuts on lepton, jets, missing momentum, H_T and b-tags are free."""

    parameters: Mapping[str, Free] = {
        "lepton_pt": Free(30.0, bounds=(28.0, 120.0), unit="GeV"),
        "jet1_pt": Free(35.0, bounds=(30.0, 300.0), unit="GeV"),
        "jet2_pt": Free(32.0, bounds=(28.0, 200.0), unit="GeV"),
        "jet4_pt": Free(30.0, bounds=(25.0, 80.0), unit="GeV"),
        "met": Free(15.0, bounds=(5.0, 150.0), unit="GeV"),
        "ht": Free(150.0, bounds=(120.0, 700.0), unit="GeV"),
        "btag": Free(0.03, bounds=(0.01, 0.98)),
        "second_btag": Free(0.01, bounds=(0.002, 0.95)),
    }
    reads = NanoAOD(
        branches=(
            *(f"{kind}_{name}" for kind in ("Electron", "Muon") for name in (*VECTOR, "charge", "sip3d")),
            *("Electron_cutBased", "Muon_tightId", "Muon_pfRelIso04_all"),
            *(f"Jet_{name}" for name in (*VECTOR, "jetId", TAGGER)),
            *("MET_pt", "MET_phi", *BRANCHES),
        )
    )

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return events with exactly one lepton and four jets above 22 GeV, also of the varied pt."""
        events = events[
            (ak.num(events.Electron.pt) + ak.num(events.Muon.pt) >= 1) & (ak.num(events.Jet.pt) >= JETS)
        ]
        leptons = _leptons(events)
        jets = events.Jet[fulfilled(events.Jet, requirements(JET, "jet"), events.Jet.pt > 0)]
        possible = (ak.num(leptons.pt) == 1) & (ak.num(jets.pt) >= JETS)
        events, leptons, jets = events[possible], leptons[possible], jets[possible]
        jets = jets[ak.argsort(jets.pt, axis=1, ascending=False)][:, :JETS]
        resolution = np.asarray(ak.to_numpy(normal(events.event, jets.pt, "pt_res_up")), dtype=np.float32)
        pt = np.asarray(ak.to_numpy(jets.pt))
        highest = pt * np.maximum(JET_ENERGY_SCALE_UP, 1 + JET_RESOLUTION_UP * resolution)
        kept = np.all(highest > JET_PT, axis=1)
        events, leptons, jets, resolution = events[kept], leptons[kept], jets[kept], resolution[kept]
        tags = np.sort(np.asarray(ak.to_numpy(jets[TAGGER])), axis=1)
        return {
            **weight_columns(events),
            "event_number": events.event,
            **{f"lepton_{name}": leptons[name][:, 0] for name in ("pt", "eta", "phi")},
            **{f"jet_{name}": np.asarray(ak.to_numpy(jets[name])) for name in ("pt", "eta", "phi", "mass")},
            "jet_resolution": resolution,
            "btag": tags[:, -1],
            "second_btag": tags[:, -2],
            "met_x": events.MET.pt * np.cos(events.MET.phi),
            "met_y": events.MET.pt * np.sin(events.MET.phi),
        }

    def variations(self) -> Mapping[str, Variation]:
        """Return those of jet energy scale and resolution, with the missing momentum; b-tagging; the showers."""
        scale = {"pt_scale_up": JET_ENERGY_SCALE_UP, "pt_scale_down": 2 - JET_ENERGY_SCALE_UP}
        return {
            **{name: Transform(partial(_scaled, by)) for name, by in scale.items()},
            "pt_res_up": Transform(lambda c: _scaled(1 + JET_RESOLUTION_UP * c.jet_resolution, c)),
            "btag_up": WeightFactor(lambda p, c, relax: 1 + BTAG_PER_JET * _tagged(p, c, relax)),
            "btag_down": WeightFactor(lambda p, c, relax: 1 - BTAG_PER_JET * _tagged(p, c, relax)),
            **shower_variations(),
        }

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Select by all cuts; observe the mass of the lepton and the four leading jets."""
        pt = jnp.sort(c.jet_pt, axis=1)
        passed = (
            relax.greater(c.lepton_pt, p.lepton_pt),
            relax.greater(pt[:, 3], p.jet1_pt),
            relax.greater(pt[:, 2], p.jet2_pt),
            relax.greater(pt[:, 0], p.jet4_pt),
            relax.greater(jnp.hypot(c.met_x, c.met_y), p.met),
            relax.greater(jnp.sum(pt, axis=1), p.ht),
            relax.greater(c.btag, p.btag),
            relax.greater(c.second_btag, p.second_btag),
        )
        return {"signal": Observation(weight=c.weight * relax.all(*passed), value=lepton_jets_mass(c))}


def _leptons(events: ak.Array) -> ak.Array:
    """Return electrons, then muons, that pass the challenge's requirements."""
    kinds = ((events.Electron, ELECTRON), (events.Muon, MUON))
    fields = ("pt", "eta", "phi")
    return passing(
        ((o, requirements(required, "lepton"), {name: o[name] for name in fields}) for o, required in kinds),
        LEPTON_PT,
    )


def _scaled(by: Array | float, c: Columns) -> Mapping[str, Array]:
    """Return jets of another pt, and the missing momentum that balances them."""
    change = (by - 1) * c.jet_pt
    return {
        "jet_pt": c.jet_pt + change,
        "met_x": c.met_x - jnp.sum(change * jnp.cos(c.jet_phi), axis=1),
        "met_y": c.met_y - jnp.sum(change * jnp.sin(c.jet_phi), axis=1),
    }


def _tagged(p: Parameters, c: Columns, relax: Relaxed | Exact) -> Float[Array, " events"]:
    """Return how many of the two best b-tags pass."""
    return relax.greater(c.btag, p.btag) + relax.greater(c.second_btag, p.second_btag)


def lepton_jets_mass(c: Columns) -> Float[Array, " events"]:
    """Return the mass [GeV] of the lepton, taken as massless, and the jets, in the weights' precision."""
    kind = c.weight.dtype
    pt, eta, phi, mass = (array.astype(kind) for array in (c.jet_pt, c.jet_eta, c.jet_phi, c.jet_mass))
    lepton = [array.astype(kind) for array in (c.lepton_pt, c.lepton_eta, c.lepton_phi)]
    energy = jnp.sum(jnp.sqrt((pt * jnp.cosh(eta)) ** 2 + mass**2), axis=1) + lepton[0] * jnp.cosh(lepton[1])
    momenta = (
        jnp.sum(pt * jnp.cos(phi), axis=1) + lepton[0] * jnp.cos(lepton[2]),
        jnp.sum(pt * jnp.sin(phi), axis=1) + lepton[0] * jnp.sin(lepton[2]),
        jnp.sum(pt * jnp.sinh(eta), axis=1) + lepton[0] * jnp.sinh(lepton[1]),
    )
    return jnp.sqrt(jnp.maximum(energy**2 - sum(x**2 for x in momenta), 1.0))
