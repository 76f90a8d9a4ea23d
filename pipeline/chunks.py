"""A group's events as chunks of few shapes: read once by the process that works on them, and kept.

Most events have few jets. A chunk holds no more objects of a collection than its events need, rounded up to one of
`cluster.objects`: work that grows with the number of pairs or triplets then shrinks by an order of magnitude, for one
more compilation per size.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from pipeline import store
from pipeline.containers import Columns
from pipeline.problem import Group, Problem
from pipeline.templates import WEIGHT

Arrays = dict[str, np.ndarray]


@functools.cache
def chunks(group: Group, problem: Problem) -> list[Columns]:
    """A group's events as chunks of `problem.chunk_events` or fewer, the last of each shape filled up with weight 0.

    Values stay in float32, as stored; weights are in float64, times the group's scale.
    """
    arrays = _read(group)
    if not arrays:
        return []
    return [
        Columns({name: jnp.asarray(array) for name, array in chunk.items()})
        for part, length in _by_objects(arrays, problem)
        for chunk in _cut(part, length)
    ]


def resampled(chunk: Columns, group: Group, number: int, replica: int) -> Columns:
    """A chunk of a bootstrap sample: each event's weight times a Poisson number of mean 1.

    The numbers depend on the events of the group, the chunk's place in it and the replica alone.
    """
    seed = [int(file.content[:16], 16) for file in group.files]
    draws = np.random.default_rng([*seed, number, replica]).poisson(1.0, size=len(chunk.weight))
    return chunk.replace(weight=chunk.weight * draws.astype(np.float64))


def _read(group: Group) -> Arrays:
    files = [file for file in group.files if file.events]
    parts = [store.read_columns(Path(file.path), fold) for file in files for fold in group.folds]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    arrays[WEIGHT] = arrays[WEIGHT].astype(np.float64) * group.scale
    return arrays if len(arrays[WEIGHT]) else {}


def _by_objects(arrays: Arrays, problem: Problem) -> Iterator[tuple[Arrays, int]]:
    """The events parted by the size their collections fit into, each part trimmed to it and with its chunks' length.

    That is halved with every step of the ladder: the arrays of pairs and triplets stay about as large.
    """
    parts = [(arrays, problem.chunk_events)]
    for mask, sizes in problem.objects:
        members = (mask, *problem.analysis.collections[mask])
        parts = [
            (piece, max(1, length >> step))
            for part, length in parts
            for step, piece in _by_size(part, mask, members, sizes)
        ]
    yield from parts


def _by_size(
    arrays: Arrays, mask: str, members: tuple[str, ...], sizes: tuple[int, ...]
) -> Iterator[tuple[int, Arrays]]:
    full = arrays[mask].shape[1]
    ladder = np.array([*(size for size in sizes if size < full), full])
    present = arrays[mask] != 0
    needed = np.where(present.any(axis=1), full - np.argmax(present[:, ::-1], axis=1), 0)
    steps = np.searchsorted(ladder, needed)
    for step, size in enumerate(ladder):
        chosen = steps == step
        if chosen.any():
            yield (
                step,
                {n: a[chosen][:, :size] if n in members else a[chosen] for n, a in arrays.items()},
            )


def _cut(arrays: Arrays, length: int) -> Iterator[Arrays]:
    """Pieces of `length` events; the last is filled up with its own first event, a real one, at weight 0."""
    for start in range(0, len(arrays[WEIGHT]), length):
        yield {name: _filled(name, array[start : start + length], length) for name, array in arrays.items()}


def _filled(name: str, piece: np.ndarray, length: int) -> np.ndarray:
    filler = np.repeat(piece[:1], length - len(piece), axis=0)
    return np.concatenate([piece, np.zeros_like(filler) if name == WEIGHT else filler])
