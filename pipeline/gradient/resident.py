"""The events that a process holds: chunks of one shape stacked, so that one program goes through many of them.

Stacks stay in memory, on the device where there is one, up to a budget. Further ones are written to a scratch file as
they are and mapped into memory when a sweep comes by, so the memory that a process needs does not grow with its events,
and the numbers are the same.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt64

from pipeline.analysis import EVENT_NUMBER
from pipeline.containers import AnyArray, Columns
from pipeline.gradient.chunks import cut
from pipeline.gradient.scratch import Arrays, ArraysKind, Scratch, aligned_zeros, kind_of
from pipeline.gradient.work import Group, Layout, Problem

STACK = 2**24  # bytes of a stack, about; the last one of each shape is as large, however few chunks it holds
MOST_CHUNKS = 64  # of a stack


class ChunkId(NamedTuple):
    """Where a chunk belongs: its group, and its number there."""

    group: Group
    number: int


class Share(NamedTuple):
    """The chunks of some groups that lie in one stack: at which of its places, and where each belongs.

    The keys of the events stay in this process; what a program is given are the columns.
    """

    columns: Columns  # [chunks, events, ...]
    keys: UInt64[np.ndarray, "chunks events"]
    places: tuple[int, ...]
    owners: tuple[ChunkId, ...]

    def chunk(self, place: int) -> Columns:
        """Return one chunk, [events, ...]."""
        return Columns({name: array[place] for name, array in self.columns.arrays.items()})


class _Held(NamedTuple):
    """How to get arrays [chunks, events, ...], the bytes of memory that they take, and how to give back others."""

    arrays: Callable[[], dict[str, AnyArray]]
    size: int
    release: Callable[[], None]


class _Stack:
    """Chunks of one shape; and what a stage without a derivative made of them last."""

    def __init__(self, owners: Sequence[ChunkId], room: int, held: _Held) -> None:
        self.owners, self.room, self.held = tuple(owners), room, held
        self.made: tuple[Hashable, _Held] | None = None


class Resident:
    """The events that a process holds: in memory as far as ``budget`` bytes go, the others on disk.

    The executor or the worker makes one and hands it to every function of a sweep.
    """

    def __init__(self, budget: float = math.inf, scratch: Path | None = None) -> None:
        self.budget, self.used = budget, 0
        self._scratch = Scratch(scratch)
        self._stacks: dict[Layout, list[_Stack]] = {}

    def shares(self, groups: Iterable[Group], problem: Problem) -> Iterator[Share]:
        """Yield the chunks of some groups, stack by stack; what is not there yet is read first.

        Values keep their types, as stored; weights are in float64. Beside the columns there are the factors of
        ``Parts``, and the keys by which ``copies`` knows the events.
        """
        for stack, places in self._at(groups, problem.layout):
            yield _share(stack, places, stack.held.arrays())

    def completed(
        self,
        groups: Iterable[Group],
        problem: Problem,
        version: Hashable,
        make: Callable[[ChunkId, Columns], Arrays],
    ) -> Iterator[Share]:
        """Yield the same with further columns, made where those of this version are not there; earlier ones go.

        Args:
            version: what they are made at.
            make: a chunk's further columns, of its own ones.
        """
        for stack, places in self._at(groups, problem.layout):
            if stack.made is None or stack.made[0] != version:
                self._forget_made(stack)
                chunk = _share(stack, (), stack.held.arrays()).chunk
                made = [make(owner, chunk(place)) for place, owner in enumerate(stack.owners)]
                stack.made = version, self._kept(_stacked(made, stack.room))
            yield _share(stack, places, {**stack.held.arrays(), **stack.made[1].arrays()})

    def _at(self, groups: Iterable[Group], layout: Layout) -> Iterator[tuple[_Stack, tuple[int, ...]]]:
        """Yield stacks and the places in them that hold chunks of some groups."""
        wanted = set(groups)
        if wanted - self._known(layout):
            self._forget_former(wanted)
            known = self._known(layout)
            self._read([group for group in groups if group not in known], layout)
        for stack in list(self._stacks[layout]):
            places = tuple(place for place, owner in enumerate(stack.owners) if owner.group in wanted)
            if places:
                yield stack, places

    def _known(self, layout: Layout) -> set[Group]:
        return {owner.group for stack in self._stacks.get(layout, ()) for owner in stack.owners}

    def _read(self, groups: Iterable[Group], layout: Layout) -> None:
        """Read groups into new stacks."""
        waiting: dict[ArraysKind, list[tuple[ChunkId, Arrays]]] = {}
        for group in groups:
            for number, chunk in enumerate(cut(group, layout)):
                own = waiting.setdefault(kind_of(chunk), [])
                own.append((ChunkId(group, number), chunk))
                if len(own) == _room(chunk):
                    self._add(layout, waiting.pop(kind_of(chunk)))
        for own in waiting.values():
            self._add(layout, own)

    def _add(self, layout: Layout, chunks: Sequence[tuple[ChunkId, Arrays]]) -> None:
        """Add a stack of chunks of one shape."""
        room = _room(chunks[0][1])
        held = self._kept(_stacked([chunk for _, chunk in chunks], room))
        stack = _Stack([owner for owner, _ in chunks], room, held)
        self._stacks.setdefault(layout, []).append(stack)

    def _kept(self, arrays: Arrays) -> _Held:
        """Return arrays in memory, on the device where there is one; on disk where the budget has no room for them.

        No program is given the keys: they stay out of the device.
        """
        size = sum(array.nbytes for array in arrays.values())
        if self.used + size > self.budget:
            stored = self._scratch.write(arrays)
            return _Held(lambda: {**self._scratch.read(stored)}, 0, lambda: self._scratch.release(stored))
        self.used += size
        held = {n: array if n == EVENT_NUMBER else jnp.asarray(array) for n, array in arrays.items()}
        return _Held(lambda: held, size, lambda: None)

    def _forget_former(self, groups: Iterable[Group]) -> None:
        """Drop all where a column file holds other events by now, as after an edit of the analysis."""
        now = {file.path: file.content for group in groups for file in group.files}
        for layout, stacks in self._stacks.items():
            if any(_differs(group, now) for group in self._known(layout)):
                for stack in stacks:
                    self._forget_made(stack)
                    self._forget(stack.held)
                self._stacks[layout] = []

    def _forget_made(self, stack: _Stack) -> None:
        if stack.made is not None:
            self._forget(stack.made[1])
            stack.made = None

    def _forget(self, held: _Held) -> None:
        self.used -= held.size
        held.release()


def in_order(shares: Iterable[Share]) -> list[Columns]:
    """Return the chunks of one group, by their numbers."""
    found = {
        owner.number: share.chunk(place)
        for share in shares
        for place, owner in zip(share.places, share.owners, strict=True)
    }
    return [chunk for _, chunk in sorted(found.items())]


def _share(stack: _Stack, places: tuple[int, ...], arrays: dict[str, AnyArray]) -> Share:
    columns = {name: array for name, array in arrays.items() if name != EVENT_NUMBER}
    keys = np.asarray(arrays[EVENT_NUMBER])
    return Share(Columns(columns), keys, places, tuple(stack.owners[place] for place in places))


def _room(chunk: Arrays) -> int:
    """Return the number of chunks of a shape that a stack has room for: a power of 2."""
    size = sum(array.nbytes for array in chunk.values())
    return min(MOST_CHUNKS, 1 << max(0, math.frexp(STACK / max(size, 1))[1] - 1))


def _stacked(chunks: Sequence[Arrays], room: int) -> Arrays:
    """Return chunks of one shape side by side; the places that are left stay 0."""
    found = {}
    for name, array in chunks[0].items():
        found[name] = aligned_zeros((room, *array.shape), array.dtype)
        for place, chunk in enumerate(chunks):
            found[name][place] = chunk[name]
    return found


def _differs(group: Group, now: Mapping[str, str]) -> bool:
    """Return whether a column file of a group has another content now."""
    return any(now.get(file.path, file.content) != file.content for file in group.files)
