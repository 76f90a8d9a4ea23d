"""Numbers of an HS3 file, checked to be some, and what it says of the values of parameters."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.errors import InputError
from pipeline.likelihood.workspace import JsonObject


class ParameterSetting(NamedTuple):
    """Start value, bounds (None: no domain has any) and constancy of a parameter."""

    value: float
    bounds: tuple[float, float] | None
    constant: bool


def named(entries: Iterable[JsonObject], name: str | None, what: str) -> JsonObject:
    """Return the entry of that name, the first where no name is given."""
    found = {entry["name"]: entry for entry in entries}
    if not found or (name is not None and name not in found):
        raise InputError(f"HS3: {what}: no {name or 'entry'!r}; there are {sorted(found)}")
    return next(iter(found.values())) if name is None else found[name]


def settings_of(content: JsonObject, analysis: JsonObject) -> dict[str, ParameterSetting]:
    """Return what the analysis' start point and domains say of each parameter."""
    point = named(content["parameter_points"], analysis.get("init"), "parameter_points")
    chosen = analysis.get("domains") or [None]
    bounds = {
        axis["name"]: tuple(number(axis[end], f"domain of {axis['name']!r}, {end}") for end in ("min", "max"))
        for name in chosen
        for axis in named(content["domains"], name, "domains")["axes"]
        if {"min", "max"} <= set(axis)
    }
    return {
        own["name"]: ParameterSetting(
            number(own["value"], f"value of parameter {own['name']!r}"),
            bounds.get(own["name"]),  # type: ignore[arg-type]
            bool(own.get("const", False)),
        )
        for own in point["parameters"]
    }


def number(value: object, where: str) -> float:
    """Return a number that is one, not its text."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"HS3: {where}: {value!r}; allowed is a finite number")
    return float(value)


def numbers(values: Sequence[object], where: str, size: int | None = None) -> list[float]:
    """Return the numbers of bins, as many as there are bins."""
    if isinstance(values, str) or not values or (size is not None and len(values) != size):
        raise InputError(
            f"HS3: {where}: {values!r}; allowed are {size or 'finite'} numbers, one for each bin"
        )
    return [number(value, where) for value in values]
