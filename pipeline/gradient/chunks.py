"""A group's events, cut into chunks of few shapes.

Most events have few jets. A chunk holds no more objects of a collection than its events need, rounded up to one of
``cluster.objects``: work that grows with the number of pairs or triplets then shrinks by an order of magnitude, for one
more compilation per size.
"""

import itertools
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt64

from pipeline.analysis import EVENT_NUMBER
from pipeline.containers import AnyArray, Columns
from pipeline.data import column_file, event_random
from pipeline.gradient.scratch import Arrays
from pipeline.gradient.work import Group, Layout
from pipeline.templates.variations import WEIGHT

FACTOR = "__factor"  # of each event, on whatever weight an analysis observes


class Parts(NamedTuple):
    """The columns of a chunk that an analysis sees, and the factors on all observed weights.

    A factor is the normalisation of the sample, and 0 for what only fills up a chunk: so what an analysis makes of the
    weight, or of another column in its place, counts no event that is none.
    """

    columns: Columns
    factor: Float[AnyArray, "*chunks events"]


def parted(chunk: Columns) -> Parts:
    """Return the arrays of a chunk, or of several stacked."""
    seen = Columns({name: array for name, array in chunk.arrays.items() if name != FACTOR})
    return Parts(seen, chunk.arrays[FACTOR])


def copies(
    keys: UInt64[np.ndarray, "*chunks events"], replica: int | None
) -> Float[np.ndarray, "*chunks events"]:
    """Return how often each event is in a bootstrap sample, a Poisson number of mean 1; once each without a replica.

    A function of the event's number, its file and the replica alone: copies of an event have the same, in any chunk.
    """
    if replica is None:
        return np.ones(keys.shape)
    return event_random.poisson(keys.ravel(), replica).reshape(keys.shape)


def cut(group: Group, layout: Layout) -> Iterator[Arrays]:
    """Yield the chunks of a group, of the layout's length or fewer events, with one column file in memory at a time.

    Events that fill no chunk wait for those of the next file; the last chunk of each shape is filled up. Values keep
    their types; weights are in float64; in place of event numbers there are keys.
    """
    waiting: dict[Hashable, tuple[Arrays, int]] = {}
    for part in _parts(group):
        for half, piece, length in _pieces(part, layout):
            kind = (
                half,
                *((array.shape[1:], array.dtype) for array in piece.values()),
            )  # never mixed: that rounds
            if kind in waiting:
                piece = {n: np.concatenate([a, piece[n]]) for n, a in waiting[kind][0].items()}
            whole = len(piece[WEIGHT]) // length * length
            yield from _cut({n: a[:whole] for n, a in piece.items()}, length)
            waiting[kind] = {n: a[whole:].copy() for n, a in piece.items()}, length
    for rest, length in waiting.values():
        yield from _cut(rest, length)


def _parts(group: Group) -> Iterator[Arrays]:
    """Yield events of each file and fold, with the group's scale for a factor, and keys for their numbers."""
    with_events = [file for file in group.files if file.events]
    for (path, content), files in itertools.groupby(with_events, key=lambda file: (file.path, file.content)):
        wanted = [file.source for file in files]
        for source, part in column_file.read_sources(Path(path), wanted, group.folds, content):
            if len(part[WEIGHT]):
                weight = part[WEIGHT].astype(np.float64)
                numbers = part.get(EVENT_NUMBER, np.arange(len(weight)))
                keys = event_random.keys(numbers, source.event_numbers_of or source.digest)
                factor = np.full(len(weight), group.scale)
                yield {**part, WEIGHT: weight, EVENT_NUMBER: keys, FACTOR: factor}


def _pieces(arrays: Arrays, layout: Layout) -> Iterator[tuple[int, Arrays, int]]:
    """Yield the events by their half, where the layout parts these, and by the size that their collections fit into."""
    if not layout.halves:
        yield from ((0, piece, length) for piece, length in _by_objects(arrays, layout))
        return
    halves = event_random.half(arrays[EVENT_NUMBER])
    for half in (0, 1):
        own = {name: array[halves == half] for name, array in arrays.items()}
        if len(own[WEIGHT]):
            yield from ((half, piece, length) for piece, length in _by_objects(own, layout))


def _by_objects(arrays: Arrays, layout: Layout) -> Iterator[tuple[Arrays, int]]:
    """Yield the events in parts, by the size that their collections fit into.

    Each part is trimmed to that size, and comes with the length of its chunks. The length is halved with
    every step of the ladder, so that the arrays of pairs and triplets stay about as large.
    """
    parts = [(arrays, layout.chunk_events)]
    for members, sizes in layout.collections:
        parts = [
            (piece, max(1, length >> step))
            for part, length in parts
            for step, piece in _by_size(part, members, sizes)
        ]
    yield from parts


def _by_size(
    arrays: Arrays, members: tuple[str, ...], sizes: tuple[int, ...]
) -> Iterator[tuple[int, Arrays]]:
    mask = members[0]
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
    """Yield pieces of ``length`` events; the last is filled up with its own first event, a real one, at weight 0."""
    for start in range(0, len(arrays[WEIGHT]), length):
        yield {name: _filled(name, array[start : start + length], length) for name, array in arrays.items()}


def _filled(name: str, piece: np.ndarray, length: int) -> np.ndarray:
    filler = np.repeat(piece[:1], length - len(piece), axis=0)
    return np.concatenate([piece, np.zeros_like(filler) if name in (WEIGHT, FACTOR) else filler])
