"""Events with a lepton and a hadronic tau, as the FAIR Universe challenge has them, made where they are selected.

Pythia makes the bosons or top quarks with their partons; its taus stay undecayed. Each of its events is decayed and
measured ``COPIES`` times by the formulae of ``tau_decays`` and the detector's resolutions, and only what is selected is
kept. ``docs/fair_universe.md`` says what differs from the challenge's Delphes.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float64, Int64

from pipeline.simulate.generate import Branches
from pipeline.simulate.pythia import jets, tau_decays
from pipeline.simulate.pythia.detector import UNCLUSTERED, event_sums
from pipeline.simulate.pythia.generator import (
    EVENTS_PER_BATCH,
    SEED_MAXIMUM,
    EventRecord,
    Particles,
    Source,
)
from pipeline.simulate.pythia.processes import LEPTONS, TTBAR, Process
from pipeline.simulate.pythia.response import Resolution

COPIES = 16  # of each of Pythia's events; a twentieth of them is selected
LEPTON_PT, TAU_PT, JET_PT = 20.0, 20.0, 20.0  # GeV, the challenge's preselection
LEPTON_ETA, TAU_ETA, JET_ETA = 2.5, 2.5, 4.5
APART = 0.4  # distance of lepton, tau and jets from one another
LEPTON_RESOLUTION = Resolution(constant=0.015, curvature=1e-4)
TAU_RESOLUTION = Resolution(noise=1.0, stochastic=0.6, constant=0.03)
MOST_LEPTONS, MOST_JETS = 4, 8  # of an event, the hardest ones
ABSENT = -25.0  # of a jet that is not there, as in the challenge
VISIBLE_LEPTONS, NEUTRINOS = (11, 13, 15), (12, 14, 16)
H_TO_TAUS = ("25:onMode = off", "25:onIfAny = 15")
Z_TO_TAUS = ("23:onMode = off", "23:onIfAny = 15")


def _of(description: str, *settings: str) -> Process:
    return Process(
        description=description,
        settings=("HadronLevel:all = off", *settings),
        cross_section_pb=float("nan"),
        cross_section_source="the challenge's numbers of events: config/fair_universe.yaml",
    )


# The processes of each sample, and the share of the events that each makes: LHCHXSWG's cross-sections at 13 TeV for H.
SAMPLES: Mapping[str, tuple[tuple[float, Process], ...]] = MappingProxyType(
    {
        "htautau": (
            (0.89, _of("Higgs boson by gluons", "HiggsSM:gg2H = on", *H_TO_TAUS)),
            (
                0.11,
                _of(
                    "Higgs boson with quarks or a weak boson",
                    *(
                        f"HiggsSM:{name} = on"
                        for name in ("ff2Hff(t:ZZ)", "ff2Hff(t:WW)", "ffbar2HZ", "ffbar2HW")
                    ),
                    *H_TO_TAUS,
                ),
            ),
        ),
        "ztautau": (
            (
                1.0,
                _of(
                    "Z boson or photon above 60 GeV",
                    "WeakSingleBoson:ffbar2gmZ = on",
                    "PhaseSpace:mHatMin = 60.",
                    *Z_TO_TAUS,
                ),
            ),
        ),
        "ttbar": ((1.0, _of("top-quark pairs, both W bosons to leptons", *TTBAR.settings, *LEPTONS)),),
        "diboson": (
            (
                1.0,
                _of(
                    "two weak bosons",
                    *(f"WeakDoubleBoson:ffbar2{name} = on" for name in ("gmZgmZ", "ZW", "WW")),
                ),
            ),
        ),
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Padded:
    """Objects of events side by side, the hardest first; momenta in GeV, 0 where there is none."""

    px: Float64[np.ndarray, "events objects"]
    py: Float64[np.ndarray, "events objects"]
    pz: Float64[np.ndarray, "events objects"]
    pdg: Int64[np.ndarray, "events objects"]
    row: Int64[np.ndarray, "events objects"]

    @classmethod
    def of(cls, found: Particles, most: int) -> "Padded":
        """Return the hardest particles of each event."""
        order = np.lexsort((-found.pt, found.event))
        event = found.event[order]
        place = np.arange(len(order)) - found.offsets[event]
        kept = place < most
        made: dict[str, np.ndarray] = {}
        for name in ("px", "py", "pz", "pdg", "row"):
            kind = np.int64 if name in ("pdg", "row") else np.float64
            made[name] = np.zeros((found.events, most), dtype=kind)
            made[name][event[kept], place[kept]] = getattr(found, name)[order][kept]
        return cls(**made)

    def repeated(self, copies: int) -> "Padded":
        """Return every event so many times."""
        return Padded(
            **{f.name: np.repeat(getattr(self, f.name), copies, axis=0) for f in dataclasses.fields(self)}
        )

    @property
    def pt(self) -> Float64[np.ndarray, "events objects"]:
        """Transverse momentum."""
        return np.asarray(np.hypot(self.px, self.py))

    @property
    def eta(self) -> Float64[np.ndarray, "events objects"]:
        """Pseudorapidity, 0 where there is no object."""
        pt = self.pt
        return np.asarray(np.arcsinh(self.pz / np.where(pt > 0, pt, 1.0)))

    @property
    def phi(self) -> Float64[np.ndarray, "events objects"]:
        """Azimuth."""
        return np.asarray(np.arctan2(self.py, self.px))


def events(sample: str, number: int, rng: np.random.Generator) -> Branches:
    """Return the primary quantities of so many selected events, by the challenge's names.

    Raises:
        ValueError: the sample is none of the challenge's.
    """
    if sample not in SAMPLES:
        raise ValueError(f"sample {sample!r} is not one of {', '.join(SAMPLES)}")
    parts, made = [], 0
    for batch in _batches(sample, rng):
        parts.append(_selected(batch, rng))
        made += len(parts[-1]["PRI_lep_pt"])
        if made >= number:
            break
    return {name: np.concatenate([part[name] for part in parts])[:number] for name in parts[0]}


def _batches(sample: str, rng: np.random.Generator) -> Iterator[EventRecord]:
    """Yield Pythia's events without an end, of the sample's processes in turn."""
    sources = [
        (share, Source(f"{sample}: {process.description}", process, seed=int(rng.integers(1, SEED_MAXIMUM))))
        for share, process in SAMPLES[sample]
    ]
    while True:
        for share, source in sources:
            yield source.batch(round(share * EVENTS_PER_BATCH))


def _selected(record: EventRecord, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the selected ones among copies of Pythia's events."""
    final, kind = record.status > 0, np.abs(record.pdg)
    charged = Padded.of(record.select(final & np.isin(kind, VISIBLE_LEPTONS)), MOST_LEPTONS)
    polarisation = tau_decays.polarisations(record, charged.row, charged.pdg, rng)
    neutrinos = record.select(final & np.isin(kind, NEUTRINOS))
    others = record.visible()
    others = others.select(~np.isin(np.abs(others.pdg), VISIBLE_LEPTONS))
    clustered = Padded.of(jets.cluster(others, jets.JETS).jets, MOST_JETS).repeated(COPIES)
    sums = [event_sums(neutrinos, neutrinos.px), event_sums(neutrinos, neutrinos.py)]
    missing = np.repeat(np.stack(sums), COPIES, axis=1)
    activity = np.repeat(event_sums(others, others.pt), COPIES)
    leptons, polarisation = charged.repeated(COPIES), np.repeat(polarisation, COPIES, axis=0)
    is_tau = np.abs(leptons.pdg) == tau_decays.TAU
    hadronic, share = tau_decays.decayed(is_tau, polarisation, rng)
    for component, momentum in enumerate((leptons.px, leptons.py)):
        missing[component] += np.sum((1.0 - share) * momentum, axis=1)
    seen = _measured(leptons, share, hadronic, rng)
    chosen, lepton, tau = _pair(leptons, seen, hadronic)
    missing -= _mismeasured(leptons, seen - share * leptons.pt)
    factor = _jet_factors(clustered, rng)
    missing -= _mismeasured(clustered, (factor - 1.0) * clustered.pt)
    total = activity + np.sum(share * leptons.pt, axis=1)
    missing += UNCLUSTERED.sigma(total) * rng.standard_normal(missing.shape)
    return _branches(
        {
            **_of_object("lep", leptons, seen, lepton),
            **_of_object("had", leptons, seen, tau),
            **_of_jets(clustered, factor * clustered.pt, leptons, (lepton, tau)),
            "PRI_met": np.hypot(*missing),
            "PRI_met_phi": np.arctan2(missing[1], missing[0]),
        },
        chosen,
    )


