"""The only reader of YAML: a file and overrides -> a checked configuration, or an error that names the key."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pydantic
import yaml

from pipeline.config.sections import Config, Section
from pipeline.errors import ConfigError, nearest


def load(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read and check a configuration; `overrides` are `dotted.key=value`, values in YAML.

    Raises:
        ConfigError: unreadable file, unknown key (with the nearest known one), value outside what is allowed.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"configuration {path}: {error.strerror}; give the path of a YAML file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration {path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"configuration {path} holds {type(content).__name__}, not a mapping of sections")
    for override in overrides:
        content = _override(content, override)
    return _located(parse(content, str(path)), path.parent)


def _located(config: Config, folder: Path) -> Config:
    """Relative paths are meant from the working directory or, where nothing is there, from the file's folder."""

    def find(path: Path) -> Path:
        return folder / path if not path.exists() and (folder / path).exists() else path

    data, analysis = config.data, config.analysis
    if data.manifest is not None:
        data = data.model_copy(update={"manifest": find(data.manifest)})
    name, colon, cls = analysis.target.partition(":")
    if name.endswith(".py"):
        analysis = analysis.model_copy(update={"target": f"{find(Path(name))}{colon}{cls}"})
    return config.model_copy(update={"data": data, "analysis": analysis})


def parse(content: Mapping[str, Any], source: str) -> Config:
    """Check a configuration already read; `source` names it in messages."""
    try:
        return Config.model_validate(content)
    except pydantic.ValidationError as error:
        lines = [_message(problem) for problem in error.errors()]
        raise ConfigError(f"configuration {source}:\n  " + "\n  ".join(lines)) from None


def _override(content: dict[str, Any], override: str) -> dict[str, Any]:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise ConfigError(f"--set {override!r} is not of the form key=value, as in optimise.epochs=20")
    head, _, tail = key.partition(".")
    if not tail:
        return {**content, head: yaml.safe_load(text)}
    inner = content.get(head, {})
    if not isinstance(inner, dict):
        raise ConfigError(f"--set {override!r}: {head!r} is not a section")
    return {**content, head: _override(inner, f"{tail}={text}")}


def _message(problem: Any) -> str:
    """One problem: the key, the value, what was allowed."""
    key = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {nearest(str(problem['loc'][-1]), _all_keys())}"
    if problem["type"] == "missing":
        return f"{key}: required key is missing"
    value = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
    return f"{key}: {problem['msg'].removeprefix('Value error, ')}{value}"


def _all_keys() -> set[str]:
    return {key for section in Section.__subclasses__() for key in section.model_fields}
