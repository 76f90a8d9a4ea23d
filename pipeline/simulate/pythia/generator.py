"""Pythia's events as flat NumPy arrays."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import awkward as ak
import numpy as np
import pythia8mc
from jaxtyping import Bool, Float64, Int, Int64

from pipeline.simulate.pythia.associated_top import AssociatedTop
from pipeline.simulate.pythia.processes import PROCESSES, Process

SEED_MAXIMUM = 900_000_000  # Pythia's own limit
EVENTS_PER_BATCH = 250  # bounds memory (about 40 MB of record); the content of a file depends on it
NEUTRINOS = (12, 14, 16)
W_BOSON = 24
ETA_VISIBLE = 5.0  # end of the calorimeters


@dataclasses.dataclass(frozen=True, kw_only=True)
class Particles:
    """Particles of ``events`` events, event after event; energies and momenta in GeV."""

    events: int
    event: Int64[np.ndarray, " particles"]
    row: Int64[np.ndarray, " particles"]
    pdg: Int[np.ndarray, " particles"]
    px: Float64[np.ndarray, " particles"]
    py: Float64[np.ndarray, " particles"]
    pz: Float64[np.ndarray, " particles"]
    energy: Float64[np.ndarray, " particles"]

    def select(self, mask: Bool[np.ndarray, " particles"]) -> "Particles":
        """Return the particles that pass; ``row`` still says where each was in the record."""
        arrays = {
            name: getattr(self, name)[mask] for name in ("event", "row", "pdg", "px", "py", "pz", "energy")
        }
        return Particles(events=self.events, **arrays)

    def within(self, *, pt: float, eta: float) -> Bool[np.ndarray, " particles"]:
        """Return whether pt is above ``pt`` and |pseudorapidity| below ``eta``, without dividing by pt = 0."""
        return np.asarray((self.pt > pt) & (np.abs(self.pz) < np.sinh(eta) * self.pt))

    @functools.cached_property
    def pt(self) -> Float64[np.ndarray, " particles"]:
        """Transverse momentum."""
        return np.asarray(np.hypot(self.px, self.py))

    @functools.cached_property
    def eta(self) -> Float64[np.ndarray, " particles"]:
        """Pseudorapidity; only for particles off the beam axis."""
        return np.asarray(np.arcsinh(self.pz / self.pt))

    @functools.cached_property
    def phi(self) -> Float64[np.ndarray, " particles"]:
        """Azimuth in (-pi, pi]."""
        return np.asarray(np.arctan2(self.py, self.px))

    @functools.cached_property
    def offsets(self) -> Int64[np.ndarray, " boundaries"]:
        """Where each event begins, and the end of the last."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.event, minlength=self.events))])


@dataclasses.dataclass(frozen=True, kw_only=True)
class EventRecord(Particles):
    """The whole event record, with status and the row of the first mother (row 0 of an event: itself).

    ``hardness`` is the transverse momentum [GeV] of the hard process, ``shower_weights`` are Pythia's, the nominal
    first.
    """

    status: Int[np.ndarray, " particles"]
    mother: Int64[np.ndarray, " particles"]
    hardness: Float64[np.ndarray, " events"]
    shower_weights: Float64[np.ndarray, "events weights"]

    @classmethod
    def from_batch(cls, batch: ak.Array) -> "EventRecord":
        """Return the particles that ``Pythia.nextBatch`` returns."""
        counts = ak.to_numpy(ak.num(batch.prt)).astype(np.int64)
        flat = ak.flatten(batch.prt)
        begins = np.repeat(np.cumsum(counts) - counts, counts)
        return cls(
            events=len(counts),
            event=np.repeat(np.arange(len(counts)), counts),
            row=np.arange(counts.sum()),
            pdg=ak.to_numpy(flat.id),
            px=ak.to_numpy(flat.p.px),
            py=ak.to_numpy(flat.p.py),
            pz=ak.to_numpy(flat.p.pz),
            energy=ak.to_numpy(flat.p.e),
            status=ak.to_numpy(flat.status),
            mother=begins + ak.to_numpy(flat.mother1),
            hardness=np.sqrt(ak.to_numpy(batch.info.pT2Hat)),
            shower_weights=_weights(batch),
        )

    def visible(self) -> Particles:
        """Return stable particles that leave energy or a track: no neutrinos, inside the calorimeters."""
        seen = (
            (self.status > 0) & ~np.isin(np.abs(self.pdg), NEUTRINOS) & self.within(pt=0.0, eta=ETA_VISIBLE)
        )
        return self.select(seen)

    def neutrinos(self) -> Particles:
        """Return stable neutrinos."""
        return self.select((self.status > 0) & np.isin(np.abs(self.pdg), NEUTRINOS))

    def to_leptons(self) -> Int64[np.ndarray, " events"]:
        """Return how many W bosons decayed to leptons."""
        neutrino = np.isin(np.abs(self.pdg), NEUTRINOS) & (np.abs(self.pdg[self.mother]) == W_BOSON)
        return np.bincount(self.event[neutrino], minlength=self.events)


