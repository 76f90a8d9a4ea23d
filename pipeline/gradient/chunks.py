"""A group's events as chunks of few shapes, read once by the process that works on them.

Most events have few jets. A chunk holds no more objects of a collection than its events need, rounded up to one of
``cluster.objects``: work that grows with the number of pairs or triplets then shrinks by an order of magnitude, for one
more compilation per size.

Chunks stay in memory, on the device where there is one, up to a budget. Those of further groups are written to a
scratch file as they are and mapped into memory when a sweep comes by, so the memory a process needs does not grow
with its events, and the numbers are the same.
"""

import itertools
import math
import mmap
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt64

from pipeline.analysis import EVENT_NUMBER
from pipeline.containers import AnyArray, Columns
from pipeline.data import column_file, event_random, store
from pipeline.errors import OutputError
from pipeline.gradient.work import Group, Layout, Problem
from pipeline.templates.variations import WEIGHT

Arrays = dict[str, np.ndarray]
ArraysKind = tuple[tuple[str, tuple[int, ...], np.dtype], ...]  # names, shapes and types of a chunk's arrays
FACTOR = "__factor"  # of each event, on whatever weight an analysis observes
ALIGNMENT = 64  # bytes: XLA takes arrays that start there as they are


class _Scratch:
    """A group's chunks in a file without a name: it is gone with the process, however that ends.

    Chunks of the same arrays share what is remembered of them, but for the place where they begin.
    """

    def __init__(self, chunks: Iterable[Arrays], folder: Path | None) -> None:
        self._kinds: list[ArraysKind] = []
        begins, kinds = [], []
        with tempfile.TemporaryFile(dir=folder) as file:
            for chunk in chunks:
                kind = tuple((name, values.shape, values.dtype) for name, values in chunk.items())
                if kind not in self._kinds:
                    self._kinds.append(kind)
                begins.append(_aligned(file.tell()))
                kinds.append(self._kinds.index(kind))
                for values in chunk.values():
                    file.seek(_aligned(file.tell()))
                    file.write(np.ascontiguousarray(values).data)
            file.flush()
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._begin, self._kind = np.array(begins), np.array(kinds, dtype=np.int16)

    def __iter__(self) -> Iterator[Columns]:
        self._mapped.madvise(mmap.MADV_WILLNEED)
        for begin, kind in zip(self._begin, self._kind, strict=True):
            yield Columns(dict(_views(self._mapped, int(begin), self._kinds[kind])))
        self._mapped.madvise(mmap.MADV_DONTNEED)  # the system may keep the pages; this process does not


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _views(mapped: mmap.mmap, begin: int, kind: ArraysKind) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays of a chunk, one after the other in the file."""
    for name, shape, dtype in kind:
        begin = _aligned(begin)
        number = math.prod(shape)
        yield name, np.frombuffer(mapped, dtype, count=number, offset=begin).reshape(shape)
        begin += number * dtype.itemsize


class _Kept(NamedTuple):
    """Chunks, the bytes of memory that they take, and what they were made for."""

    chunks: Iterable[Columns]
    size: int
    version: Hashable


class Resident:
    """The events that a process holds: in memory as far as ``budget`` bytes go, the others on disk.

    The executor or the worker makes one and hands it to every function of a sweep.
    """

    def __init__(self, budget: float = math.inf, scratch: Path | None = None) -> None:
        self.budget, self.scratch, self.used = budget, scratch, 0
        self._kept: dict[tuple[Group, Hashable], _Kept] = {}

    def chunks(self, group: Group, problem: Problem) -> Iterable[Columns]:
        """Return a group's events as chunks of at most the layout's length.

        The last chunk of each shape is filled up with events of weight 0. Values keep their types, as stored;
        weights are in float64. In place of event numbers there are keys, by which ``copies`` knows the
        events, and beside them the factors of ``Parts``.
        """
        key = (group, problem.layout)
        if key not in self._kept:
            self._forget_former(group)
        return self.made(key, None, lambda: _arrays(group, problem.layout))

    def made(
        self, key: tuple[Group, Hashable], version: Hashable, make: Callable[[], Iterator[Arrays]]
    ) -> Iterable[Columns]:
        """Return arrays for every chunk of a group, made where this version is not there; earlier ones go."""
        known = self._kept.get(key)
        if known is None or known.version != version:
            self.drop(lambda other: other == key)
            self._kept[key] = known = self._keep(make(), version)
        return known.chunks

    def drop(self, chosen: Callable[[tuple[Group, Hashable]], bool]) -> None:
        """Forget what is kept by the chosen keys."""
        for key in list(filter(chosen, self._kept)):
            self.used -= self._kept.pop(key).size

    def _forget_former(self, group: Group) -> None:
        """Drop chunks of column files that hold other events by now, as after an edit of the analysis."""
        now = {file.path: file.content for file in group.files}
        self.drop(lambda key: any(now.get(f.path, f.content) != f.content for f in key[0].files))

    def _keep(self, chunks: Iterator[Arrays], version: Hashable) -> _Kept:
        """Return the chunks in memory, or on disk from the first one on that the budget has no room for."""
        held, size = [], 0
        for chunk in chunks:
            held.append(chunk)
            size += sum(array.nbytes for array in chunk.values())
            if self.used + size > self.budget:
                return _Kept(self._spilled(itertools.chain(_emptied(held), chunks)), 0, version)
        self.used += size
        columns = [Columns({name: jnp.asarray(array) for name, array in chunk.items()}) for chunk in held]
        return _Kept(columns, size, version)

    def _spilled(self, chunks: Iterable[Arrays]) -> _Scratch:
        try:
            return _Scratch(chunks, self.scratch)
        except OSError as error:
            raise OutputError(
                f"cannot write events to the scratch folder {self.scratch or tempfile.gettempdir()}: "
                f"{error.strerror or error}; set cluster.scratch to a local disk with more space, or raise "
                "cluster.memory_mb"
            ) from error


def _emptied(held: list[Arrays]) -> Iterator[Arrays]:
    """Yield the chunks of a list, each forgotten by it when its turn comes."""
    held.reverse()
    while held:
        yield held.pop()


class Parts(NamedTuple):
    """The columns of a chunk that an analysis sees; of its events the keys, and the factors on all observed weights.

    A factor is the normalisation of the sample, and 0 for what only fills up a chunk: so what an analysis makes of the
    weight, or of another column in its place, counts no event that is none.
    """

    columns: Columns
    keys: UInt64[AnyArray, " events"]
    factor: Float[AnyArray, " events"]


def parted(chunk: Columns) -> Parts:
    """Return the arrays of a chunk."""
    seen = Columns({n: a for n, a in chunk.arrays.items() if n not in (EVENT_NUMBER, FACTOR)})
    return Parts(seen, chunk.arrays[EVENT_NUMBER], chunk.arrays[FACTOR])


def copies(keys: UInt64[AnyArray, " events"], replica: int | None) -> Float[np.ndarray, " events"]:
    """Return how often each event is in a bootstrap sample, a Poisson number of mean 1; once each without a replica.

    A function of the event's number, its file and the replica alone: copies of an event have the same, in any chunk.
    """
    return np.ones(len(keys)) if replica is None else event_random.poisson(np.asarray(keys), replica)


def _arrays(group: Group, layout: Layout) -> Iterator[Arrays]:
    """Yield the chunks of a group, with one file in memory at a time.

    Events that fill no chunk wait for those of the next file.
    """
    waiting: dict[Hashable, tuple[Arrays, int]] = {}
    for part in _parts(group):
        for piece, length in _by_objects(part, layout):
            kind = tuple(
                (array.shape[1:], array.dtype) for array in piece.values()
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
    for file in group.files:
        for fold in group.folds if file.events else ():
            part = store.read_columns(Path(file.path), fold, file.content)
            if len(part[WEIGHT]):
                weight = part[WEIGHT].astype(np.float64)
                origin = column_file.read(Path(file.path)).event_numbers_of or file.content
                numbers = part.get(EVENT_NUMBER, np.arange(len(weight)))
                keys = event_random.keys(numbers, origin)
                factor = np.full(len(weight), group.scale)
                yield {**part, WEIGHT: weight, EVENT_NUMBER: keys, FACTOR: factor}


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
