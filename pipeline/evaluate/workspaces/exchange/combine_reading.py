"""A datacard of CMS's Combine with its histograms -> a pyhf workspace.

Read are lnN, shape and rateParam, autoMCStats where Combine gives each bin one Gaussian parameter, and cards without
histograms; anything else is refused by its line. A shape becomes a normsys with the ratio of the yields and a histosys
with what is left, as Combine itself divides it.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.config import textfiles
from pipeline.errors import InputError
from pipeline.evaluate.workspaces.exchange.combine import NAME_COMMENT, POI_COMMENT, UNITY
from pipeline.evaluate.workspaces.exchange.combine_histograms import (
    BinNumbers,
    CardHistogram,
    CardHistograms,
    fits,
)
from pipeline.likelihood.workspace import JsonObject, Workspace

SHAPES, KAPPAS = ("shape", "shapeN", "shape?"), ("lnN", "shape?")
IGNORED = ("group",)  # of lines: they say how impacts are listed
R = ("r", 1.0, (0.0, 20.0))
"""Combine's own parameter of interest: name, start value, bounds."""


class _Lines(NamedTuple):
    """The lines of a datacard, by what they say."""

    names: dict[str, str]
    poi: tuple[str, float, tuple[float, float]]
    shapes: list[list[str]]
    channels: dict[str, float]  # with the number of observed events
    columns: list[tuple[str, str]]
    numbers: list[int]
    rates: list[float]
    systematics: list[tuple[str, str, list[str]]]
    rate_params: list[list[str]]
    statistics: list[list[str]]


def read_card(path: Path, measurement: str = "combine") -> Workspace:
    """Return the workspace of a datacard.

    Raises:
        InputError: it is none, a histogram is missing, or it says what pyhf cannot; the message names the line.
    """
    lines = _parsed(path)
    histograms = CardHistograms(path, lines.shapes, lines.channels)
    channels = [_channel(lines, histograms, channel) for channel in lines.channels]
    observations = [
        {"name": lines.names.get(channel, channel), "data": histograms.observed(channel).tolist()}
        for channel in lines.channels
    ]
    config = {"poi": lines.poi[0] if min(lines.numbers) <= 0 else "", "parameters": _parameters(lines)}
    return {
        "version": "1.0.0",
        "channels": channels,
        "observations": observations,
        "measurements": [{"name": measurement, "config": config}],
    }


def _parsed(path: Path) -> _Lines:
    try:
        text = textfiles.read(path, textfiles.MEGABYTE)
    except (OSError, ValueError) as error:
        raise InputError(f"datacard {path}: {error}") from error
    names, poi = _comments(text)
    rows = [line.split("#")[0].split() for line in text.splitlines()]
    rows = [
        row for row in rows if row and not row[0].startswith("-") and row[0] not in ("imax", "jmax", "kmax")
    ]
    first: dict[str, list[list[str]]] = {
        "bin": [],
        "process": [],
        "rate": [],
        "observation": [],
        "shapes": [],
    }
    others: list[list[str]] = []
    for row in rows:
        first.get(row[0], others).append(row[1:] if row[0] in first else row)
    try:
        (bins, columns), (processes, numbers), (rates,), (observed,) = (
            first[key] for key in ("bin", "process", "rate", "observation")
        )
        if numbers and not re.fullmatch(r"-?\d+", numbers[0]):
            processes, numbers = numbers, processes
        found = _Lines(
            names, poi, first["shapes"], dict(zip(bins, map(float, observed), strict=True)),
            list(zip(columns, processes, strict=True)), [int(number) for number in numbers], [float(r) for r in rates],
            [], [], [],
        )  # fmt: skip
    except ValueError as error:
        raise InputError(
            f"datacard {path}: it needs two lines `bin` and two `process`, one `observation` and one `rate`, with an "
            f"entry for each column: {error}"
        ) from error
    for row in others:
        _sort(found, row, path)
    return found


def _comments(text: str) -> tuple[dict[str, str], tuple[str, float, tuple[float, float]]]:
    """Return names as they were before they were spelt for Combine, and the parameter of interest."""
    names = {
        new: str(ast.literal_eval(old))
        for new, old in re.findall(rf"^{NAME_COMMENT} (\S+) = ('.*'|\".*\")$", text, re.MULTILINE)
    }
    found = re.search(rf"^{POI_COMMENT} ('.*?'|\".*?\") = (\S+) \[(\S+), (\S+)\]", text, re.MULTILINE)
    if not found:
        return names, R
    name, value, low, high = found.groups()
    return names, (str(ast.literal_eval(name)), float(value), (float(low), float(high)))


def _sort(lines: _Lines, row: list[str], path: Path) -> None:
    """Put a line behind the table of rates where it belongs."""
    kind = row[1] if len(row) > 1 else ""
    if kind in (*SHAPES, *KAPPAS):
        if len(row) != 2 + len(lines.columns):
            raise InputError(
                f"datacard {path}: {row[0]!r} has {len(row) - 2} effects, not {len(lines.columns)}"
            )
        lines.systematics.append((row[0], kind, row[2:]))
    elif kind == "rateParam" and len(row) in (5, 6):
        lines.rate_params.append(row)
    elif kind == "autoMCStats" and len(row) > 2:
        lines.statistics.append(row)
    elif kind not in IGNORED:
        raise InputError(
            f"datacard {path}: {' '.join(row[:4])!r}: read are {', '.join((*SHAPES, 'lnN'))}, rateParam of a number, "
            "autoMCStats; a pyhf workspace has no place for others"
        )