def _measured(
    leptons: Padded,
    share: Float64[np.ndarray, "events objects"],
    hadronic: Bool[np.ndarray, "events objects"],
    rng: np.random.Generator,
) -> Float64[np.ndarray, "events objects"]:
    """Return the measured transverse momenta of what the leptons leave; the true ones below 1 GeV."""
    true = share * leptons.pt
    usable = np.maximum(true, 1.0).ravel()
    of_lepton, of_tau = (
        resolution.factors(usable, rng).reshape(true.shape)
        for resolution in (LEPTON_RESOLUTION, TAU_RESOLUTION)
    )
    return np.asarray(np.where(true < 1.0, true, true * np.where(hadronic, of_tau, of_lepton)))


def _pair(
    leptons: Padded,
    seen: Float64[np.ndarray, "events objects"],
    hadronic: Bool[np.ndarray, "events objects"],
) -> tuple[Bool[np.ndarray, " events"], Int64[np.ndarray, " events"], Int64[np.ndarray, " events"]]:
    """Return which events have one lepton and one hadronic tau, of opposite charges, and their places."""
    eta = np.abs(leptons.eta)
    found = [
        ~hadronic & (seen > LEPTON_PT) & (eta < LEPTON_ETA),
        hadronic & (seen > TAU_PT) & (eta < TAU_ETA),
    ]
    one = [np.sum(own, axis=1) == 1 for own in found]
    lepton, tau = (np.argmax(own, axis=1) for own in found)
    signs = [np.sign(_at(leptons.pdg, place)) for place in (lepton, tau)]
    distance = _distance(leptons.eta, leptons.phi, leptons, lepton)
    apart = _at(distance, tau) > APART
    return one[0] & one[1] & (signs[0] != signs[1]) & apart, lepton, tau


