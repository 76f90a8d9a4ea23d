"""The public door: generate, detect, write one ROOT file, all or nothing."""

import pathlib

import awkward as ak
import numpy as np

from pipeline.simulate.generate import EVENTS_MAXIMUM, Branches, event_numbers, stream, write
from pipeline.simulate.pythia.detector import observe
from pipeline.simulate.pythia.generator import SEED_MAXIMUM, EventRecord, generate, generator_weight
from pipeline.simulate.pythia.processes import PROCESSES, Process

LUMINOSITY_BLOCK = 1000  # events


def check(process: str, path: pathlib.Path, *, events: int, seed: int) -> None:
    """Refuse what cannot be generated before a minute is spent on it."""
    if process not in PROCESSES:
        raise ValueError(f"process {process!r} is not known; choose one of {', '.join(PROCESSES)}")
    if not 1 <= events <= EVENTS_MAXIMUM:
        raise ValueError(
            f"process {process!r}: events = {events}, allowed 1..{EVENTS_MAXIMUM}; "
            "write several files, each with a seed of its own"
        )
    if not 1 <= seed <= SEED_MAXIMUM:
        raise ValueError(
            f"process {process!r}: seed = {seed}, Pythia allows 1..{SEED_MAXIMUM}; choose one of these"
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; make it first")


def identifiers(events: int, seed: int) -> dict[str, np.ndarray]:
    """Run, luminosity block and event number (unique over seeds)."""
    index = np.arange(events, dtype=np.uint64)
    return {
        "run": np.ones(events, dtype=np.uint32),
        "luminosityBlock": (1 + index // LUMINOSITY_BLOCK).astype(np.uint32),
        "event": event_numbers(events, seed),
    }


def observed(record: EventRecord, process: Process, rng: np.random.Generator) -> dict[str, ak.Array]:
    """What the detector sees, the generator's weight, and those of other showers over it, by NanoAOD's names."""
    found, weight = observe(record, rng), generator_weight(record, process)
    nominal, *varied = record.shower_weights.T
    ratios = np.stack(varied or [nominal], axis=1) / nominal[:, None]
    return {
        **found,
        "genWeight": ak.Array((weight * nominal).astype(np.float32)),
        "PSWeight": ak.from_regular(ratios.astype(np.float32)),
    }


def arrays(process: str, *, events: int, seed: int) -> Branches:
    """Return all branches of a file; Pythia and the detector draw from streams of their own, fixed by the seed."""
    rng = stream(process, seed)
    batches = [
        observed(record, PROCESSES[process], rng) for record in generate(process, events=events, seed=seed)
    ]
    collections = {name: ak.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    met = {f"MET_{name}": collections["MET"][name] for name in ("pt", "phi")}
    jagged = {name: collections[name] for name in ("PSWeight", "Jet", "Electron", "Muon")}
    gen_weight = ak.to_numpy(collections["genWeight"])
    return {**identifiers(events, seed), "genWeight": gen_weight, **jagged, **met}


def simulate(process: str, path: pathlib.Path, *, events: int, seed: int) -> None:
    """Write ``events`` generated events of ``process`` to ``path``, every one of them, whatever the detector saw.

    So the weight of an event is cross-section x luminosity x ``genWeight`` / sum of ``genWeight``. The same
    (process, events, seed) give the same arrays on one kind of processor; other seeds give other events and numbers.
    """
    check(process, path, events=events, seed=seed)
    write(arrays(process, events=events, seed=seed), path)
