"""The only reader of YAML: a file and overrides -> a checked configuration, or an error that names the key."""

import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml

from pipeline.config.section import Section
from pipeline.config.sections import Config
from pipeline.errors import ConfigError, nearest

LONGEST_VALUE = 100  # characters of a value shown in a message


class _Loader(yaml.SafeLoader):
    """YAML in which a key that appears twice is an error, where PyYAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} appears twice; remove one", key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


def load(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read and check a configuration; `overrides` are `dotted.key=value`, values in YAML.

    A file may extend another one, `extends: base.yaml`, and say only what differs.

    Raises:
        ConfigError: unreadable file, unknown key (with the nearest known one), value outside what is allowed.
    """
    content = _content(path)
    for override in overrides:
        content = _override(content, override)
    return parse(_located(content, path.parent), str(path))


def _content(path: Path, above: tuple[Path, ...] = ()) -> dict[Any, Any]:
    """What a file says, on top of the one it `extends`: sections are merged, all else is replaced, null removes."""
    try:
        content = parse_value(path.read_text(encoding="utf-8"), f"configuration {path}")
    except OSError as error:
        raise ConfigError(f"configuration {path}: {error.strerror}; give the path of a YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"configuration {path} is no text file ({error}); give a YAML file") from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise ConfigError(
            f"configuration {path} holds {found}, not a mapping of sections; see config/README.md"
        )
    base = content.pop("extends", None)
    if base is None:
        return content
    below = (*above, path.resolve())
    if not isinstance(base, str) or (path.parent / base).resolve() in below:
        raise ConfigError(
            f"configuration {path}: extends {base!r} must be the path of another configuration, from this file's "
            "folder, which does not extend this one in turn"
        )
    extended = path.parent / base
    return _merged(_located(_content(extended, below), extended.parent), content)


def _merged(base: Mapping[Any, Any], content: Mapping[Any, Any]) -> dict[Any, Any]:
    """Sections merged; a key of the base that is null in `content` is removed."""
    kept = {key: value for key, value in base.items() if key not in content}
    both = {
        key: _merged(base[key], value)
        if isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in content.items()
        if value is not None or key not in base
    }
    return {**kept, **both}


def parse(content: Mapping[Any, Any], source: str) -> Config:
    """Check a configuration already read; `source` names it in messages."""
    try:
        return Config.model_validate(content)
    except pydantic.ValidationError as error:
        lines = [_message(problem) for problem in _own(error.errors())]
        raise ConfigError(f"configuration {source}:\n  " + "\n  ".join(lines)) from None


def parse_value(text: str, source: str) -> Any:
    """What a text in YAML says; `source` names it in messages."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ConfigError(f"{source}{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error


def _located(content: Mapping[Any, Any], folder: Path) -> dict[Any, Any]:
    """Relative paths are meant from the working directory or, where nothing is there, from the file's folder."""

    def find(path: Any) -> Any:
        here = isinstance(path, str) and not Path(path).exists() and (folder / path).exists()
        return str(folder / path) if here else path

    def find_target(target: Any) -> Any:
        name, colon, member = str(target).partition(":")
        return f"{find(name)}{colon}{member}" if name.endswith(".py") and colon else target

    found = dict(content)
    data, analysis, simulate = (found.get(key) for key in ("data", "analysis", "simulate"))
    if isinstance(data, dict) and "manifest" in data:
        found["data"] = {**data, "manifest": find(data["manifest"])}
    if isinstance(simulate, dict) and "generator" in simulate:
        found["simulate"] = {**simulate, "generator": find_target(simulate["generator"])}
    if not isinstance(analysis, dict):
        return found
    if "target" in analysis:
        analysis = {**analysis, "target": find_target(analysis["target"])}
    if isinstance(analysis.get("files"), dict):
        analysis = {**analysis, "files": {key: find(path) for key, path in analysis["files"].items()}}
    return {**found, "analysis": analysis}


