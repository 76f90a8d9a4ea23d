"""Numbers of a run as JSON that says which run they are of, and is refused where it was altered or mixed up."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.data import store
from pipeline.errors import InputError

HEADER, CONTENT = "header", "content"


def write(path: Path, content: Mapping[str, object], header: Mapping[str, object]) -> None:
    """Write JSON whose entry ``header`` says what it is, with a digest of all the rest."""
    sealed = {**header, CONTENT: _digest(content, header)}
    store.write_json(path, {HEADER: sealed, **content})


def read(path: Path, expected: Mapping[str, object]) -> dict[str, object]:
    """Return the content that ``write`` wrote, without its header.

    Raises:
        InputError: another kind of file, altered since, or of another run than ``expected`` says.
    """
    content = store.read_json(path)
    found: dict[str, object] = content if isinstance(content, dict) else {}
    header = found.pop(HEADER, None)
    if not isinstance(header, dict) or CONTENT not in header:
        raise InputError(f"{path} is no file of numbers written by this program; delete it and run again")
    digest = header.pop(CONTENT)
    store.require_header("file", path, header, expected)
    if _digest(found, header) != digest:
        raise InputError(f"{path} was altered after it had been written; delete it and run again")
    return found


def _digest(content: Mapping[str, object], header: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps([header, content], sort_keys=True).encode()).hexdigest()
