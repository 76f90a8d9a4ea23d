"""A YAML file and overrides -> a checked configuration, or an error that names the key."""

import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import pydantic
from pydantic_core import ErrorDetails

from pipeline.config import textfiles
from pipeline.config.kinds import QUANTITY, BesideKind
from pipeline.config.located import located
from pipeline.config.notation import parse_value
from pipeline.config.section import Section
from pipeline.config.sections import Config
from pipeline.errors import ConfigError, nearest

LARGEST = (
    textfiles.MEGABYTE
)  # bytes of a file in YAML: hundreds of times what shipped ones have, seconds of reading
TYPES = ("float", "int", "bool", "str", "list", "dict")  # pydantic's names of them in the place of a problem
# Problems that pydantic has less clear words for.
SAID_OTHERWISE = {
    "bool_type": "write true or false",
    "int_parsing_size": "Input should be a smaller whole number",
}


def load(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read and check a configuration; ``overrides`` are ``dotted.key=value``, values in YAML.

    A file may extend another one, ``extends: base.yaml``, and say only what differs.

    Raises:
        ConfigError: unreadable file, unknown key (with the nearest known one), value outside what is allowed.
    """
    content = _content(path)
    for override in overrides:
        content = _override(content, override)
    return parse(located(content, path.parent), str(path))


def _content(path: Path, above: tuple[Path, ...] = ()) -> dict[object, object]:
    """Return a file's content on top of the one it ``extends``: sections merge, null removes, all else replaces."""
    content = read_yaml(path, "configuration")
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise ConfigError(
            f"configuration {textfiles.named(path)} holds {found}, not a mapping of sections; see config/README.md"
        )
    base = content.pop("extends", None)
    if base is None:
        return content
    below = (*above, path.resolve())
    if len(below) > textfiles.DEEPEST:
        raise ConfigError(f"configuration {path}: more than {textfiles.DEEPEST} files extend each other")
    if not isinstance(base, str) or (path.parent / base).resolve() in below:
        raise ConfigError(
            f"configuration {path}: extends {textfiles.shown(base)} must be the path of another configuration, from "
            "this file's folder, which does not extend this one in turn"
        )
    extended = path.parent / base
    return _merged(located(_content(extended, below), extended.parent), content)


def read_yaml(path: Path, what: str) -> Any:
    """Return the content of a file in YAML; ``what`` it is begins each message.

    Raises:
        ConfigError: it cannot be read, is no text, or is not valid YAML 1.2.
    """
    try:
        return parse_value(textfiles.read(path, LARGEST), f"{what} {textfiles.named(path)}")
    except OSError as error:
        raise ConfigError(
            f"{what} {textfiles.named(path)}: {error.strerror}; give the path of a YAML file"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{what} {textfiles.named(path)} {error}") from error


def _merged(base: Mapping[object, object], content: Mapping[object, object]) -> dict[object, object]:
    """Return sections merged; a key of the base that is null in ``content`` is removed."""
    kept = {key: value for key, value in base.items() if key not in content}
    both = {
        key: _of_both(base.get(key), value)
        for key, value in content.items()
        if value is not None or key not in base
    }
    return {**kept, **both}


def _of_both(base: object, value: object) -> object:
    return _merged(base, value) if isinstance(base, dict) and isinstance(value, dict) else value


def parse(content: Mapping[object, object], source: str) -> Config:
    """Check a configuration already read; ``source`` names it in messages."""
    try:
        return Config.model_validate(content)
    except pydantic.ValidationError as error:
        lines = [_message(problem) for problem in _own(error.errors())]
        raise ConfigError(f"configuration {source}:\n  " + "\n  ".join(lines)) from None


def _override(content: dict[object, object], override: str) -> dict[object, object]:
    key, sign, text = override.partition("=")
    parts = key.split(".")
    if not sign or not all(parts):
        raise ConfigError(
            f"--set {textfiles.shown(override)} is not of the form key=value, as in optimise.epochs=20"
        )
    return _replaced(content, parts, parse_value(text, f"--set {textfiles.shown(override)}"), override)


def _replaced(
    content: Mapping[object, object], parts: Sequence[str], value: object, override: str
) -> dict[object, object]:
    head, *tail = parts
    if not tail:
        return {**content, head: value}
    section = content.get(head)
    if not isinstance(section, dict | None):
        kind = type(section).__name__
        raise ConfigError(
            f"--set {textfiles.shown(override)}: {head!r} is a {kind}, which has no key {tail[0]!r}; "
            f"give all of it, as in {override.partition('=')[0].partition('.' + tail[0])[0]}=VALUE"
        )
    return {**content, head: _replaced(section or {}, tail, value, override)}


def _own(problems: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Drop the complaint that a list is empty where its entries were the problem."""
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


def _message(problem: ErrorDetails) -> str:
    """Return one problem: the key, the value, what was allowed."""
    *above, last = _keys_only(problem["loc"]) or ("(whole file)",)
    shown, current = _walk(above)
    shown = shown if _is_unspelt(current, last) else [*shown, str(last)]
    key = ".".join(shown)
    if problem["type"] == "extra_forbidden":
        cure = "" if above else "; the start value of a free parameter is set by parameters.<name>"
        return f"{key}: unknown key; {nearest(shown[-1], _keys(current))}{cure}"
    if problem["type"] == "missing":
        return f"{key}: required key is missing"
    if problem["type"] == "union_tag_not_found":
        kinds = [
            kind for choice in typing.get_args(_union(_inside(current, last))) for kind in _kinds(choice)
        ]
        tag = problem["ctx"]["discriminator"]
        return f"{key}: required key {tag} is missing; allowed: {', '.join(map(repr, kinds))}"
    if problem["type"] == "union_tag_invalid":
        tag, allowed, got = (problem["ctx"][name] for name in ("discriminator", "expected_tags", "tag"))
        return f"{key}.{tag[1:-1]}: Input should be one of {allowed} (got {got!r})"
    if problem["type"] == "invalid_key":
        return (
            f"{key}: a number stands for the name of a key; where a decimal comma made it, write 0.5 for 0,5"
        )
    if problem["type"] in ("model_type", "model_attributes_type"):
        return f"{key}: must be a section {{key: value}} (got {textfiles.shown(problem['input'])})"
    got = "" if isinstance(problem["input"], dict) else f" (got {textfiles.shown(problem['input'])})"
    reason = SAID_OTHERWISE.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    return f"{key}: {reason}{_cure(problem)}{got}"


def _cure(problem: ErrorDetails) -> str:
    """Return how a text becomes the number that it should be."""
    text = problem["input"]
    if problem["type"] not in ("float_type", "int_type") or not isinstance(text, str):
        return ""
    return ", with a decimal point" if re.fullmatch(r"[-+]?\d+,\d+", text) else ", without quotes"


def _keys_only(location: Sequence[str | int]) -> list[str | int]:
    """Return a location without the names that pydantic gives to what a value of several types might have been."""
    found: list[str | int] = []
    for part in location:
        _, current = _walk(found)
        has_keys = bool(_keys(current)) or typing.get_origin(current) is dict
        if has_keys or not isinstance(part, str) or not (part in TYPES or ("[" in part and part != "[key]")):
            found.append(part)
    return found


def _walk(location: Sequence[str | int]) -> tuple[list[str], object]:
    """Return a location as the file spells it, without pydantic's tags of unions; and the type there."""
    shown: list[str] = []
    current: object = Config
    for part in location:
        if not _is_unspelt(current, part):
            shown.append(str(part))
        current = _inside(current, part)
    return shown, current


def _is_unspelt(annotation: object, part: str | int) -> bool:
    """Return whether a part of a location is not in the file.

    Such a part is a kind, or the field that holds what is of several kinds.
    """
    is_beside = _is_section(annotation) and issubclass(annotation, BesideKind) and part == QUANTITY
    return is_beside or part in _kinds(_inside(annotation, part))


def _inside(annotation: object, part: str | int) -> object:
    """Return the type of one key of a section, one entry of a mapping or list, or one kind of a section."""
    arguments = typing.get_args(annotation)
    if _is_section(annotation):
        field = annotation.keys().get(str(part))
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


def _is_section(annotation: object) -> TypeGuard[type[Section]]:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _kinds(annotation: object) -> tuple[str, ...]:
    """Return the allowed value of ``type`` or ``kind`` in a section that has one of these keys."""
    if not _is_section(annotation):
        return ()
    tags = (annotation.model_fields[key] for key in ("type", "kind") if key in annotation.model_fields)
    return tuple(kind for tag in tags for kind in typing.get_args(tag.annotation))


def _union(annotation: object) -> object:
    """Return the type that ``Annotated`` wraps."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation


def _keys(annotation: object) -> set[str]:
    """Return keys of the section, or of the sections, that a type allows, as the file spells them."""
    if _is_section(annotation):
        inner = (
            _keys(annotation.model_fields[QUANTITY].annotation)
            if issubclass(annotation, BesideKind)
            else set()
        )
        return {*annotation.keys(), *inner} - {QUANTITY}
    return {key for choice in typing.get_args(annotation) for key in _keys(choice)}
