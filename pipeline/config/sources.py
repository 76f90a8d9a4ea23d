"""The user's own files that a Python file imports, at any depth, found without running one of them.

What is installed and Python's own modules are left out. Of this package only the shipped analyses count: the rest is
known by its version. Imports are found where a statement names them, or ``importlib.import_module("name")``, also
inside functions; each is looked for on Python's path and beside the file.
"""

import ast
import contextlib
import functools
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
ANALYSES = PACKAGE / "analyses"
INSTALLED = {"site-packages", "dist-packages"}  # folders of what pip or a distribution put there
STANDARD = [Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib")]
PARSED = 256  # files whose imports are remembered

Graph = Mapping[Path, frozenset[Path]]
Import = tuple[int, str]  # dots, and the name after them; "*" at its end: all that is in that folder


def find(name: str) -> list[ModuleSpec]:
    """Return where the module of a dotted name is, and the packages that it is in.

    The packages come first, the outermost at the beginning, then the module itself; all as far as they exist.
    """
    return list(_chain(name, None))


def graph(first: Iterable[Path]) -> Graph:
    """Return the user's own files among these files and all that they import.

    Each comes with the files that it imports itself.
    """
    waiting = [path.absolute() for path in first]
    roots = {outermost(path) for path in waiting}
    found: dict[Path, frozenset[Path]] = {}
    while waiting:
        path = waiting.pop()
        if path not in found:
            entries = _imports(_content(path)) if path.suffix == ".py" else frozenset()
            found[path] = frozenset(file for entry in entries for file in _files(entry, path, roots))
            waiting.extend(found[path])
    return found


def behind(path: Path, known: Graph) -> frozenset[Path]:
    """Return a file of a graph and all that it imports, at any depth."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        here = waiting.pop()
        if here not in found:
            found.add(here)
            waiting.extend(known[here])
    return frozenset(found)


def digest(paths: Iterable[Path]) -> str:
    """Return the fingerprint of files: contents and places beside each other, wherever all of them are."""
    found = [path.absolute() for path in paths]
    root = os.path.commonpath([path.parent for path in found]) if found else ""
    each = sorted(
        f"{path.relative_to(root).as_posix()} {hashlib.sha256(_content(path)).hexdigest()}" for path in found
    )
    return hashlib.sha256("\n".join(each).encode()).hexdigest()


def is_own(path: Path, roots: Iterable[Path] = ()) -> bool:
    """Return whether a file is the user's own.

    What is installed is not, nor is what belongs to Python, nor what belongs to this package but for the
    shipped analyses.

    Args:
        roots: folders of packages that count although they are installed: those that the analysis itself is in.
    """
    if path.is_relative_to(PACKAGE):
        return path.is_relative_to(ANALYSES)
    if any(path.is_relative_to(root) for root in roots):
        return True
    return not INSTALLED & set(path.parts) and not any(path.is_relative_to(place) for place in STANDARD)


def outermost(path: Path) -> Path:
    """Return the folder of the outermost package that a file is in; the file where there is none."""
    here = path
    while (here.parent / "__init__.py").is_file():
        here = here.parent
    return here


def file_of(spec: ModuleSpec | None) -> Path | None:
    """Return the file a module comes from, or the archive that this is in; None for a folder or what is built in."""
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    path = Path(spec.origin).absolute()
    return next((place for place in (path, *path.parents) if place.is_file()), None)


def _content(path: Path) -> bytes:
    return path.read_bytes()


@functools.lru_cache(maxsize=PARSED)
def _imports(content: bytes) -> frozenset[Import]:
    """Return the names that a module imports; none where it cannot be parsed, as loading it will say."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    return frozenset(entry for node in ast.walk(tree) for entry in _named(node))


def _named(node: ast.AST) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from ((0, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        start = f"{node.module}." if node.module else ""
        yield from ((node.level, start + alias.name) for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called, name = node.func, node.args[0].value
        function = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
        if function in ("import_module", "__import__") and isinstance(name, str) and name.strip("."):
            yield len(name) - len(name.lstrip(".")), name.lstrip(".")


def _files(entry: Import, path: Path, roots: Iterable[Path]) -> Iterator[Path]:
    """Yield the user's own files that Python may run for an import of the file at ``path``."""
    dots, name = entry
    if not dots and name.startswith(f"{PACKAGE.name}.") and ANALYSES.name not in name:
        return
    folder = str(path.parent if dots < 2 else path.parents[min(dots, len(path.parents)) - 1])
    plain = name.removesuffix("*").rstrip(".")
    for places in ([folder],) if dots else (None, [folder]):
        own = not plain
        for spec in _chain(plain, places):
            file = file_of(spec)
            own = file is not None and is_own(file, roots)
            if file is not None and not own and not file.is_relative_to(PACKAGE):
                break  # what is below is installed as well
            yield from [file] if own and file else []
            places = spec.submodule_search_locations
        if own and name.endswith("*"):
            yield from (file.absolute() for place in places or () for file in Path(place).glob("*.py"))


def _chain(name: str, places: Sequence[str] | None) -> Iterator[ModuleSpec]:
    """Return the modules among ``a``, ``a.b``, ``a.b.c``: a name inside a module ends the search."""
    parts = name.split(".") if name else []
    for number in range(len(parts)):
        spec = _spec(".".join(parts[: number + 1]), places)
        if spec is None:
            return
        yield spec
        if spec.submodule_search_locations is None:
            return
        places = list(spec.submodule_search_locations)


def _spec(name: str, places: Sequence[str] | None) -> ModuleSpec | None:
    """Return where a module is, by Python's own finders, those of editable installations included."""
    for finder in sys.meta_path if places is None else (PathFinder,):
        with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
            spec = finder.find_spec(name, places, None)
            if spec is not None:
                return spec
    return None
