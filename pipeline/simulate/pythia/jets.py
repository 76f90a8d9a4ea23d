"""Jets: anti-kt 0.4 of everything visible, with resolution, flavour, b-tag and identification."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import awkward as ak
import fastjet
import numpy as np
from jaxtyping import Bool, Float64, Int, Int64

from pipeline.simulate.pythia.generator import EventRecord, Particles, heaviest_quark
from pipeline.simulate.pythia.leptons import MUON, PHOTON
from pipeline.simulate.pythia.response import Resolution, collection, pairs, wrap

CHARGED_HADRONS = (211, 321, 2212, 3112, 3222, 3312, 3334)  # those that are stable over 10 mm
BOTTOM, CHARM, LIGHT = 5, 4, 0
FAILED, TIGHT, TIGHT_LEPTON_VETO = 0, 2, 6  # NanoAOD's Jet_jetId

fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)  # else C++ writes it to the standard output


@dataclasses.dataclass(frozen=True, kw_only=True)
class TagEfficiency:
    """b-tag score of jets of one flavour, P(score > x) = (1 - x^shape)^power: Kumaraswamy's distribution.

    ``power`` is such that the efficiency at score 0.5 is plateau (1 - exp(-pt / turn_on)) (pt / 100 GeV)^slope.
    """

    plateau: float
    turn_on: float
    slope: float
    shape: float
    working_point: float = 0.5
    reference_pt: float = 100.0

    def efficiency(self, pt: Float64[np.ndarray, " objects"]) -> Float64[np.ndarray, " objects"]:
        """Return p(score > working point) of a jet of measured transverse momentum ``pt`` [GeV]."""
        return np.asarray(
            self.plateau * -np.expm1(-pt / self.turn_on) * (pt / self.reference_pt) ** self.slope
        )

    def scores(
        self, pt: Float64[np.ndarray, " objects"], rng: np.random.Generator
    ) -> Float64[np.ndarray, " objects"]:
        """Return the scores drawn by inverting P(score > x)."""
        power = np.log(self.efficiency(pt)) / np.log1p(-(self.working_point**self.shape))
        return np.asarray((1 - rng.random(len(pt)) ** (1 / power)) ** (1 / self.shape))


RESOLUTION = Resolution(noise=3.0, stochastic=0.8, constant=0.04)
TAGS: Mapping[int, TagEfficiency] = MappingProxyType(
    {
        BOTTOM: TagEfficiency(plateau=0.80, turn_on=17.0, slope=-0.08, shape=1.0),
        CHARM: TagEfficiency(plateau=0.24, turn_on=17.0, slope=0.0, shape=0.5),
        LIGHT: TagEfficiency(plateau=0.028, turn_on=17.0, slope=0.3, shape=0.3),
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JetResponse:
    """How the detector sees jets; angles in radians, momenta in GeV."""

    radius: float = 0.4
    pt_clustered: float = 8.0  # far enough below pt_minimum that jets smeared up are not lost
    pt_minimum: float = 15.0
    eta_maximum: float = 4.7
    eta_tracker: float = 2.5
    resolution: Resolution = RESOLUTION
    angular_resolution: float = 0.01
    hadron_pt: float = 5.0
    hadron_distance: float = 0.3
    neutral_hadron_maximum: float = 0.9
    neutral_electromagnetic_maximum: float = 0.9
    constituents_minimum: int = 2
    muon_maximum: float = 0.8
    electron_maximum: float = 0.8


JETS = JetResponse()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrueJets:
    """Clustered jets before the detector, flat, and which jet every visible particle is in (-1: none)."""

    jets: Particles
    mass: Float64[np.ndarray, " objects"]
    member_of: Int64[np.ndarray, " particles"]

    def sums(
        self, values: Float64[np.ndarray, " particles"], where: Bool[np.ndarray, " particles"]
    ) -> Float64[np.ndarray, " objects"]:
        """Return the sum of its constituents' values for each jet."""
        chosen = where & (self.member_of >= 0)
        sums = np.bincount(self.member_of[chosen], weights=values[chosen], minlength=len(self.mass))
        return sums.astype(np.float64)


def cluster(visible: Particles, response: JetResponse) -> TrueJets:
    """Return Anti-kt jets (arXiv:0802.1189) by FastJet (arXiv:1111.6097)."""
    momenta = {"px": visible.px, "py": visible.py, "pz": visible.pz, "E": visible.energy}
    counts = np.diff(visible.offsets)
    inputs = ak.unflatten(ak.zip(momenta, with_name="Momentum4D"), counts)
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, response.radius)
    sequence = fastjet.ClusterSequence(inputs, definition)
    found = sequence.inclusive_jets(min_pt=response.pt_clustered)
    event = np.repeat(np.arange(visible.events), ak.to_numpy(ak.num(found)))
    px, py, pz, energy = (ak.to_numpy(ak.flatten(found[name])) for name in ("px", "py", "pz", "E"))
    index = np.arange(len(event))
    constituents = ak.flatten(sequence.constituent_index(min_pt=response.pt_clustered))
    jet_of = np.repeat(index, ak.to_numpy(ak.num(constituents)))
    member_of = np.full(len(visible.row), -1)
    member_of[ak.to_numpy(ak.flatten(constituents)) + visible.offsets[event[jet_of]]] = jet_of
    jets = Particles(
        events=visible.events,
        event=event,
        row=index,
        pdg=np.zeros_like(index),
        px=px,
        py=py,
        pz=pz,
        energy=energy,
    )
    mass = np.sqrt(
        np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0)
    )  # rounding can leave a massless jet below 0
    return TrueJets(jets=jets, mass=mass, member_of=member_of)


