"""The lines of a datacard of CMS's Combine, sorted by what they say, with every name and number of them checked."""

import ast
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.config import textfiles
from pipeline.errors import InputError, nearest
from pipeline.evaluate.workspaces.exchange.combine import NAME_COMMENT, POI_COMMENT
from pipeline.evaluate.workspaces.exchange.combine_histograms import fits

SHAPES, KAPPAS = ("shape", "shapeN", "shape?"), ("lnN", "shape?")
KINDS = (*SHAPES, "lnN", "rateParam", "autoMCStats")
IGNORED = ("group",)  # of lines: they say how impacts are listed
COUNTS = ("imax", "jmax", "kmax")
TABLE = ("bin", "process", "rate", "observation", "shapes")
FROM_HISTOGRAM = -1.0  # as observation or rate
R = ("r", 1.0, (0.0, 20.0))
"""Combine's own parameter of interest: name, start value, bounds."""

PointOfInterest = tuple[str, float, tuple[float, float]]


class Line(NamedTuple):
    """The words of a line, and what a message calls it."""

    where: str
    words: list[str]

    def wrong(self, why: str) -> InputError:
        """Return the error of this line."""
        return InputError(f"{self.where}: {why}")

    def number(self, text: str, allowed: str = "a finite number") -> float:
        """Return a number."""
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            raise self.wrong(f"{text!r}; allowed is {allowed}")
        return found


class NuisanceLine(NamedTuple):
    """A nuisance parameter: its effect on each column, one number or two, or none."""

    name: str
    kind: str
    effects: list[tuple[float, ...]]


class RateParameter(NamedTuple):
    """A free factor of the processes that fit, in the bins that fit."""

    name: str
    channel: str
    process: str
    start: float
    bounds: tuple[float, float] | None


class Statistics(NamedTuple):
    """Which bins have parameters of simulated statistics, above which number of effective events."""

    channel: str
    threshold: float
    with_signal: bool


class CardLines(NamedTuple):
    """The lines of a datacard, by what they say."""

    names: dict[str, str]
    poi: PointOfInterest
    shapes: list[list[str]]
    channels: dict[str, float]  # with the number of observed events
    columns: list[tuple[str, str]]
    numbers: list[int]
    rates: list[float]
    systematics: list[NuisanceLine]
    rate_params: list[RateParameter]
    statistics: list[Statistics]


def parsed(path: Path) -> CardLines:
    """Return the lines of a datacard.

    Raises:
        InputError: it cannot be read, a line is missing, wrong or of something that pyhf has not; it is named.
    """
    try:
        text = textfiles.read(path, textfiles.MEGABYTE)
    except (OSError, ValueError) as error:
        raise InputError(f"datacard {path}: {error}") from error
    lines = _lines(text, path)
    first: dict[str, list[Line]] = {key: [] for key in (*TABLE, *COUNTS)}
    others: list[Line] = []
    for line in lines:
        if line.words[0] in first and len(line.words) > 1 and line.words[1] in KINDS:
            raise line.wrong(f"{line.words[0]!r} is a word of Combine's own; rename the parameter")
        first.get(line.words[0], others).append(line)
    found = _table(path, first, *_comments(text))
    for line in others:
        _sort(found, line)
    _check_counts(found, [line for key in COUNTS for line in first[key]])
    return found


def _lines(text: str, path: Path) -> list[Line]:
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].split()
        if words and not words[0].startswith("-"):
            found.append(Line(f"datacard {path}, line {number}, {' '.join(words[:4])!r}", words))
    return found


def _table(
    path: Path, first: dict[str, list[Line]], names: dict[str, str], poi: PointOfInterest
) -> CardLines:
    """Return the lines up to the table of rates."""
    try:
        (bins, columns), (processes, numbers), (rates,), (observed,) = (
            first[key] for key in ("bin", "process", "rate", "observation")
        )
        if not all(re.fullmatch(r"-?\d+", word) for word in numbers.words[1:]):
            processes, numbers = numbers, processes
        places = list(zip(columns.words[1:], processes.words[1:], strict=True))
        of_columns = [int(number) for number in numbers.words[1:]]
        if not len(of_columns) == len(rates.words) - 1 == len(places) > 0:
            raise ValueError(
                f"{len(places)} columns, {len(of_columns)} numbers of processes and {len(rates.words) - 1} rates"
            )
        counted = list(zip(bins.words[1:], observed.words[1:], strict=True))
    except ValueError as error:
        raise InputError(
            f"datacard {path}: it needs two lines `bin` and two `process`, one `observation` and one `rate`, with an "
            f"entry for each column: {error}"
        ) from error
    shapes = [line.words[1:] for line in first["shapes"]]
    channels: dict[str, float] = {}
    for name, text in counted:
        if name in channels:
            raise bins.wrong(f"bin {name!r} is given twice; give each its own name")
        channels[name] = _yield(observed, text, bool(shapes))
        if channels[name] < 0 and channels[name] != FROM_HISTOGRAM:
            raise observed.wrong(f"{text} in bin {name!r}; allowed is a number of at least 0")
    for name, _ in places:
        if name not in channels:
            raise columns.wrong(f"bin {name!r} has no observation; {nearest(name, channels)}")
    for name in channels:
        if name not in [channel for channel, _ in places]:
            raise bins.wrong(f"bin {name!r} has no process; add one, or remove its observation")
    twice = [place for place in places if places.count(place) > 1]
    if twice:
        raise processes.wrong(f"process {twice[0][1]!r} is given twice in bin {twice[0][0]!r}; keep one")
    found = [_yield(rates, text, bool(shapes)) for text in rates.words[1:]]
    return CardLines(names, poi, shapes, channels, places, of_columns, found, [], [], [])


