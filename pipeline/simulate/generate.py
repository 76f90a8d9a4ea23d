"""Branches -> a ROOT file, whole or not there; and the generators that a configuration names."""

import uuid
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

from pipeline.config import targets
from pipeline.data import store
from pipeline.errors import ConfigError, Noting

TREE = "Events"
EVENTS_MAXIMUM = 1_000_000  # of a file; event number = seed * this + index < 2^53, so exact in a double too
COMPRESSION = uproot.ZLIB(1)  # as the AGC's files; every ROOT reader has it

Branches = Mapping[str, np.ndarray | ak.Array]
Generator = Callable[[str, int, np.random.Generator], Branches]


def write(branches: Branches, path: Path, tree: str = TREE) -> None:
    """Write one tree with one cluster beside ``path`` and rename it, so that ``path`` is whole or not there.

    The file's identity, by which the bootstrap knows it, is that of its name and event numbers: the same made anew.
    """
    first = np.asarray(branches.get("event", [0]))[:1]
    own = uuid.uuid5(uuid.NAMESPACE_OID, f"{path.name} {first}")
    with (
        store.replacing(path) as temporary,
        uproot.recreate(temporary, compression=COMPRESSION, uuid_function=lambda: own) as file,
    ):
        types = {
            name: np.dtype((array.dtype, array.shape[1:])) if isinstance(array, np.ndarray) else array.type
            for name, array in branches.items()
        }
        file.mktree(tree, types, title="simulated events")
        file[tree].extend(dict(branches))


def event_numbers(events: int, seed: int) -> np.ndarray:
    """Return numbers of the events of a file, unique over seeds."""
    return np.arange(events, dtype=np.uint64) + np.uint64(seed * EVENTS_MAXIMUM)


def stream(sample: str, seed: int) -> np.random.Generator:
    """Return random numbers of one file, fixed by the seed and the sample's name."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, zlib.crc32(sample.encode())))))


def generate(generator: str, sample: str, path: Path, *, events: int, seed: int) -> None:
    """Write the events that the function ``generator`` makes of a sample, and their numbers as branch ``event``.

    Raises:
        ConfigError: no such function, or it did not make so many events in flat or jagged arrays.
    """
    if not 1 <= events <= EVENTS_MAXIMUM:
        raise ConfigError(
            f"simulate.samples.{sample}: events_per_file {events}, allowed 1..{EVENTS_MAXIMUM}; write several files"
        )
    name = generator.partition(":")[2]
    function: Generator | None = getattr(targets.module(generator, "simulate.generator"), name, None)
    if function is None or not callable(function):
        raise ConfigError(f"simulate.generator {generator!r}: there is no function {name!r}")
    with Noting(f"in {generator}, sample {sample!r}"):
        made = function(sample, events, stream(sample, seed))
    if not isinstance(made, Mapping):
        raise ConfigError(
            f"simulate.generator {generator!r} returns a {type(made).__name__}; it must return {{branch: array}}"
        )
    for branch, array in made.items():
        if len(array) != events:
            raise ConfigError(
                f"simulate.generator {generator!r}: branch {branch!r} of {sample!r} has {len(array)} entries, "
                f"not {events}"
            )
    write({"event": event_numbers(events, seed), **made}, path)
