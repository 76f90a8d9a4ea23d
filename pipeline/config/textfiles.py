"""Text files: UTF-8 whatever the locale, ordinary files only, and no larger than what they are for."""

import json
import math
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ENCODING = "utf-8"
LONGEST_SHOWN = 100  # characters of a text or a value that a message repeats
LONGEST_PATH = 500  # characters of a path that a message repeats; few are longer
DEEPEST = 100  # levels of nesting that a file may have: far more than a person writes
MEGABYTE = 1_000_000
LARGEST_JSON = 500 * MEGABYTE  # a manifest of a million files has a third of it
TOO_DEEP = f"it is nested more than {DEEPEST} levels deep"
ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")  # of a character, or a half of one, that no text holds
WHOLE_NUMBERS = 2**64  # integers are below it in size; YAML and JSON know no limit, arrays of numbers do


def read(path: Path, largest: int) -> str:
    """Return the text of a file of at most ``largest`` bytes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no ordinary file, too large, or no text; the message goes on from the file's name.
    """
    size = ordinary(path).st_size
    if size > largest:
        raise ValueError(
            f"has {size / MEGABYTE:.0f} MB, at most {largest / MEGABYTE:g} are allowed; is it the right file?"
        )
    try:
        return path.read_bytes().decode(ENCODING).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"is no text file in UTF-8 ({error}); save it as UTF-8") from error


def ordinary(path: Path) -> os.stat_result:
    """Return the system's record of a file without opening it: a pipe would be waited for without end.

    Raises:
        OSError: it is not there.
        ValueError: it is no ordinary file; the message goes on from its name.
    """
    if wrong := unnameable(path):
        raise ValueError(f"is no path: it holds {wrong}; correct it")
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"is a {_kind(status.st_mode)} and no ordinary file; give the path of one")
    return status


def from_json(text: str) -> Any:
    """Return the content of a text in JSON.

    Raises:
        ValueError: it is no JSON, nested without need, has a number that no 64 bits hold, or gives a key of an object
            twice, of which the last would win.
    """
    try:
        content = json.loads(
            text,
            object_pairs_hook=_each_key_once,
            parse_int=_whole,
            parse_float=_decimal,
            parse_constant=_no_number,
        )
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    _require_shallow(content)
    if ESCAPED.search(text):
        _require_text([content])
    return content


def unusable(text: str) -> str:
    """Return the first character of a text that no file of text can hold; empty where there is none."""
    return next((f"the character U+{ord(c):04X}" for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), "")


def unnameable(path: Path) -> str:
    """Return the first character of a path that the system has in no name of a file; empty where there is none."""
    try:
        return "the character U+0000" if b"\0" in os.fsencode(path) else ""
    except UnicodeEncodeError as error:
        return f"the character U+{ord(error.object[error.start]):04X}, which is in no {error.encoding}"


def impossible(path: Path) -> str:
    """Return why no file can have this path; empty where one can, whether it is there or not."""
    if wrong := unnameable(path):
        return f"it holds {wrong}"
    try:
        path.exists()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def shown(value: object) -> str:
    """Return a value as messages repeat it: in one line, shortened, any character printable."""
    text = ascii(value) if isinstance(value, str) and unusable(value) else repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def named(path: Path) -> str:
    """Return a path as messages show it."""
    text = str(path)
    return text if len(text) <= LONGEST_PATH and not unusable(text) else shown(text)


def _require_shallow(content: object) -> None:
    level = [content]
    for _ in range(DEEPEST):
        level = [part for value in level for part in _parts(value) if isinstance(part, dict | list)]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def _require_text(content: object) -> None:
    """Refuse escapes of what no text can hold: \\u0000 and halves of a surrogate pair."""
    level: list[object] = [content]
    while level:
        for text in (text for value in level for text in _said(value)):
            if isinstance(text, str) and (wrong := unusable(text)):
                raise ValueError(f"the text {shown(text)} holds {wrong}")
        level = [part for value in level for part in _parts(value) if isinstance(part, str | dict | list)]


def _said(value: object) -> Iterable[object]:
    """Return a text; the keys of an object, or the items of a list."""
    return (value,) if isinstance(value, str) else value if isinstance(value, dict | list) else ()


def _parts(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _each_key_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it gives the key {shown(twice)} twice in one object; join the two, or remove one")
    return content


def _whole(text: str) -> int:
    if len(text) > len(str(WHOLE_NUMBERS)) or abs(number := int(text)) >= WHOLE_NUMBERS:
        raise ValueError(f"the whole number {shown(text)} is too large; at most {WHOLE_NUMBERS - 1}")
    return number


def _decimal(text: str) -> float:
    number = float(text)
    if math.isinf(number) or (number == 0.0 and re.search("[1-9]", re.split("[eE]", text)[0])):
        raise ValueError(f"the number {shown(text)} is beyond what 64 bits hold")
    return number


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _kind(mode: int) -> str:
    kinds = {"folder": stat.S_ISDIR, "pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK}
    return next((name for name, holds in kinds.items() if holds(mode)), "device")
