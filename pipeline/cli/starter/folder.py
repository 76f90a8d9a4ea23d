"""A name -> a folder with a complete analysis of that name, copied from files that run as they are."""

import ast
import importlib.machinery
import keyword
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.config import parse_value
from pipeline.config.section import LONGEST_NAME
from pipeline.config.textfiles import shown
from pipeline.data import store
from pipeline.errors import ConfigError, InputError

FILES = Path(__file__).parent / "files"
NAME, CLASS = "my_analysis", "MyAnalysis"  # what stands in the files for the name, and for the class
ENDINGS = (".py", ".yaml", ".md")
IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def write(name: str, folder: Path) -> list[Path]:
    """Write the folder of a name into another one, whole or not at all; the paths of its files.

    Raises:
        ConfigError: a name that no module or class can have here.
        InputError: there is no such folder, or already one of the name.
        OutputError: it cannot be written.
    """
    _require_possible(name)
    target = folder / name
    if not folder.is_dir():
        raise InputError(f"--folder {shown(str(folder))} is no folder; create it, or name another one")
    if target.exists() or target.is_symlink():
        raise InputError(
            f"{target} is there already, and nothing is overwritten; choose another name or --folder"
        )
    _require_free(name)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}.") as scratch:
            unfinished = Path(scratch) / name
            unfinished.mkdir()
            for file, text in texts(name):
                (unfinished / file).write_text(text, encoding="utf-8")
            unfinished.rename(target)
    except OSError as error:
        raise store.unwritable(target, error) from error
    return [target / file for file, _ in texts(name)]


def texts(name: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each file and what is in it."""
    for path in sorted(FILES.iterdir()):
        if path.suffix in ENDINGS:
            text = path.read_text(encoding="utf-8").replace(NAME, name).replace(CLASS, class_of(name))
            yield path.name.replace(NAME, name), text


def class_of(name: str) -> str:
    """Return the name of the class of an analysis: ``two_jets`` has ``TwoJets``."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _require_possible(name: str) -> None:
    """Refuse what cannot name a module, a class and a run."""
    said = f"the name {shown(name)}"
    if not IDENTIFIER.fullmatch(name):
        raise ConfigError(
            f"{said} is none that Python can import; allowed: letters, digits and _, a letter first"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise ConfigError(f"{said} is a word of Python's own; choose another one, as in {name}_analysis")
    if not isinstance(parse_value(name, said), str):
        raise ConfigError(f"{said} is no text in YAML; choose another one, as in {name}_analysis")
    if len(name) > LONGEST_NAME:
        raise ConfigError(f"{said} has {len(name)} characters; at most {LONGEST_NAME} are allowed")


def _require_free(name: str) -> None:
    """Refuse the name of something that the files themselves import, which would be hidden by it."""
    own = {path.stem for path in FILES.iterdir()} | {f"test_{name}"}
    here = {"", str(Path.cwd())}
    elsewhere = [place for place in sys.path if place not in here]
    taken = name in sys.stdlib_module_names or importlib.machinery.PathFinder.find_spec(name, elsewhere)
    if taken or name in own - {NAME} or class_of(name) in _imported():
        what = f"the class {class_of(name)!r}" if class_of(name) in _imported() else f"the module {name!r}"
        raise ConfigError(
            f"the name {name!r} would hide {what}, which is needed; choose another one, as in {name}_analysis"
        )


def _imported() -> set[str]:
    """Return the names that the files import from others."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FILES.glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in nodes for alias in node.names} - {CLASS}