def _jet_factors(true: Padded, rng: np.random.Generator) -> Float64[np.ndarray, "events objects"]:
    """Return measured over true transverse momenta of jets, 1 where there is none."""
    pt = np.maximum(true.pt, jets.JETS.pt_clustered)
    factors = jets.JETS.resolution.factors(pt.ravel(), rng).reshape(pt.shape)
    return np.where(true.pt > 0, factors, 1.0)


def _mismeasured(
    objects: Padded, added: Float64[np.ndarray, "events objects"]
) -> Float64[np.ndarray, "2 events"]:
    """Return the momentum (x, y) that measured transverse momenta are above the true ones."""
    return np.stack([np.sum(added * part(objects.phi), axis=1) for part in (np.cos, np.sin)])


def _of_object(
    name: str,
    objects: Padded,
    seen: Float64[np.ndarray, "events objects"],
    place: Int64[np.ndarray, " events"],
) -> dict[str, np.ndarray]:
    found = {"pt": seen, "eta": objects.eta, "phi": objects.phi}
    return {f"PRI_{name}_{what}": _at(array, place) for what, array in found.items()}


def _of_jets(
    found: Padded,
    pt: Float64[np.ndarray, "events objects"],
    leptons: Padded,
    places: tuple[Int64[np.ndarray, " events"], Int64[np.ndarray, " events"]],
) -> dict[str, np.ndarray]:
    """Return number, sum and the two hardest of the measured jets that are neither lepton nor tau."""
    eta, phi = found.eta, found.phi
    kept = (pt > JET_PT) & (np.abs(eta) < JET_ETA)
    for place in places:
        kept &= _distance(eta, phi, leptons, place) > APART
    pt = np.where(kept, pt, 0.0)
    order = np.argsort(-pt, axis=1)
    made = {"PRI_n_jets": np.sum(kept, axis=1), "PRI_jet_all_pt": np.sum(pt, axis=1)}
    for rank, name in enumerate(("leading", "subleading")):
        at, there = order[:, rank], made["PRI_n_jets"] > rank
        for what, array in {"pt": pt, "eta": eta, "phi": phi}.items():
            made[f"PRI_jet_{name}_{what}"] = np.where(there, _at(array, at), ABSENT)
    return made


def _at(array: np.ndarray, place: Int64[np.ndarray, " events"]) -> np.ndarray:
    return np.take_along_axis(array, place[:, np.newaxis], axis=1)[:, 0]


def _distance(
    eta: Float64[np.ndarray, "events objects"],
    phi: Float64[np.ndarray, "events objects"],
    leptons: Padded,
    place: Int64[np.ndarray, " events"],
) -> Float64[np.ndarray, "events objects"]:
    """Return the distances of objects from one lepton of their event."""
    turned = np.remainder(phi - _at(leptons.phi, place)[:, np.newaxis] + np.pi, 2 * np.pi) - np.pi
    return np.asarray(np.hypot(eta - _at(leptons.eta, place)[:, np.newaxis], turned))


def _branches(found: Mapping[str, np.ndarray], chosen: Bool[np.ndarray, " events"]) -> dict[str, np.ndarray]:
    return {name: array[chosen].astype(np.float32) for name, array in found.items()}