def _channel(lines: _Lines, histograms: CardHistograms, channel: str) -> JsonObject:
    own = [place for place, (where, _) in enumerate(lines.columns) if where == channel]
    nominal = {
        place: histograms.nominal(channel, lines.columns[place][1], lines.rates[place]) for place in own
    }
    statistics = _has_statistics(lines, channel, list(nominal.values()))
    samples = []
    for place in own:
        process, found = lines.columns[place][1], nominal[place]
        modifiers = list(_modifiers(lines, histograms, place, found.contents))
        if statistics:
            errors = {"name": f"staterror_{lines.names.get(channel, channel)}", "type": "staterror"}
            modifiers.append({**errors, "data": found.errors.tolist()})
        samples.append(
            {
                "name": lines.names.get(process, process),
                "data": found.contents.tolist(),
                "modifiers": modifiers,
            }
        )
    return {"name": lines.names.get(channel, channel), "samples": samples}


def _modifiers(
    lines: _Lines, histograms: CardHistograms, place: int, nominal: BinNumbers
) -> Iterator[dict[str, Any]]:
    channel, process = lines.columns[place]
    if lines.numbers[place] <= 0:
        yield {"name": lines.poi[0], "type": "normfactor", "data": None}
    for name, _, where, of, *_ in lines.rate_params:
        if fits(where, channel) and fits(of, process):
            yield {"name": lines.names.get(name, name), "type": "normfactor", "data": None}
    for name, kind, effects in lines.systematics:
        effect = effects[place]
        if effect in ("-", "0", "0.0"):
            continue
        ends = histograms.varied(channel, process, name) if kind in SHAPES else None
        if ends is None and kind not in KAPPAS:
            raise InputError(
                f"datacard: shape {name!r}: {channel}/{process} has no templates Up and Down of it"
            )
        if ends is None:
            yield _normsys(lines.names.get(name, name), *_kappas(name, effect))
        elif float(effect) != 1.0:
            raise InputError(f"datacard: shape {name!r} has the effect {effect}; read is 1, or - for none")
        else:
            yield from _shape(lines.names.get(name, name), nominal, ends)


def _kappas(name: str, effect: str) -> tuple[float, float]:
    """Return the factors up and down; a single number is the one up, its inverse the one down."""
    numbers = [float(text) for text in effect.split("/")]
    if len(numbers) > 2 or not min(numbers) > 0:
        raise InputError(
            f"datacard: lnN {name!r}: kappa {effect}; allowed is a number above 0, or two: down/up"
        )
    return (numbers[1], numbers[0]) if len(numbers) == 2 else (numbers[0], 1.0 / numbers[0])


def _normsys(name: str, up: float, down: float) -> dict[str, Any]:
    return {"name": name, "type": "normsys", "data": {"hi": up, "lo": down}}


def _shape(name: str, nominal: BinNumbers, ends: tuple[BinNumbers, BinNumbers]) -> Iterator[dict[str, Any]]:
    ratios = [float(np.sum(end) / np.sum(nominal)) for end in ends]
    if any(abs(ratio - 1.0) > UNITY for ratio in ratios):
        yield _normsys(name, *ratios)
    up, down = ((end / ratio).tolist() for end, ratio in zip(ends, ratios, strict=True))
    yield {"name": name, "type": "histosys", "data": {"hi_data": up, "lo_data": down}}


def _has_statistics(lines: _Lines, channel: str, nominal: Sequence[CardHistogram]) -> bool:
    """Return whether bins of a channel have a statistical parameter; refuse those with several."""
    threshold = -1.0
    for where, _, least, *_ in lines.statistics:
        threshold = float(least) if fits(where, channel) else threshold
    if threshold < 0:
        return False
    total = np.sum([own.contents for own in nominal], axis=0)
    variance = np.sum([own.errors**2 for own in nominal], axis=0)
    few = np.flatnonzero((variance > 0) & (total**2 <= threshold * variance))
    if few.size:
        raise InputError(
            f"datacard: autoMCStats {threshold:g} of channel {channel!r}: bin {few[0]} has fewer effective events, for "
            "which Combine makes a Poisson parameter of each process; read is one Gaussian parameter of a bin: 0"
        )
    return True


def _parameters(lines: _Lines) -> list[JsonObject]:
    name, value, bounds = lines.poi
    found: dict[str, JsonObject] = {}
    if min(lines.numbers) <= 0:
        found[name] = {"name": name, "inits": [value], "bounds": [list(bounds)]}
    for own, _, _, _, start, *bound in lines.rate_params:
        entry: dict[str, Any] = {"name": lines.names.get(own, own)}
        try:
            entry["inits"] = [float(start)]
            if bound:
                entry["bounds"] = [[float(end) for end in bound[0].strip("[]").split(",")]]
        except ValueError as error:
            raise InputError(
                f"datacard: rateParam {own!r}: {start!r} {bound}; read are numbers only"
            ) from error
        if found.setdefault(entry["name"], entry) != entry:
            raise InputError(f"datacard: rateParam {own!r} has two start values or bounds; give it the same")
    return _known(found)


def _known(found: Mapping[str, JsonObject]) -> list[JsonObject]:
    """Return settings that are not pyhf's own."""
    plain = {"inits": [1.0], "bounds": [[0.0, 10.0]]}
    left = [
        {"name": name, **{key: entry[key] for key in plain if key in entry and entry[key] != plain[key]}}
        for name, entry in found.items()
    ]
    return [entry for entry in left if len(entry) > 1]
