"""Arrays on disk, mapped into memory while they are looked at."""

import math
import mmap
import tempfile
import weakref
from collections import defaultdict
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from pipeline.errors import OutputError

Arrays = dict[str, np.ndarray]
ArraysKind = tuple[tuple[str, tuple[int, ...], np.dtype], ...]  # names, shapes and types of arrays
ALIGNMENT = 64  # bytes: XLA takes arrays that start there as they are


class OnDisk(NamedTuple):
    """Where arrays lie in a scratch file, one after the other: names, shapes and types."""

    begin: int
    size: int
    kind: ArraysKind


class Scratch:
    """A file without a name: it is gone with the process, however that ends. Room that is given back is used again."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._end = 0
        self._room: dict[int, list[int]] = defaultdict(list)  # where there is room for so many bytes

    def write(self, arrays: Arrays) -> OnDisk:
        """Write arrays.

        Raises:
            OutputError: there is no space, or no permission.
        """
        kind = kind_of(arrays)
        size = _aligned(sum(_aligned(array.nbytes) for array in arrays.values()), mmap.ALLOCATIONGRANULARITY)
        try:
            stored = OnDisk(self._place(size), size, kind)
            self._put(stored, arrays)
        except OSError as error:
            raise OutputError(
                f"cannot write events to the scratch folder {self._folder or tempfile.gettempdir()}: "
                f"{error.strerror or error}; set cluster.scratch to a local disk with more space, or raise "
                "cluster.memory_mb"
            ) from error
        return stored

    def read(self, stored: OnDisk) -> Arrays:
        """Return arrays as they lie in the file; it is mapped as long as one of them is there."""
        if self._file is None:
            raise ValueError("nothing was written")
        mapped = mmap.mmap(self._file.fileno(), stored.size, access=mmap.ACCESS_READ, offset=stored.begin)
        mapped.madvise(mmap.MADV_WILLNEED)
        found, begin = {}, 0
        for name, shape, dtype in stored.kind:
            number = math.prod(shape)
            found[name] = np.frombuffer(mapped, dtype, count=number, offset=begin).reshape(shape)
            begin += _aligned(number * dtype.itemsize)
        return found

    def release(self, stored: OnDisk) -> None:
        """Give back the room of arrays that nobody reads any more."""
        self._room[stored.size].append(stored.begin)

    def _place(self, size: int) -> int:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # open as long as this object
            weakref.finalize(self, self._file.close)
        if self._room[size]:
            return self._room[size].pop()
        self._end += size
        return self._end - size

    def _put(self, stored: OnDisk, arrays: Arrays) -> None:
        file = self._file
        if file is None:
            raise ValueError("there is no file")
        begin = stored.begin
        for array in arrays.values():
            file.seek(begin)
            file.write(np.ascontiguousarray(array).data)
            begin += _aligned(array.nbytes)
        file.truncate(max(self._end, stored.begin + stored.size))
        file.flush()


def kind_of(arrays: Arrays) -> ArraysKind:
    """Return the names, shapes and types of arrays."""
    return tuple((name, array.shape, array.dtype) for name, array in arrays.items())


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return zeros that XLA takes as they are."""
    size = math.prod(shape) * dtype.itemsize
    room = np.zeros(size + ALIGNMENT, dtype=np.uint8)
    begin = -room.ctypes.data % ALIGNMENT
    return room[begin : begin + size].view(dtype).reshape(shape)


def _aligned(size: int, to: int = ALIGNMENT) -> int:
    return -(-size // to) * to
