"""Electrons and muons: who is seen, how well, how isolated and how far from the vertex."""

import dataclasses

import awkward as ak
import numpy as np
from jaxtyping import Bool, Float64, Int

from pipeline.simulate.pythia.generator import EventRecord, Particles, heaviest_quark
from pipeline.simulate.pythia.response import Pairs, Resolution, collection, pairs

ELECTRON, MUON, TAU, PHOTON = 11, 13, 15, 22
WEAK_BOSONS = (23, 24)
BOTTOM_AND_CHARM = (4, 5)
CUT_BASED_TIGHT = 4  # NanoAOD's Electron_cutBased: 0 fails, 1 veto, 2 loose, 3 medium, 4 tight
PROMPT, FROM_TAU, FROM_HEAVY_FLAVOUR, FROM_LIGHT_HADRON = 0, 1, 2, 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeptonResponse:
    """How the detector sees one kind of lepton; two numbers are for barrel and endcap.

    efficiency = plateau (1 - exp(-pt / turn_on)); the tight identification's is multiplied by ``fake_factor`` for
    leptons from hadron decays, and the lepton must pass ``tight_isolation``, where there is one. All leptons that pass
    the tight identification pass the medium one, which takes leptons from hadron decays as it takes others.
    sip3d = Rayleigh(1) + Exp(mean displacement[origin]), in standard deviations of the impact parameter.
    isolation = (sum of pt of visible particles within the cone + Exp(mean isolation_noise)) / measured pt.
    """

    pdg: int
    mass: float
    pt_minimum: float
    eta_maximum: float
    barrel_end: float
    reconstruction: tuple[float, float]
    tight: tuple[float, float]
    medium: tuple[float, float] | None = None  # no such identification
    turn_on: float
    fake_factor: float
    resolution: tuple[Resolution, Resolution]
    isolation_cone: float
    isolation_noise: float
    tight_isolation: float | None = None
    dressing_cone: float = 0.0
    displacement: tuple[float, float, float, float] = (0.0, 1.5, 8.0, 3.0)  # by origin

    def barrel(self, eta: Float64[np.ndarray, " objects"]) -> Bool[np.ndarray, " objects"]:
        """Return whether each is in the barrel."""
        return np.asarray(np.abs(eta) < self.barrel_end)

    def efficiency(
        self,
        plateau: tuple[float, float],
        pt: Float64[np.ndarray, " objects"],
        eta: Float64[np.ndarray, " objects"],
    ) -> Float64[np.ndarray, " objects"]:
        """Return plateau (1 - exp(-pt / turn_on))."""
        return np.asarray(np.where(self.barrel(eta), *plateau) * -np.expm1(-pt / self.turn_on))


ELECTRONS = LeptonResponse(
    pdg=ELECTRON,
    mass=0.000511,
    pt_minimum=5.0,
    eta_maximum=2.5,
    barrel_end=1.479,
    reconstruction=(0.97, 0.93),
    tight=(0.80, 0.72),
    turn_on=10.0,
    fake_factor=0.3,
    resolution=(
        Resolution(noise=0.3, stochastic=0.03, constant=0.012),
        Resolution(noise=0.5, stochastic=0.06, constant=0.025),
    ),
    isolation_cone=0.3,
    isolation_noise=0.5,
    tight_isolation=0.0588,  # part of CMS's cut-based tight identification, barrel
    dressing_cone=0.1,
)
MUONS = LeptonResponse(
    pdg=MUON,
    mass=0.10566,
    pt_minimum=3.0,
    eta_maximum=2.4,
    barrel_end=1.2,
    reconstruction=(0.99, 0.98),
    tight=(0.97, 0.96),
    medium=(0.99, 0.985),
    turn_on=4.0,
    fake_factor=0.9,
    resolution=(Resolution(constant=0.01, curvature=1e-4), Resolution(constant=0.02, curvature=2e-4)),
    isolation_cone=0.4,
    isolation_noise=1.0,
)


def origins(record: EventRecord, leptons: Particles) -> Int[np.ndarray, " objects"]:
    """Return where each lepton comes from: a weak boson, a tau of one, a bottom or charm hadron, or anything else.

    Walks up the first mothers over leptons and photons to the first other ancestor.
    """
    row = record.mother[leptons.row]
    tau = np.zeros(len(row), dtype=bool)
    while True:
        kind = np.abs(record.pdg[row])
        transparent = np.isin(kind, (ELECTRON, MUON, TAU, PHOTON)) & (record.mother[row] != row)
        if not transparent.any():
            break
        tau |= kind == TAU
        row = np.where(transparent, record.mother[row], row)
    heavy = np.isin(heaviest_quark(kind), BOTTOM_AND_CHARM)
    prompt = np.isin(kind, WEAK_BOSONS)
    choices = [FROM_HEAVY_FLAVOUR, FROM_TAU, PROMPT]
    return np.asarray(np.select([heavy, prompt & tau, prompt], choices, default=FROM_LIGHT_HADRON))