def heavy_hadrons(record: EventRecord, response: JetResponse) -> Particles:
    """Return the bottom and charm hadrons that give a jet its flavour."""
    quark = heaviest_quark(record.pdg)
    return record.select(np.isin(quark, (BOTTOM, CHARM)) & (record.pt > response.hadron_pt))


def flavours(hadrons: Particles, jets: Particles, response: JetResponse) -> Int[np.ndarray, " objects"]:
    """Return 5 for a jet with a bottom hadron nearby, else 4 with a charm hadron, else 0."""
    near = pairs(jets.event, jets.eta, jets.phi, hadrons)
    close = near.distance < response.hadron_distance
    flavour = np.full(len(jets.pt), LIGHT, dtype=np.int32)
    np.maximum.at(flavour, near.object[close], heaviest_quark(hadrons.pdg)[near.particle[close]])
    return flavour


def identification(
    true: TrueJets,
    visible: Particles,
    electron_cluster: Bool[np.ndarray, " particles"],
    response: JetResponse,
) -> Int[np.ndarray, " objects"]:
    """Return NanoAOD's jetId: 6 passes tight and tight-lepton-veto, 2 only tight, 0 neither.

    Tight: at least two constituents, neither neutral hadrons nor photons make nearly all the energy, and a
    charged particle if inside the tracker. Veto: neither electrons (with their photons) nor muons make most.
    """
    kind = np.abs(visible.pdg)
    muon, photon, charged = kind == MUON, (kind == PHOTON) & ~electron_cluster, np.isin(kind, CHARGED_HADRONS)
    neutral = ~(muon | photon | charged | electron_cluster)
    energy, ones = true.jets.energy, np.ones(len(kind))
    fraction = {
        name: true.sums(visible.energy, where) / energy
        for name, where in {"mu": muon, "ph": photon, "nh": neutral, "el": electron_cluster}.items()
    }
    tracks = true.sums(ones, muon | charged | electron_cluster)
    tight = (
        (fraction["nh"] < response.neutral_hadron_maximum)
        & (fraction["ph"] < response.neutral_electromagnetic_maximum)
        & (true.sums(ones, ones > 0) >= response.constituents_minimum)
        & ((tracks > 0) | (np.abs(true.jets.eta) > response.eta_tracker))
    )
    veto = (fraction["mu"] < response.muon_maximum) & (fraction["el"] < response.electron_maximum)
    return np.where(tight, np.where(veto, TIGHT_LEPTON_VETO, TIGHT), FAILED).astype(np.int32)


def tag_scores(
    flavour: Int[np.ndarray, " objects"],
    pt: Float64[np.ndarray, " objects"],
    eta: Float64[np.ndarray, " objects"],
    response: JetResponse,
    rng: np.random.Generator,
) -> Float64[np.ndarray, " objects"]:
    """Return the b-tag score by flavour; 0 outside the tracker."""
    score = np.zeros(len(pt))
    for kind, tag in TAGS.items():
        chosen = (flavour == kind) & (np.abs(eta) < response.eta_tracker)
        score[chosen] = tag.scores(pt[chosen], rng)
    return score


def measured(
    true: TrueJets, hadrons: Particles, response: JetResponse, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], Float64[np.ndarray, " objects"]]:
    """Return clustered jets as the detector sees them, by NanoAOD's names, and the factor on their momenta."""
    jets = true.jets
    factor = response.resolution.factors(jets.pt, rng)
    pt = jets.pt * factor
    eta = jets.eta + response.angular_resolution * rng.standard_normal(len(pt))
    flavour = flavours(hadrons, jets, response)
    found = {
        "pt": pt,
        "eta": eta,
        "phi": wrap(jets.phi + response.angular_resolution * rng.standard_normal(len(pt))),
        "mass": true.mass * factor,
        "btagCSVV2": tag_scores(flavour, pt, eta, response, rng),
        "hadronFlavour": flavour,
    }
    return found, factor


def reconstruct(
    record: EventRecord,
    visible: Particles,
    electron_cluster: Bool[np.ndarray, " particles"],
    response: JetResponse,
    rng: np.random.Generator,
) -> tuple[ak.Array, Float64[np.ndarray, "2 events"]]:
    """Return the jets as NanoAOD shows them, and the momentum (x, y) their mismeasurement added to each event."""
    true = cluster(visible, response)
    jets = true.jets
    columns, factor = measured(true, heavy_hadrons(record, response), response, rng)
    jet_id = identification(true, visible, electron_cluster, response)
    columns["jetId"] = jet_id
    kept = (columns["pt"] > response.pt_minimum) & (np.abs(columns["eta"]) < response.eta_maximum)
    added = np.where(
        kept & (jet_id == TIGHT_LEPTON_VETO), factor - 1, 0.0
    )  # leptons posing as jets are measured as leptons
    shift = np.stack(
        [np.bincount(jets.event, weights=added * p, minlength=record.events) for p in (jets.px, jets.py)]
    )
    found = collection(jets.event[kept], {name: c[kept] for name, c in columns.items()}, events=record.events)
    return found, shift
