"""What a configuration names as `module:name` or `path/to/file.py:name`: its source file, and its module."""

import hashlib
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from pipeline.errors import ConfigError

SPELLING = re.compile(r"(.+\.py|[A-Za-z_]\w*(\.[A-Za-z_]\w*){0,50}):[A-Za-z_]\w*")


def source(target: str, key: str) -> Path:
    """The file that defines a target, found without running it; `key` is that of the configuration.

    Raises:
        ConfigError: there is no such file or module.
    """
    name = target.partition(":")[0]
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise ConfigError(f"{key} {target!r}: there is no file {name}")
        return Path(name)
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None or not spec.has_location:
        raise ConfigError(f"{key} {target!r}: no module {name!r}; is it on PYTHONPATH?")
    return Path(spec.origin)


def module(target: str, key: str) -> ModuleType:
    """The module of a target, imported.

    Raises:
        ConfigError: there is no such file or module.
    """
    name = target.partition(":")[0]
    if name.endswith(".py"):
        return _from_file(Path(name), target, key)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{key} {target!r}: {error}; is it on PYTHONPATH?") from error


def _from_file(path: Path, target: str, key: str) -> ModuleType:
    """Import a file under a name of its own, so that two of one file name do not collide."""
    name = f"thalweg_analysis_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"{key} {target!r}: there is no Python file {path}")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded
