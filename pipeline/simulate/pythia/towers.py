"""Events before their jets, for an analysis that clusters them itself: calorimeter towers and heavy hadrons.

``docs/surrogates.md`` has the analysis. Only events with exactly one lepton, as the Analysis Grand Challenge selects
it, have towers; the others are in the file for the normalisation.
"""

import dataclasses
from collections.abc import Mapping

import awkward as ak
import numpy as np
from jaxtyping import Float64, Int64

from pipeline.simulate.generate import Branches
from pipeline.simulate.pythia import jets, leptons
from pipeline.simulate.pythia.generator import SEED_MAXIMUM, EventRecord, Particles, generate
from pipeline.simulate.pythia.response import collection

SIDE = 0.1  # of a tower, in pseudorapidity and azimuth
LEAST_PT = 0.5  # GeV, of a tower
ETA = 3.5  # of a tower; jets are looked for up to 2.4, with radii up to 1
LEPTON_PT, LEPTON_ETA, SIP3D, MUON_ISOLATION = 30.0, 2.1, 4.0, 0.15


@dataclasses.dataclass(frozen=True)
class Jets:
    """Measured jets of some events, one after the other; transverse momentum in GeV."""

    event: Int64[np.ndarray, " objects"]
    pt: Float64[np.ndarray, " objects"]
    eta: Float64[np.ndarray, " objects"]
    btag: Float64[np.ndarray, " objects"]


def events(sample: str, number: int, rng: np.random.Generator) -> Branches:
    """Return how many leptons an event has, its towers and its heavy hadrons."""
    seed = int(rng.integers(1, SEED_MAXIMUM + 1))
    batches = [_seen(record, rng) for record in generate(sample, events=number, seed=seed)]
    return {name: ak.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def particles(columns: Mapping[str, np.ndarray], kind: str) -> Particles:
    """Return massless particles from padded columns [events, objects] of one kind, whose padding has pt 0."""
    there = columns[f"{kind}_pt"] > 0
    pt, eta, phi = (columns[f"{kind}_{name}"][there].astype(np.float64) for name in ("pt", "eta", "phi"))
    event = np.nonzero(there)[0]
    pdg = columns.get(f"{kind}_pdg")
    return Particles(
        events=len(there),
        event=event,
        row=np.arange(len(event)),
        pdg=np.zeros_like(event) if pdg is None else pdg[there].astype(np.int64),
        px=pt * np.cos(phi),
        py=pt * np.sin(phi),
        pz=pt * np.sinh(eta),
        energy=pt * np.cosh(eta),
    )


def clustered(columns: Mapping[str, np.ndarray], radius: float, rng: np.random.Generator) -> Jets:
    """Return anti-kt jets of the towers as the detector measures them.

    The noise grows with the radius, as that of pile-up does.
    """
    standard = jets.JETS
    noise = standard.resolution.noise * radius / standard.radius
    resolution = dataclasses.replace(standard.resolution, noise=noise)
    response = dataclasses.replace(standard, radius=radius, resolution=resolution)
    true = jets.cluster(particles(columns, "tower"), response)
    measured, _ = jets.measured(true, particles(columns, "hadron"), response, rng)
    return Jets(true.jets.event, measured["pt"], measured["eta"], measured["btagCSVV2"])


def leading(
    towers: Particles, radius: float, number: int, eta: float, least: float
) -> Float64[np.ndarray, "events number"]:
    """Return the transverse momenta of an event's hardest jets before the detector, ``least`` where there are fewer."""
    found = jets.cluster(towers, dataclasses.replace(jets.JETS, radius=radius)).jets
    found = found.select(found.within(pt=least, eta=eta))
    order = np.lexsort((-found.pt, found.event))
    place = np.arange(len(order)) - found.offsets[found.event[order]]
    made = np.full((towers.events, number), least)
    kept = place < number
    made[found.event[order][kept], place[kept]] = found.pt[order][kept]
    return made


def _seen(record: EventRecord, rng: np.random.Generator) -> Mapping[str, ak.Array]:
    visible = record.visible()
    number = _selected_leptons(record, visible, rng)
    hadronic = ~leptons.electron_clusters(visible) & (np.abs(visible.pdg) != leptons.MUON)
    inside = visible.within(pt=0.0, eta=ETA)
    towers = _towers(visible.select(hadronic & inside & (number == 1)[visible.event]))
    hadrons = jets.heavy_hadrons(record, jets.JETS)
    hadrons = hadrons.select((number == 1)[hadrons.event])
    return {"leptons": ak.Array(number), "Tower": _branch(towers), "Hadron": _branch(hadrons, pdg=True)}


def _selected_leptons(
    record: EventRecord, visible: Particles, rng: np.random.Generator
) -> Int64[np.ndarray, " events"]:
    electrons = leptons.reconstruct(record, visible, leptons.ELECTRONS, rng)
    muons = leptons.reconstruct(record, visible, leptons.MUONS, rng)
    muons = muons[muons.isolation < MUON_ISOLATION]
    numbers = [
        ak.sum(
            found.tight & (found.pt > LEPTON_PT) & (np.abs(found.eta) < LEPTON_ETA) & (found.sip3d < SIP3D),
            axis=1,
        )
        for found in (electrons, muons)
    ]
    return np.asarray(ak.to_numpy(numbers[0] + numbers[1]), dtype=np.int64)


def _towers(visible: Particles) -> Particles:
    """Return sums of the momenta in each tower of each event, taken as massless."""
    place = np.stack([visible.event, *(np.floor(angle / SIDE) for angle in (visible.eta, visible.phi))])
    found, tower = np.unique(place.astype(np.int64), axis=1, return_inverse=True)
    px, py, pz = (
        np.bincount(tower.reshape(-1), weights=momentum, minlength=found.shape[1])
        for momentum in (visible.px, visible.py, visible.pz)
    )
    made = Particles(
        events=visible.events,
        event=found[0],
        row=np.arange(found.shape[1]),
        pdg=np.zeros_like(found[0]),
        px=px,
        py=py,
        pz=pz,
        energy=np.sqrt(px**2 + py**2 + pz**2),
    )
    return made.select(made.within(pt=LEAST_PT, eta=ETA))


def _branch(found: Particles, *, pdg: bool = False) -> ak.Array:
    columns = {name: getattr(found, name).astype(np.float32) for name in ("pt", "eta", "phi")}
    if pdg:
        columns["pdg"] = found.pdg.astype(np.int32)
    return collection(found.event, columns, events=found.events)
