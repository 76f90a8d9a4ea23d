"""Version 2 of the AGC's ttbar analysis in coffea, as a user writes it: oracle of tests, peer of a benchmark.

Selection, observables and systematic variations follow the challenge's code; the sources are its description only.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import correctionlib
import hist
import numpy as np
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory
from coffea.nanoevents.methods import vector

REGIONS = {"4j1b": "$H_T$ [GeV]", "4j2b": "$m_{bjj}$ [GeV]"}
DIRECTIONS = ("up", "down")
JETS_VARIED = 4  # leading ones in the order of the file
ENERGY_SCALE_UP = 1.03
RESOLUTION_UP = 0.05

Resolution = Callable[[ak.Array], ak.Array]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Cuts of a version of the challenge; momenta in GeV."""

    lepton_pt: float = 30.0
    lepton_eta: float = 2.1
    jet_pt: float = 30.0
    jet_eta: float = 2.4
    identified: bool = (
        True  # identification, impact parameter and isolation of leptons, identification of jets
    )
    tagger: str = "btagCSVV2"
    tag: float = 0.5


V2 = Selection()
V1 = Selection(lepton_pt=25.0, lepton_eta=math.inf, jet_pt=25.0, jet_eta=math.inf, identified=False)


class Schema(NanoAODSchema):
    """NanoAOD without complaints about collections that a thin file lacks."""

    warn_missing_crossrefs = False


def unseeded(events: ak.Array) -> ak.Array:
    """Standard normal numbers, one for each jet of each event: other ones at every call, as in the challenge."""
    counts = ak.num(events.Jet.pt)
    return ak.unflatten(np.random.default_rng().standard_normal(ak.sum(counts)), counts)


def weight_variations(sample: str) -> list[tuple[str, str, int, str]]:
    """Name of each, its entry in the corrections, the jet it looks at, and its direction."""
    found = [
        (f"btag_var_{jet}_{direction}", "btag_var", jet, direction)
        for jet in range(JETS_VARIED)
        for direction in DIRECTIONS
    ]
    if sample == "wjets":
        found += [(f"scale_var_{direction}", "scale_var", 0, direction) for direction in DIRECTIONS]
    return found


def select_electrons(electrons: ak.Array, cuts: Selection) -> ak.Array:
    passed = (electrons.pt > cuts.lepton_pt) & (abs(electrons.eta) < cuts.lepton_eta)
    if cuts.identified:
        passed = passed & (electrons.cutBased == 4) & (electrons.sip3d < 4)
    return electrons[passed]


def select_muons(muons: ak.Array, cuts: Selection) -> ak.Array:
    passed = (muons.pt > cuts.lepton_pt) & (abs(muons.eta) < cuts.lepton_eta)
    if cuts.identified:
        passed = passed & muons.tightId & (muons.sip3d < 4) & (muons.pfRelIso04_all < 0.15)
    return muons[passed]


def select_jets(jets: ak.Array, cuts: Selection) -> ak.Array:
    passed = (jets.pt > cuts.jet_pt) & (abs(jets.eta) < cuts.jet_eta)
    if cuts.identified:
        passed = passed & (jets.jetId == 6)
    return jets[passed]


def trijet_mass(jets: ak.Array, cuts: Selection) -> ak.Array:
    """Mass of the three jets with the largest pt of their sum, at least one of them b-tagged."""
    # Double precision, so that no event changes its bin by the rounding of energy^2 - momentum^2.
    momenta = {name: ak.values_astype(jets[name], np.float64) for name in ("pt", "eta", "phi", "mass")}
    vectors = ak.zip(
        {**momenta, "tagged": jets[cuts.tagger] > cuts.tag},
        with_name="PtEtaPhiMLorentzVector",
        behavior=vector.behavior,
    )
    a, b, c = ak.unzip(ak.combinations(vectors, 3))
    trijets = (a + b + c)[a.tagged | b.tagged | c.tagged]
    return ak.flatten(trijets[ak.argmax(trijets.pt, axis=1, keepdims=True)].mass)


def process(
    events: ak.Array,
    sample: str,
    *,
    weight: float,
    corrections: Path,
    resolution: Resolution = unseeded,
    selection: Selection = V2,
    systematics: bool = True,
) -> dict[str, hist.Hist]:
    """Histogram (observable, variation) of each region; `nominal` alone without systematics.

    Arguments:
        weight: of every event.
        corrections: file of correctionlib with `event_systematics`.
        resolution: events -> standard normal numbers, one for each of their jets, jagged.
    """
    correction = correctionlib.CorrectionSet.from_file(str(corrections))["event_systematics"]
    weights = weight_variations(sample) if systematics else []
    jet_pt = ak.values_astype(events.Jet.pt, np.float64)
    shifted = {"nominal": jet_pt}
    if systematics:
        shifted["pt_scale_up"] = ENERGY_SCALE_UP * jet_pt
        shifted["pt_res_up"] = jet_pt * (1 + RESOLUTION_UP * resolution(events))
    names = [*shifted, *(name for name, *_ in weights)]
    histograms = {
        region: hist.new.Reg(25, 50, 550, name="observable", label=label)
        .StrCat(names, name="variation")
        .Weight()
        for region, label in REGIONS.items()
    }

    electrons = select_electrons(events.Electron, selection)
    muons = select_muons(events.Muon, selection)
    one_lepton = ak.num(electrons) + ak.num(muons) == 1

    for variation, pt in shifted.items():
        jets = select_jets(ak.with_field(events.Jet, pt, "pt"), selection)
        tags = ak.sum(jets[selection.tagger] > selection.tag, axis=1)
        selected = one_lepton & (ak.num(jets) >= 4)
        in_region = {"4j1b": jets[selected & (tags == 1)], "4j2b": jets[selected & (tags >= 2)]}
        observables = {
            "4j1b": ak.sum(in_region["4j1b"].pt, axis=1),
            "4j2b": trijet_mass(in_region["4j2b"], selection),
        }
        for region, observable in observables.items():
            histograms[region].fill(observable=observable, variation=variation, weight=weight)
            if variation != "nominal":
                continue
            for name, entry, jet, direction in weights:
                factor = correction.evaluate(entry, direction, in_region[region].pt[:, jet])
                histograms[region].fill(observable=observable, variation=name, weight=weight * factor)
    return histograms


def histograms(
    path: Path | str,
    sample: str,
    *,
    entry_start: int | None = None,
    entry_stop: int | None = None,
    **options,
) -> dict[str, np.ndarray]:
    """Contents with flow of every histogram of some entries of a file, under the challenge's names.

    Further arguments are those of `process`.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Branch Photon_"
        )  # which coffea replaces in every older NanoAOD file
        events = NanoEventsFactory.from_root(
            {str(path): "Events"},
            schemaclass=Schema,
            mode="virtual",
            entry_start=entry_start,
            entry_stop=entry_stop,
        ).events()
    found = process(events, sample, **options)
    return {
        f"{region}_{sample}" + ("" if name == "nominal" else f"_{name}"): filled[:, name].values(flow=True)
        for region, filled in found.items()
        for name in filled.axes["variation"]
    }
