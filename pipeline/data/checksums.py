"""Checksums of files, in the spelling that catalogues of the field use: ``adler32:0a1b2c3d``, ``sha256:...``."""

import functools
import hashlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import uproot

DIGITS = {"adler32": 8, "sha256": 64}  # hexadecimal digits of each algorithm
BLOCK_BYTES = 1 << 23  # read at a time: bounds the memory, changes no result
SPELLING = "write adler32:<8 hexadecimal digits> or sha256:<64 hexadecimal digits>"


class Checksum(NamedTuple):
    """What a catalogue says of a file's bytes."""

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


def parse(text: object) -> Checksum:
    """Return the checksum that a manifest gives; leading zeros of an adler32 may be missing, as some tools drop them.

    Raises:
        ValueError: another algorithm, or no such number.
    """
    algorithm, _, value = text.partition(":") if isinstance(text, str) else ("", "", "")
    algorithm, value = algorithm.strip().lower(), value.strip().lower()
    digits = DIGITS.get(algorithm, 0)
    if algorithm == "adler32":
        value = value.rjust(min(len(value), 1) * digits, "0")
    if not digits or not re.fullmatch(f"[0-9a-f]{{{digits}}}", value):
        raise ValueError(f"'checksum' is {text!r}; {SPELLING}")
    return Checksum(algorithm, value)


def of(path: str, algorithm: str) -> Checksum:
    """Return the checksum of a file's bytes, all of them; a remote one is read whole over the network for it.

    A file that several ranges are read from is read once per process.

    Raises:
        OSError: it cannot be read; what uproot raises besides where it is remote.
    """
    if "://" in path:
        return _of_content(path, algorithm)
    status = Path(path).stat()
    return _of_content(path, algorithm, status.st_mtime_ns, status.st_size, status.st_ino)


@functools.lru_cache(maxsize=1 << 14)
def _of_content(path: str, algorithm: str, *version: int) -> Checksum:
    blocks = _remote(path) if "://" in path else _local(path)
    if algorithm == "adler32":
        return Checksum(algorithm, f"{functools.reduce(_with, blocks, zlib.adler32(b'')):08x}")
    total = hashlib.sha256()
    for block in blocks:
        total.update(block)
    return Checksum(algorithm, total.hexdigest())


def _with(value: int, block: bytes) -> int:
    return zlib.adler32(block, value)


def _local(path: str) -> Iterator[bytes]:
    with Path(path).open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            yield block


def _remote(path: str) -> Iterator[bytes]:
    with uproot.open({path: None}, array_cache=None) as root:
        source = root.file.source
        for start in range(0, source.num_bytes, BLOCK_BYTES):
            yield bytes(source.chunk(start, min(start + BLOCK_BYTES, source.num_bytes)).raw_data)
