"""The whole detector: one batch of generated events in, the event's branches out."""

import dataclasses

import awkward as ak
import numpy as np
from jaxtyping import Float64

from pipeline.simulate.pythia import jets, leptons
from pipeline.simulate.pythia.generator import EventRecord, Particles


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnclusteredResponse:
    """Resolution [GeV] of each component of the missing momentum, beside that of the jets.

    noise (+) stochastic sqrt(sum of visible pt), added in quadrature.
    """

    noise: float = 8.0
    stochastic: float = 0.5

    def sigma(self, sum_pt: Float64[np.ndarray, " events"]) -> Float64[np.ndarray, " events"]:
        """Return the resolution: the two terms in quadrature."""
        return np.asarray(np.hypot(self.noise, self.stochastic * np.sqrt(sum_pt)))


UNCLUSTERED = UnclusteredResponse()


def event_sums(
    particles: Particles, values: Float64[np.ndarray, " particles"]
) -> Float64[np.ndarray, " events"]:
    """Sum over the particles of each event."""
    return np.bincount(particles.event, weights=values, minlength=particles.events).astype(np.float64)


def missing_momentum(
    record: EventRecord,
    visible: Particles,
    shift: Float64[np.ndarray, "2 events"],
    response: UnclusteredResponse,
    rng: np.random.Generator,
) -> ak.Array:
    """Return neutrinos' transverse momentum, minus what mismeasured jets added, plus the unclustered resolution."""
    neutrinos = record.neutrinos()
    true = np.stack([event_sums(neutrinos, neutrinos.px), event_sums(neutrinos, neutrinos.py)])
    sigma = response.sigma(event_sums(visible, visible.pt))
    x, y = true - shift + sigma[np.newaxis] * rng.standard_normal(true.shape)
    return ak.zip({"pt": np.hypot(x, y).astype(np.float32), "phi": np.arctan2(y, x).astype(np.float32)})


def nanoaod_electrons(found: ak.Array) -> ak.Array:
    """Return the leptons by NanoAOD's names; cutBased is 4 for tight, else drawn evenly from 0..3 (no meaning here)."""
    kept = {name: found[name] for name in ("pt", "eta", "phi", "mass", "charge", "sip3d")}
    cut_based = ak.values_astype(ak.where(found.tight, leptons.CUT_BASED_TIGHT, found.lower), np.int32)
    return ak.zip({**kept, "cutBased": cut_based, "pfRelIso03_all": found.isolation})


def nanoaod_muons(found: ak.Array) -> ak.Array:
    """Return the muons by NanoAOD's names."""
    kept = {name: found[name] for name in ("pt", "eta", "phi", "mass", "charge", "sip3d")}
    return ak.zip(
        {**kept, "tightId": found.tight, "mediumId": found.medium, "pfRelIso04_all": found.isolation}
    )


def observe(record: EventRecord, rng: np.random.Generator) -> dict[str, ak.Array]:
    """Return jets, electrons, muons and missing momentum of every event of a batch."""
    visible = record.visible()
    electrons = leptons.reconstruct(record, visible, leptons.ELECTRONS, rng)
    muons = leptons.reconstruct(record, visible, leptons.MUONS, rng)
    found, shift = jets.reconstruct(record, visible, leptons.electron_clusters(visible), jets.JETS, rng)
    return {
        "Jet": found,
        "Electron": nanoaod_electrons(electrons),
        "Muon": nanoaod_muons(muons),
        "MET": missing_momentum(record, visible, shift, UNCLUSTERED, rng),
    }
