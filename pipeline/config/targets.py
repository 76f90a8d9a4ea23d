"""What a configuration names as ``module:name`` or ``path/to/file.py:name``: its source files, and its module.

In one Python session a module whose file, or one that it imports, was edited since is imported anew.
"""

import contextlib
import contextvars
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import psutil

from pipeline.config import sources
from pipeline.errors import ConfigError, Noting

SPELLING = re.compile(r"(.+\.py|[A-Za-z_]\w*(\.[A-Za-z_]\w*){0,50}):[A-Za-z_]\w*")
IMPORTED_AS = "__thalweg_source__"  # of a module imported here: the digest of all that was behind it then
BEGAN_NS = int(
    (psutil.Process().create_time() - 1) * 1e9
)  # known to a second; files of before are as imported
BYTECODE_SECONDS = 2  # Python compares times by the second: bytecode this young may be of what was before
_imported: contextvars.ContextVar[str] = contextvars.ContextVar("imported", default="")  # at this moment


class Content(NamedTuple):
    """What a target is made of: a digest of its source and the user's modules behind it; path and digest of files."""

    source: str
    files: tuple[tuple[str, str], ...] = ()


def source(target: str, key: str) -> Path:
    """Return the file that defines a target, found without running it; ``key`` is that of the configuration.

    Raises:
        ConfigError: there is no such file or module.
    """
    return _places(target, key)[-1]


def sources_of(target: str, key: str) -> list[Path]:
    """Return the file that defines a target, and the user's own ones that it imports, found without running them.

    Those below the working directory are relative to it, as the target of a file is.
    """
    first = _places(target, key)
    others = sorted(sources.graph(first).keys() - {path.absolute() for path in first})
    return [*reversed(first), *map(_shown, others)]


def content(target: str, key: str, files: Iterable[Path] = ()) -> Content:
    """Return the files and sources of a target at this moment.

    Raises:
        ConfigError: one of the files is not there.
    """
    own = sources.digest(sources.graph(_places(target, key)))
    return Content(own, tuple((str(path), digest_of_file(path, key)) for path in files))


def module(target: str, key: str) -> ModuleType:
    """Return the module of a target as its files are now.

    Raises:
        ConfigError: there is no such file or module, or it imports one that cannot be found without running it.
    """
    first = _places(target, key)
    known = sources.graph(first)
    behind = {path: sources.digest(sources.behind(path, known)) for path in known}
    _forget_edited(known, behind)
    before = set(sys.modules)
    name = target.partition(":")[0]
    with Noting(f"in {name}, imported for {key}"), _importing(name):
        loaded = _from_file(first[-1]) if name.endswith(".py") else importlib.import_module(name)
    for other in list(sys.modules.values()):
        if (path := _file(other)) in behind:
            setattr(other, IMPORTED_AS, behind[path])
    _require_found(target, key, known, before)
    return loaded


def require_no_import(what: str) -> None:
    """Raise where this is called while the module of a target is imported, as every process of a run does.

    Raises:
        ConfigError: it is; such a process would begin others, each of which does the same, without an end.
    """
    if name := _imported.get():
        raise ConfigError(
            f"{name} {what} while it is imported, and every process of a run imports it for the classes in it; put "
            'that part of the file under `if __name__ == "__main__":`'
        )


@contextlib.contextmanager
def _importing(name: str) -> Iterator[None]:
    token = _imported.set(name)
    try:
        yield
    finally:
        _imported.reset(token)


def _places(target: str, key: str) -> list[Path]:
    """Return the files of the packages that a target is in, outermost first, then its own."""
    name = target.partition(":")[0]
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise ConfigError(f"{key} {target!r}: there is no file {name}")
        return [Path(name)]
    last = _place(name)
    if last is None:
        raise ConfigError(f"{key} {target!r}: no module {name!r}; is it on PYTHONPATH?")
    outer = [path for spec in sources.find(name)[:-1] if (path := sources.file_of(spec))]
    return [*(path for path in outer if sources.is_own(path, [sources.outermost(last)])), last]


def _place(name: str) -> Path | None:
    """Return where the module of a name is found now."""
    specs = sources.find(name)
    return sources.file_of(specs[-1]) if specs and specs[-1].name == name else None


def _shown(path: Path) -> Path:
    here = Path.cwd()
    below = path.is_relative_to(here) and not path.is_relative_to(sources.PACKAGE)
    return path.relative_to(here) if below else path


def digest_of_file(path: Path, key: str) -> str:
    """Return the SHA-256 of a file; ``key`` is that of the configuration.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read: {error.strerror or error}") from error


def _from_file(path: Path) -> ModuleType:
    """Import a file under a name of its own, so that two of one file name do not collide."""
    name = f"thalweg_analysis_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"there is no Python file {path}")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[name]
        raise
    return loaded


def _file(loaded: object) -> Path | None:
    """Return the file of what stands in ``sys.modules``, where that is more than modules."""
    place = getattr(loaded, "__dict__", {}).get("__file__")
    return Path(place).absolute() if isinstance(place, str) else None


def _forget_edited(known: sources.Graph, behind: dict[Path, str]) -> None:
    """Forget modules that are not what their files, or those behind them, say now; and bytecode that may be older."""
    importlib.invalidate_caches()
    names = {path.parent.name if path.stem == "__init__" else path.stem for path in known}
    for name, loaded in list(sys.modules.items()):
        path = _file(loaded)
        if path is None or name == "__main__":
            continue
        if path in known:
            current = _is_current(loaded, sources.behind(path, known), behind[path])
        else:  # one of the same name may be meant now, from another folder
            current = (
                name.rpartition(".")[2] not in names or not sources.is_own(path) or _place(name) not in known
            )
        if not current:
            del sys.modules[name]
    for path in known:
        bytecode = Path(importlib.util.cache_from_source(str(path)))
        if bytecode.is_file() and bytecode.stat().st_mtime < int(path.stat().st_mtime) + BYTECODE_SECONDS:
            with contextlib.suppress(OSError):  # of an installation that cannot be written
                bytecode.unlink()


def _is_current(loaded: object, files: Iterable[Path], now: str) -> bool:
    """Return whether a module was imported from what its files hold now."""
    then = getattr(loaded, IMPORTED_AS, None)
    if then is not None:
        return bool(then == now)
    return all(path.stat().st_ctime_ns < BEGAN_NS for path in files)


def _require_found(target: str, key: str, known: sources.Graph, before: set[str]) -> None:
    """Raise where loading brought in a module of the user's whose content would not count."""
    new = {name: path for name in set(sys.modules) - before if (path := _file(sys.modules[name]))}
    for name, path in sorted(new.items()):
        if path not in known and sources.is_own(path):
            for other in [other for other, place in new.items() if sources.is_own(place)]:
                del sys.modules[other]  # so that the next try says the same
            raise ConfigError(
                f"{key} {target!r} imports {path} in a way that is not seen without running it, so that a change of it "
                f"would go unnoticed; write `import {name}` in the analysis, and have its folder on PYTHONPATH"
            )
