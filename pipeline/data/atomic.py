"""Files that are written in one step: a reader sees all of one or nothing."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.config.textfiles import named, shown, unnameable
from pipeline.errors import OutputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path that replaces ``path`` when the block ends well, and is removed when not.

    Raises:
        OutputError: the file cannot be written there; what was at ``path`` before stays.
    """
    if wrong := unnameable(path):
        raise OutputError(f"cannot write {shown(str(path))}: it holds {wrong}; correct the path")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.exists() and not path.is_file():
            raise OutputError(f"cannot write {path}: it is there and no ordinary file; choose another path")
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def unwritable(path: Path, error: OSError) -> OutputError:
    """Return why a file cannot be written, with the folder or file that is in the way."""
    place = "" if error.filename is None else f" ({named(Path(error.filename))})"
    return OutputError(
        f"cannot write {named(path)}: {error.strerror or error}{place}; "
        "check that the folder can be written and has space"
    )
