"""A large NanoAOD-like ROOT file from a small one: its events many times, numbered anew, jets' pt smeared.

Run from the repository: `.venv/bin/python tests/benchmarks/replicate.py SMALL.root LARGE.root --events 5000000`.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

TREE = "Events"
CLUSTER = 100_000  # events
SMEAR = 0.01  # of a jet's pt: copies differ, and pt compresses as badly as in a file of different events
COMPRESSION = uproot.ZLIB(1)  # as the AGC's files

Branches = dict[str, ak.Array]


def read(source: Path, names: Sequence[str] | None) -> Branches:
    """Branches of a file (None: all), those of a collection (`Jet_pt`, as there is `nJet`) as one field of records."""
    with uproot.open({source: TREE}) as tree:
        present = list(tree.iterkeys())
        counters = {f"n{name.partition('_')[0]}" for name in present}
        flat = tree.arrays([name for name in names or present if name not in counters])
    branches, collections = {}, {}
    for name in flat.fields:
        collection, _, field = name.partition("_")
        if field and f"n{collection}" in present:
            collections.setdefault(collection, {})[field] = flat[name]
        else:
            branches[name] = flat[name]
    return branches | {name: ak.zip(fields) for name, fields in collections.items()}


def smeared(jets: ak.Array, rng: np.random.Generator) -> ak.Array:
    """Jets with their pt times a normal number of their own; its type stays."""
    factors = 1 + SMEAR * rng.standard_normal(ak.sum(ak.num(jets)), dtype=np.float32)
    return ak.with_field(jets, jets.pt * ak.unflatten(factors, ak.num(jets)), "pt")


def clusters(originals: Branches, events: int, seed: int) -> Iterator[Branches]:
    """Copies of the events in random order, a cluster at a time; event numbers from 1, so exact in a double."""
    rng = np.random.default_rng(seed)
    available = len(next(iter(originals.values())))
    for start in range(0, events, CLUSTER):
        numbers = np.arange(start, min(start + CLUSTER, events))
        shuffled = rng.permutation(numbers) % available  # else ZLIB sees a period within its 32 kB window
        copies = {name: array[shuffled] for name, array in originals.items()}
        if "Jet" in copies and "pt" in copies["Jet"].fields:
            copies["Jet"] = smeared(copies["Jet"], rng)
        yield copies | {"event": ak.Array((1 + numbers).astype(np.uint64))}


def replicate(
    source: Path, path: Path, *, events: int, branches: Sequence[str] | None = None, seed: int = 1
) -> None:
    """Write `events` copies; memory is that of the source and a cluster. `branches` are beside event and counters."""
    with uproot.recreate(path, compression=COMPRESSION) as file:
        for cluster in clusters(read(source, branches), events, seed):
            if TREE not in file:
                file.mktree(TREE, {name: array.type.content for name, array in cluster.items()})
            file[TREE].extend(cluster)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("path", type=Path)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--branches", nargs="+", help="kept beside event and counters; default: all")
    replicate(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
