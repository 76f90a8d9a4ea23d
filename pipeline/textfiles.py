"""Text files: UTF-8 whatever the locale, ordinary files only, and no larger than what they are for."""

import stat
from pathlib import Path
from typing import Any

ENCODING = "utf-8"
LONGEST_SHOWN = 100  # characters of a text or a value that a message repeats
LONGEST_PATH = 500  # characters of a path that a message repeats; few are longer
DEEPEST = 100  # levels of nesting that a file may have: far more than a person writes
MEGABYTE = 1_000_000
WHOLE_NUMBERS = 2**64  # integers are below it in size; YAML and JSON know no limit, arrays of numbers do


def read(path: Path, largest: int) -> str:
    """The text of a file of at most `largest` bytes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no ordinary file, too large, or no text; the message goes on from the file's name.
    """
    require_readable_name(path)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
        raise ValueError(f"is a {_kind(status.st_mode)} and no ordinary file; give the path of one")
    if status.st_size > largest:
        raise ValueError(
            f"has {status.st_size / MEGABYTE:.0f} MB, at most {largest / MEGABYTE:g} are allowed; is it the right file?"
        )
    try:
        return path.read_bytes().decode(ENCODING).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"is no text file in UTF-8 ({error}); save it as UTF-8") from error


def require_readable_name(path: Path) -> None:
    """Raise a ValueError where no file can have this name; the message goes on from it."""
    if wrong := unusable(str(path)):
        raise ValueError(f"is no path: it holds {wrong}; correct it")


def unusable(text: str) -> str:
    """The first character of a text that neither paths nor files of text can hold; empty where there is none."""
    return next((f"the character U+{ord(c):04X}" for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), "")


def shown(value: Any) -> str:
    """A value as messages repeat it: in one line, shortened, any character printable."""
    text = ascii(value) if isinstance(value, str) and unusable(value) else repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def named(path: Path) -> str:
    """A path as messages show it."""
    text = str(path)
    return text if len(text) <= LONGEST_PATH and not unusable(text) else shown(text)


def require_shallow(content: Any) -> None:
    """Raise a ValueError where lists and mappings are nested more than `DEEPEST` levels."""
    level = [content]
    for _ in range(DEEPEST + 1):
        level = [
            part
            for value in level
            if isinstance(value, dict | list)
            for part in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def _kind(mode: int) -> str:
    kinds = {"folder": stat.S_ISDIR, "pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK}
    return next((name for name, holds in kinds.items() if holds(mode)), "device")
