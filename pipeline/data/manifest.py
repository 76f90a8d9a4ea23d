"""A manifest: the files of each process and variation, what it promises of each, and their checksums.

It is the Analysis Grand Challenge's ``nanoaod_inputs.json`` as it is, process -> variation ->
{nevts_total, files: [{path, nevts}]}, in which a file may have a ``checksum`` as well.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

from pipeline.data import checksums
from pipeline.data.jsonfiles import read_json
from pipeline.errors import InputError, nearest

SHAPE = "a manifest is process -> variation -> {nevts_total, files: [{path, nevts}]}, a file may have a 'checksum'"
KEYS = ("path", "nevts", "checksum")
PATH_LENGTH, NAME_BYTES = 4000, 255  # what Linux takes, with room for a folder before it
ALIKE = 0.75  # of 1, by difflib: a key as close as this to one of the three is taken for a slip


class Planned(TypedDict):
    """A file of a manifest that this program writes."""

    path: str
    nevts: int


class FilesOfVariation(TypedDict):
    """The files of a variation, and the events of them all."""

    files: list[Planned]
    nevts_total: int


Manifest = dict[str, dict[str, FilesOfVariation]]


class Listed(NamedTuple):
    """A file of a manifest: where it is, and what is promised of it."""

    path: str
    entries: int | None
    checksum: str | None = None


def read(path: Path) -> dict[str, object]:
    """Return the content of the manifest of a run.

    Raises:
        InputError: it cannot be read, or is none.
    """
    try:
        content = read_json(path)
    except InputError as error:
        raise InputError(f"data.manifest: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"data.manifest {path} holds a {type(content).__name__}; {SHAPE}")
    return content


def listed(content: Mapping[str, object], process: str, variation: str, where: str) -> list[Listed]:
    """Return the files of one variation of a process, in the manifest's order.

    Raises:
        InputError: there is none, or an entry that is no file.
    """
    if process not in content:
        raise InputError(f"sample {process!r} of data.samples is not in {where}; {nearest(process, content)}")
    variations = _mapping(content[process], f"{where}: {process}")
    if variation not in variations:
        known = nearest(variation, variations)
        raise InputError(f"sample {process!r}: variation {variation!r} is not in {where}; {known}")
    here = f"{where}: {process}/{variation}"
    files = _mapping(variations[variation], here).get("files")
    if not isinstance(files, list) or not files:
        raise InputError(f"{here}: 'files' is {_short(files)}, not a list with at least one file; {SHAPE}")
    return [_file(file, f"{here}: files[{index}]") for index, file in enumerate(files)]


def require_listed_once(files: Sequence[Listed], where: str) -> None:
    """Raise where a path is there twice."""
    paths: set[str] = set()
    for index, file in enumerate(files):
        if file.path in paths:
            raise InputError(
                f"{where}: files[{index}]: {file.path} is listed twice; its events would count twice, remove one, or "
                "say that it is meant with data.allow_repeated: true"
            )
        paths.add(file.path)


def _file(entry: object, here: str) -> Listed:
    file = _mapping(entry, here)
    path, events = file.get("path"), file.get("nevts")
    if not isinstance(path, str) or not path:
        raise InputError(f"{here}: 'path' is {_short(path)}, not the path of a file; {SHAPE}")
    if events is not None and (type(events) is not int or events < 0):
        raise InputError(f"{here}: 'nevts' is {_short(events)}, not a number of events; {SHAPE}")
    _require_possible(path, here)
    _require_no_slip(file, here)
    if file.get("checksum") is None:
        return Listed(path, events)
    try:
        return Listed(path, events, str(checksums.parse(file["checksum"])))
    except ValueError as error:
        raise InputError(f"{here}, {path}: {error}") from error


def _require_possible(path: str, here: str) -> None:
    """Refuse a path that no file system takes, with the file's name."""
    try:
        names = path.encode().split(b"/")
    except UnicodeEncodeError as error:
        raise InputError(f"{here}: 'path' {_short(path)} is no text: {error.reason}") from error
    longest = 0 if "://" in path else max(map(len, names))
    if "\0" in path or len(path) > PATH_LENGTH or longest > NAME_BYTES:
        raise InputError(
            f"{here}: 'path' {_short(path)} is none that a file can have: at most {PATH_LENGTH} characters, "
            f"{NAME_BYTES} bytes between two /, none of them NUL; correct it"
        )


def _require_no_slip(file: Mapping[str, object], here: str) -> None:
    """Refuse a misspelt key, a promise that nobody would keep; keys of other programs pass."""
    for key in file:
        if key in KEYS:
            continue
        if key.lower() in checksums.DIGITS:
            raise InputError(f"{here}: key {key!r}; write 'checksum': '{key.lower()}:{file[key]}'")
        missing = [known for known in KEYS if known not in file]
        if close := difflib.get_close_matches(key.lower(), missing, n=1, cutoff=ALIKE):
            raise InputError(f"{here}: key {key!r} means nothing here; is {close[0]!r} meant?")


def _mapping(content: object, where: str) -> Mapping[str, object]:
    if not isinstance(content, dict):
        raise InputError(f"{where} is {_short(content)}; {SHAPE}")
    return content


def _short(value: object, length: int = 60) -> str:
    text = "missing" if value is None else repr(value)
    return text if len(text) <= length else f"{text[:length]}..."