def candidates(visible: Particles, response: LeptonResponse) -> Particles:
    """Return leptons that can be reconstructed."""
    acceptance = visible.within(pt=response.pt_minimum, eta=response.eta_maximum)
    return visible.select((np.abs(visible.pdg) == response.pdg) & acceptance)


def dressing(leptons: Particles, near: Pairs, visible: Particles, cone: float) -> Bool[np.ndarray, " pairs"]:
    """Return which pairs are the lepton itself or one of its photons, within ``cone``."""
    itself = visible.row[near.particle] == leptons.row[near.object]
    return np.asarray(itself | ((np.abs(visible.pdg[near.particle]) == PHOTON) & (near.distance < cone)))


def electron_clusters(visible: Particles) -> Bool[np.ndarray, " particles"]:
    """Return which particles are seen in an electron's cluster: electrons and the photons that dress them."""
    electrons = candidates(visible, ELECTRONS)
    near = pairs(electrons.event, electrons.eta, electrons.phi, visible)
    members = near.particle[dressing(electrons, near, visible, ELECTRONS.dressing_cone)]
    return np.asarray((np.abs(visible.pdg) == ELECTRON) | np.isin(np.arange(len(visible.pdg)), members))


def reconstruct(
    record: EventRecord, visible: Particles, response: LeptonResponse, rng: np.random.Generator
) -> ak.Array:
    """Return the leptons of one kind; ``tight``, ``medium`` and ``isolation`` keep neutral names until ``detector``."""
    true = candidates(visible, response)
    near = pairs(true.event, true.eta, true.phi, visible)
    own = dressing(true, near, visible, response.dressing_cone)
    dressed = near.sums(visible.pt, where=own, objects=len(true.pt))
    around = near.sums(
        visible.pt, where=~own & (near.distance < response.isolation_cone), objects=len(true.pt)
    )
    barrel, endcap = (resolution.factors(dressed, rng) for resolution in response.resolution)
    pt = dressed * np.where(response.barrel(true.eta), barrel, endcap)
    isolation = (around + rng.exponential(response.isolation_noise, len(pt))) / pt
    origin = origins(record, true)
    tight = identified(true, pt, isolation, origin, response, rng)
    medium = identified_loosely(tight, true, pt, origin, response, rng.spawn(1)[0])  # leaves `rng` as it is
    sip3d = (
        rng.rayleigh(size=len(pt))
        + rng.standard_exponential(len(pt)) * np.array(response.displacement)[origin]
    )
    seen = rng.random(len(pt)) < response.efficiency(response.reconstruction, pt, true.eta)
    columns = {
        "pt": pt,
        "eta": true.eta,
        "phi": true.phi,
        "mass": np.full(len(pt), response.mass),
        "charge": -np.sign(true.pdg).astype(np.int32),
        "tight": tight,
        "medium": medium,
        "sip3d": sip3d,
        "isolation": isolation,
        "lower": rng.integers(0, CUT_BASED_TIGHT, len(pt), dtype=np.int32),
    }
    return collection(true.event[seen], {name: c[seen] for name, c in columns.items()}, events=record.events)


def tight_efficiency(
    true: Particles,
    pt: Float64[np.ndarray, " objects"],
    origin: Int[np.ndarray, " objects"],
    response: LeptonResponse,
) -> Float64[np.ndarray, " objects"]:
    """Return the efficiency of the tight identification before its isolation."""
    genuine = np.isin(origin, (PROMPT, FROM_TAU))
    fake = np.where(genuine, 1.0, response.fake_factor)
    return np.asarray(fake * response.efficiency(response.tight, pt, true.eta))


def identified(
    true: Particles,
    pt: Float64[np.ndarray, " objects"],
    isolation: Float64[np.ndarray, " objects"],
    origin: Int[np.ndarray, " objects"],
    response: LeptonResponse,
    rng: np.random.Generator,
) -> Bool[np.ndarray, " objects"]:
    """Return whether the tight identification is passed."""
    passed = rng.random(len(pt)) < tight_efficiency(true, pt, origin, response)
    isolated = True if response.tight_isolation is None else isolation < response.tight_isolation
    return np.asarray(passed & isolated)


def identified_loosely(
    tight: Bool[np.ndarray, " objects"],
    true: Particles,
    pt: Float64[np.ndarray, " objects"],
    origin: Int[np.ndarray, " objects"],
    response: LeptonResponse,
    rng: np.random.Generator,
) -> Bool[np.ndarray, " objects"]:
    """Return whether the medium identification is passed.

    All tight leptons pass it, and as many others as its efficiency asks for: with efficiencies m (medium) and
    t (tight), a lepton that is not tight passes with probability ``(m - t) / (1 - t)``.
    """
    if response.medium is None:
        return tight
    below = tight_efficiency(true, pt, origin, response)
    wanted = response.efficiency(response.medium, pt, true.eta)
    return np.asarray(tight | (rng.random(len(pt)) * (1 - below) < wanted - below))