def _override(content: dict[Any, Any], override: str) -> dict[Any, Any]:
    key, sign, text = override.partition("=")
    parts = key.split(".")
    if not sign or not all(parts):
        raise ConfigError(f"--set {override!r} is not of the form key=value, as in optimise.epochs=20")
    return _replaced(content, parts, parse_value(text, f"--set {override!r}"), override)


def _replaced(content: Mapping[Any, Any], parts: Sequence[str], value: Any, override: str) -> dict[Any, Any]:
    head, *tail = parts
    if not tail:
        return {**content, head: value}
    section = content.get(head)
    if not isinstance(section, dict | None):
        kind = type(section).__name__
        raise ConfigError(
            f"--set {override!r}: {head!r} is a {kind}, which has no key {tail[0]!r}; "
            f"give all of it, as in {override.partition('=')[0].partition('.' + tail[0])[0]}=VALUE"
        )
    return {**content, head: _replaced(section or {}, tail, value, override)}


def _own(problems: Sequence[Any]) -> list[Any]:
    """Without the complaint that a list is empty where its entries were the problem."""
    places = [problem["loc"] for problem in problems]
    return [
        problem
        for problem in problems
        if problem["type"] != "too_short"
        or not any(
            len(place) > len(problem["loc"]) and place[: len(problem["loc"])] == problem["loc"]
            for place in places
        )
    ]


def _message(problem: Any) -> str:
    """One problem: the key, the value, what was allowed."""
    *above, last = problem["loc"] or ("(whole file)",)
    shown, current = _walk(above)
    shown = shown if last in _kinds(_inside(current, last)) else [*shown, str(last)]
    key = ".".join(shown)
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {nearest(shown[-1], _keys(current))}"
    if problem["type"] == "missing":
        return f"{key}: required key is missing"
    if problem["type"] == "union_tag_not_found":
        kinds = [
            kind for choice in typing.get_args(_union(_inside(current, last))) for kind in _kinds(choice)
        ]
        return f"{key}: required key 'type' is missing; allowed: {', '.join(map(repr, kinds))}"
    if problem["type"] == "model_type":
        return f"{key}: must be a section {{key: value}} (got {problem['input']!r})"
    value = repr(problem["input"])
    shortened = value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}..."
    got = "" if isinstance(problem["input"], dict) else f" (got {shortened})"
    return f"{key}: {problem['msg'].removeprefix('Value error, ')}{got}"


def _walk(location: Sequence[str | int]) -> tuple[list[str], Any]:
    """A location as the file spells it, without pydantic's tags of unions; and the type there."""
    shown: list[str] = []
    current: Any = Config
    for part in location:
        current = _inside(current, part)
        if part not in _kinds(current):
            shown.append(str(part))
    return shown, current


def _inside(annotation: Any, part: str | int) -> Any:
    """The type of one key of a section, one entry of a mapping or list, or one kind (by its `type`) of a section."""
    arguments = typing.get_args(annotation)
    if _is_section(annotation):
        field = annotation.model_fields.get(str(part))
        return field.annotation if field else None
    if typing.get_origin(annotation) is dict:
        return arguments[1]
    if typing.get_origin(annotation) is tuple:
        return arguments[0]
    for choice in arguments:
        found = choice if part in _kinds(choice) else _inside(choice, part)
        if found is not None:
            return found
    return None


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _kinds(annotation: Any) -> tuple[str, ...]:
    """The allowed values of `type` in a section that has this key."""
    if not _is_section(annotation) or "type" not in annotation.model_fields:
        return ()
    return typing.get_args(annotation.model_fields["type"].annotation)


def _union(annotation: Any) -> Any:
    """What `Annotated` wraps."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation


def _keys(annotation: Any) -> set[str]:
    """Keys of the section, or of the sections, that a type allows."""
    if _is_section(annotation):
        return set(annotation.model_fields)
    return {key for choice in typing.get_args(annotation) for key in _keys(choice)}