def generator_weight(record: EventRecord, process: Process) -> Float64[np.ndarray, " events"]:
    """Return what an event stands for: a bias undone, and two charges where only one was generated."""
    weight = np.ones(record.events)
    if process.bias is not None:
        weight *= (process.bias.reference / record.hardness) ** process.bias.power
    if process.one_counts_twice:
        weight *= np.where(record.to_leptons() == 1, 2.0, 1.0)
    return weight


def _weights(batch: ak.Array) -> Float64[np.ndarray, "events weights"]:
    """Return Pythia's weights; 1 where no variations were asked for."""
    found = ak.to_regular(batch.info.weights)
    weights = np.asarray(ak.to_numpy(found), dtype=np.float64).reshape(len(batch), -1)
    return weights if weights.size else np.ones((len(batch), 1))


def heaviest_quark(pdg: Int[np.ndarray, " particles"]) -> Int[np.ndarray, " particles"]:
    """Return the flavour of the heaviest quark of a hadron (5 bottom, 4 charm ...), 0 for what is not a hadron.

    The Monte Carlo numbering scheme of the Review of Particle Physics: the thousands digit of a baryon, the
    hundreds digit of a meson.
    """
    digits = np.abs(pdg) % 10_000
    quark = np.where(digits >= 1000, digits // 1000, digits // 100)
    return np.where(np.abs(pdg) > 100, quark, 0)


def start(process: str, record: Process | None = None, *, seed: int) -> tuple[Any, AssociatedTop | None]:
    """Return Pythia ready to generate ``process``, and the hard process in Python, to be kept as long as Pythia.

    Args:
        record: what the process is, absent: the one of this name.
    """
    pythia = pythia8mc.Pythia("", False)  # built-in settings, no banner
    record = record or PROCESSES[process]
    for line in (*record.all_settings, "Random:setSeed = on", f"Random:seed = {seed}"):
        if not pythia.readString(line):
            raise RuntimeError(
                f"process {process!r}: Pythia does not accept the setting {line!r}; see PROCESSES"
            )
    hard_process = AssociatedTop() if record.associated_top else None
    if hard_process is not None:
        pythia.setSigmaPtr(hard_process)
    if not pythia.init():
        raise RuntimeError(
            f"process {process!r}: Pythia cannot start with the settings {record.settings}; see PROCESSES"
        )
    return pythia, hard_process


class Source:
    """Pythia at work on one process, as long as anybody asks for events."""

    def __init__(self, process: str, record: Process | None = None, *, seed: int) -> None:
        self._process = process
        self._pythia, self._hard_process = start(process, record, seed=seed)

    def batch(self, events: int) -> EventRecord:
        """Return the next so many events, fewer where Pythia gave up on some."""
        found = self._pythia.nextBatch(events)
        if len(found) == 0:
            raise RuntimeError(
                f"process {self._process!r}: Pythia made no event of a whole batch of {events}"
            )
        return EventRecord.from_batch(found)


def generate(process: str, *, events: int, seed: int) -> Iterator[EventRecord]:
    """Yield exactly ``events`` events in batches. An event Pythia gives up on is replaced by the next."""
    source = Source(process, seed=seed)
    made = 0
    while made < events:
        batch = source.batch(min(EVENTS_PER_BATCH, events - made))
        made += batch.events
        yield batch
