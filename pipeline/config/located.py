"""Where the files are that a configuration names: from the working directory, else from the configuration's folder."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.config import textfiles
from pipeline.errors import ConfigError


def located(content: Mapping[object, object], folder: Path) -> dict[object, object]:
    """Resolve relative paths from the working directory or, where nothing is there, from the file's folder.

    Raises:
        ConfigError: what stands for a path can be none.
    """

    def find(path: object, key: str) -> object:
        if not isinstance(path, str):
            return path
        if wrong := textfiles.impossible(Path(path)) or textfiles.impossible(folder / path):
            raise ConfigError(f"{key}: {wrong}; give the path of a file (got {textfiles.shown(path)})")
        return str(folder / path) if not Path(path).exists() and (folder / path).exists() else path

    def find_target(target: object, key: str) -> object:
        name, colon, member = str(target).partition(":")
        return f"{find(name, key)}{colon}{member}" if name.endswith(".py") and colon else target

    found = dict(content)
    data, analysis, simulate = (found.get(key) for key in ("data", "analysis", "simulate"))
    if isinstance(data, dict) and "manifest" in data:
        found["data"] = {**data, "manifest": find(data["manifest"], "data.manifest")}
    if isinstance(simulate, dict) and "generator" in simulate:
        found["simulate"] = {
            **simulate,
            "generator": find_target(simulate["generator"], "simulate.generator"),
        }
    found |= {key: _with_located(found[key], key, find) for key in ("model", "evaluate") if key in found}
    if not isinstance(analysis, dict):
        return found
    if "target" in analysis:
        analysis = {**analysis, "target": find_target(analysis["target"], "analysis.target")}
    if isinstance(analysis.get("files"), dict):
        files = {name: find(path, f"analysis.files.{name}") for name, path in analysis["files"].items()}
        analysis = {**analysis, "files": files}
    return {**found, "analysis": analysis}


def _with_located(section: object, key: str, find: Callable[[object, str], object]) -> object:
    """Return a section with the paths of all its ``model.with`` resolved, those of ``evaluate.also`` included."""
    if not isinstance(section, dict):
        return section
    if key.rpartition(".")[2] == "model":
        joined = {"with": find(section["with"], f"{key}.with")} if "with" in section else {}
        return {**section, **joined}
    return {name: _with_located(inner, f"{key}.{name}", find) for name, inner in section.items()}