def _yield(line: Line, text: str, has_shapes: bool) -> float:
    found = line.number(text)
    if found == FROM_HISTOGRAM and not has_shapes:
        raise line.wrong(
            f"{text} is for cards with histograms, and no line `shapes` names any; give a number"
        )
    return found


def _comments(text: str) -> tuple[dict[str, str], PointOfInterest]:
    """Return names as they were before they were spelt for Combine, and the parameter of interest.

    Comments of others that begin as ours do are nothing.
    """
    names: dict[str, str] = {}
    for new, quoted in re.findall(rf"^{NAME_COMMENT} (\S+) = ('.*'|\".*\")$", text, re.MULTILINE):
        old = _unquoted(quoted)
        if old is not None:
            names[new] = old
    found = re.search(rf"^{POI_COMMENT} ('.*?'|\".*?\") = (\S+) \[(\S+), (\S+)\]", text, re.MULTILINE)
    if not found:
        return names, R
    try:
        value, low, high = (float(number) for number in found.groups()[1:])
    except ValueError:
        return names, R
    name = _unquoted(found.group(1))
    if not name or not math.isfinite(high - low) or not low <= value <= high:
        return names, R
    return names, (name, value, (low, high))


def _unquoted(text: str) -> str | None:
    """Return a text that Python has quoted, None for anything else."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    return found if isinstance(found, str) else None


def _sort(lines: CardLines, line: Line) -> None:
    """Put a line behind the table of rates where it belongs."""
    words = line.words
    kind = words[1] if len(words) > 1 else ""
    if kind in (*SHAPES, *KAPPAS):
        if len(words) != 2 + len(lines.columns):
            raise line.wrong(f"{words[0]!r} has {len(words) - 2} effects, not {len(lines.columns)}")
        effects = [_effect(line, text) for text in words[2:]]
        lines.systematics.append(NuisanceLine(words[0], kind, effects))
    elif kind == "rateParam" and len(words) in (5, 6):
        lines.rate_params.append(_rate_parameter(lines, line))
    elif kind == "autoMCStats" and len(words) > 2:
        lines.statistics.append(_statistics(lines, line))
    elif kind not in IGNORED:
        raise line.wrong(
            f"read are {', '.join((*SHAPES, 'lnN'))}, rateParam of a number, autoMCStats; a pyhf workspace has no "
            "place for others"
        )


def _effect(line: Line, text: str) -> tuple[float, ...]:
    """Return kappa, or kappa down and up; none for `-` and 0."""
    if text == "-":
        return ()
    allowed = "a number above 0, or two: down/up, or - for none"
    where = f"{line.words[1]} {line.words[0]!r}: kappa {text}"
    numbers = tuple(line.number(part, f"{allowed}, in {where}") for part in text.split("/"))
    if numbers == (0.0,):
        return ()
    if len(numbers) > 2 or not min(numbers) > 0:
        raise line.wrong(f"{where}; allowed is {allowed}")
    return numbers


def _rate_parameter(lines: CardLines, line: Line) -> RateParameter:
    name, _, channel, process, start, *bound = line.words
    if not any(fits(channel, c) and fits(process, p) for c, p in lines.columns):
        raise line.wrong(f"no process {process!r} in a bin {channel!r}; the table has {lines.columns}")
    try:
        value = float(start)
        ends = [float(end) for end in bound[0].strip("[]").split(",")] if bound else None
    except ValueError as error:
        raise line.wrong(f"rateParam {name!r}: {start!r} {bound}; read are numbers only") from error
    if not math.isfinite(value):
        raise line.wrong(f"rateParam {name!r}: {start!r}; allowed is a finite number")
    if ends is None:
        return RateParameter(name, channel, process, value, None)
    if len(ends) != 2 or not math.isfinite(ends[1] - ends[0]) or not ends[0] <= value <= ends[1]:
        raise line.wrong(
            f"rateParam {name!r}: bounds {bound[0]!r}; allowed is [low,high] around the start value {value:g}"
        )
    return RateParameter(name, channel, process, value, (ends[0], ends[1]))


def _statistics(lines: CardLines, line: Line) -> Statistics:
    channel, _, *texts = line.words
    if not any(fits(channel, own) for own in lines.channels):
        raise line.wrong(f"no bin {channel!r}; {nearest(channel, lines.channels)}")
    threshold, with_signal, *_ = [*(line.number(text) for text in texts), 0.0]
    return Statistics(channel, threshold, with_signal != 0)


def _check_counts(lines: CardLines, counts: Sequence[Line]) -> None:
    """Refuse a number of bins, processes or parameters that is not true; `*` leaves it open."""
    true = {
        "imax": (len(lines.channels), "bins"),
        "jmax": (len({process for _, process in lines.columns}) - 1, "processes minus 1"),
        "kmax": (len({own.name for own in lines.systematics}), "nuisance parameters"),
    }
    for line in counts:
        key, *texts = line.words
        number, what = true[key]
        given = texts[0] if texts else ""
        if given != "*" and line.number(given, f"{number} or *") != number:
            raise line.wrong(f"{key} {given}, but the card has {number} {what}; write {number} or *")
