"""The lepton + jets selection of the Analysis Grand Challenge (CMS Open Data ttbar), with free cuts.

One electron or muon and at least four jets. Channel 4j1b, exactly one b-tag, observes H_T; channel 4j2b, two or
more, the mass of the three jets with the largest summed pt of which at least one is b-tagged. Selection and
systematic variations follow the code of version 2 of the challenge.
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import awkward as ak
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analysis import Analysis, Free, NanoAOD
from pipeline.columns import mask, pad
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

LOOSE_PT = 20.0  # GeV; below every allowed cut, also after the energy scale variation
JET_ENERGY_SCALE_UP = 1.03
WJETS_SCALE = 0.025
BTAG_VARIATION = 0.075  # per 50 GeV of jet pt
TIGHT_LEPTON_VETO = 6  # of the jet identification


class AgcTtbar(Analysis):
    """Cuts on lepton pt, jet pt and b-tag discriminant are free."""

    reads = NanoAOD(
        branches=(
            *("Electron_pt", "Electron_eta", "Electron_phi", "Electron_mass", "Electron_charge"),
            *("Electron_cutBased", "Electron_sip3d"),
            *("Muon_pt", "Muon_eta", "Muon_phi", "Muon_mass", "Muon_charge"),
            *("Muon_tightId", "Muon_sip3d", "Muon_pfRelIso04_all"),
            *("Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass", "Jet_btagCSVV2", "Jet_jetId"),
        )
    )
    parameters: Mapping[str, Free] = {
        "lepton_pt": Free(30.0, bounds=(25.0, 60.0), unit="GeV"),
        "jet_pt": Free(30.0, bounds=(25.0, 60.0), unit="GeV"),
        "btag": Free(0.5, bounds=(0.05, 0.95)),
    }

    def __init__(self, jets: int = 14, leptons: int = 4) -> None:
        self.jets = jets
        self.leptons = leptons

    def columns(self, events: Any, dataset: str) -> Mapping[str, Any]:
        """Events with a lepton and four jets above 20 GeV, their leptons and jets."""
        electron, muon, jet = events.Electron, events.Muon, events.Jet
        electron_ok = (electron.pt > LOOSE_PT) & (abs(electron.eta) < 2.1) & (electron.cutBased == 4)
        muon_ok = (muon.pt > LOOSE_PT) & (abs(muon.eta) < 2.1) & muon.tightId & (muon.pfRelIso04_all < 0.15)
        lepton_pt = ak.concatenate(
            [electron.pt[electron_ok & (electron.sip3d < 4)], muon.pt[muon_ok & (muon.sip3d < 4)]], axis=1
        )
        jets = jet[(jet.pt > LOOSE_PT) & (abs(jet.eta) < 2.4) & (jet.jetId == TIGHT_LEPTON_VETO)]
        selected = (ak.num(lepton_pt) >= 1) & (ak.num(jets) >= 4)
        lepton_pt, jets = lepton_pt[selected], jets[selected]
        return {
            "weight": np.ones(len(jets)),
            "lepton_pt": pad(lepton_pt, self.leptons),
            "lepton": mask(lepton_pt, self.leptons),
            "jet": mask(jets.pt, self.jets),
            **{
                f"jet_{name}": pad(jets[name], self.jets)
                for name in ("pt", "eta", "phi", "mass", "btagCSVV2")
            },
        }

    def variations(self) -> Mapping[str, Callable[[Columns], Columns]]:
        """Jet energy scale, W+jets scale, and b-tagging tied to each of the four leading jets."""
        btag = {
            f"btag_var_{i}_{direction}": functools.partial(_btag_variation, jet=i, sign=sign)
            for i in range(4)
            for direction, sign in (("up", 1.0), ("down", -1.0))
        }
        return {
            "pt_scale_up": lambda c: c.replace(jet_pt=JET_ENERGY_SCALE_UP * c.jet_pt),
            "scale_var_up": lambda c: c.replace(weight=(1 + WJETS_SCALE) * c.weight),
            "scale_var_down": lambda c: c.replace(weight=(1 - WJETS_SCALE) * c.weight),
            **btag,
        }

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Exactly one lepton, at least four jets; H_T with one b-tag, the triplet mass with two or more."""
        leptons = relax.greater(c.lepton_pt, p.lepton_pt, mask=c.lepton)
        jets = relax.greater(c.jet_pt, p.jet_pt, mask=c.jet)
        tags = jets * relax.greater(c.jet_btagCSVV2, p.btag, mask=c.jet)
        selected = c.weight * relax.exactly(leptons, 1) * relax.at_least(jets, 4)
        return {
            "4j1b": Observation(weight=selected * relax.exactly(tags, 1), value=relax.sum(jets * c.jet_pt)),
            "4j2b": Observation(
                weight=selected * relax.at_least(tags, 2), value=_triplet_mass(c, jets, tags, relax)
            ),
        }


def _triplet_mass(
    c: Columns,
    jets: Float[Array, "events objects"],
    tags: Float[Array, "events objects"],
    relax: Relaxed | Exact,
) -> Float[Array, " events"]:
    """Mass [GeV] of the selected jets' triplet with the largest pt among those with a b-tag."""
    px, py = c.jet_pt * jnp.cos(c.jet_phi), c.jet_pt * jnp.sin(c.jet_phi)
    pz = c.jet_pt * jnp.sinh(c.jet_eta)
    energy = jnp.sqrt(px**2 + py**2 + pz**2 + c.jet_mass**2)
    corners = _triplets(c.jet_pt.shape[1])
    px, py, pz, energy = (x @ corners.sum(axis=0) for x in (px, py, pz, energy))
    untagged = _product(jets - tags, corners)
    eligible = _product(jets, corners) - untagged
    best = relax.choose(jnp.hypot(px, py), width="triplet_pt", eligible=eligible)
    mass_squared = energy**2 - px**2 - py**2 - pz**2
    massive = mass_squared > 0  # not so for padding; the square root has no derivative at 0
    mass = jnp.where(massive, jnp.sqrt(jnp.where(massive, mass_squared, 1.0)), 0.0)
    return relax.take(mass, best)


def _triplets(jets: int) -> Float[np.ndarray, "3 objects triplets"]:
    """First, second and third jet of every triplet as 0/1 matrices: products with them are exact and transpose fast."""
    corners = np.array(list(itertools.combinations(range(jets), 3))).T
    return np.asarray(np.eye(jets)[corners].swapaxes(1, 2))


def _product(
    decisions: Float[Array, "events objects"], corners: Float[np.ndarray, "3 objects triplets"]
) -> Float[Array, "events triplets"]:
    """Decision on each triplet: all three of its jets."""
    first, second, third = (jnp.matmul(decisions, corner) for corner in corners)
    return first * second * third


def _btag_variation(c: Columns, *, jet: int, sign: float) -> Columns:
    """Weight 1 +- 7.5 % per 50 GeV of the n-th jet's pt."""
    return c.replace(weight=c.weight * (1 + sign * BTAG_VARIATION * c.jet_pt[:, jet] / 50))
