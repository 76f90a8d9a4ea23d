"""The objective on a grid of free parameters: what an optimum found by gradients is checked against."""

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from pipeline.config import Config, parse_value
from pipeline.config.textfiles import LONGEST_SHOWN
from pipeline.errors import ConfigError, FitError
from pipeline.gradient.loss import centre_of, described, judge
from pipeline.gradient.sweeps import Executor, FreeValues, forward
from pipeline.gradient.work import Work
from pipeline.optimise.given_values import Value, checked_value, require_free, with_values
from pipeline.optimise.pruning import decision_at
from pipeline.optimise.schedule import widths_at
from pipeline.templates.fill import EXACT, Mode

logger = logging.getLogger(__name__)
MOST_POINTS = 100_000  # of a grid: each takes a sweep over all events, twice
Grid = Mapping[str, Sequence[Value]]


def grid(config: Config, over: Sequence[str]) -> dict[str, list[Value]]:
    """Return the values of each parameter, as texts such as ``jet_pt=25:60:15`` give them.

    A text gives first, last, and how many values, as this one does, or a list: ``btag=[0.3, 0.5]``.
    """
    found: dict[str, list[Value]] = {}
    for text in over:
        where = f"--over {text[:LONGEST_SHOWN]}"
        name, _, values = text.partition("=")
        require_free(config, where, name)
        if name in found:
            raise ConfigError(f"{where}: {name!r} is given twice; give all its values at once")
        found[name] = _values(where, values)
    points = math.prod(len(values) for values in found.values())
    if points > MOST_POINTS:
        raise ConfigError(f"--over: the grid has {points} points, at most {MOST_POINTS}; give fewer values")
    return found


def _values(where: str, text: str) -> list[Value]:
    if text.count(":") == 2:
        first, last, number = (parse_value(part, where) for part in text.split(":"))
        ends = all(type(end) in (int, float) and math.isfinite(end) for end in (first, last))
        if not ends or type(number) is not int or not 2 <= number <= MOST_POINTS:
            raise ConfigError(
                f"{where}: a range is FIRST:LAST:NUMBER with 2 to {MOST_POINTS} values, as in jet_pt=25:60:15"
            )
        return [float(value) for value in np.linspace(first, last, number)]
    given = parse_value(text, where)
    if not isinstance(given, list) or not given:
        raise ConfigError(f"{where}: give a list of values, as in btag=[0.3, 0.5], or FIRST:LAST:NUMBER")
    return [checked_value(where, value) for value in given]


class ScanPoint(TypedDict):
    """A point of the grid: its values, and the exact and the relaxed objective; None where a fit fails."""

    values: dict[str, Value]
    exact: float | None
    relaxed: float | None


class Scan(TypedDict):
    """All points, and ``best``, the one with the best number of each kind, of those that there are."""

    objective: dict[str, object]
    events: int
    points: list[ScanPoint]
    best: dict[str, ScanPoint | None]


def scan(config: Config, executor: Executor, work: Work, start: FreeValues, over: Grid) -> Scan:
    """Return exact and relaxed objective, at the final widths, at every point of the grid."""
    grid_points = [dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())]
    judged = judge(config, work.axes)
    objective = centre_of(judged.decided(decision_at(config, executor, work, start, judged)))
    last = widths_at(config, config.optimise.epochs)

    def number(values: Mapping[str, Value], kind: str, mode: Mode) -> float | None:
        parameters = with_values(config, start, values)
        try:
            return objective(forward(executor, work, parameters, mode), parameters)[0]
        except FitError as error:
            logger.info(f"{values}, {kind}: {error}")
            return None

    rows: list[ScanPoint] = []
    for values in grid_points:
        exact, relaxed = number(values, "exact", EXACT), number(values, "relaxed", last)
        rows.append({"values": values, "exact": exact, "relaxed": relaxed})
        logger.info(f"point {len(rows)} of {len(grid_points)}: {values}: exact {exact}, relaxed {relaxed}")
    found = described(config)
    best = {
        "exact": _best([(row["exact"], row) for row in rows], found.sense),
        "relaxed": _best([(row["relaxed"], row) for row in rows], found.sense),
    }
    for kind, row in best.items():
        where = "no point has a number" if row is None else "{exact} (exact), {relaxed} (relaxed) at {values}"
        logger.info(f"best by the {kind} objective: " + where.format_map(row or {}))
    return {"objective": found.as_json(), "events": work.events, "points": rows, "best": best}


def _best(rows: Sequence[tuple[float | None, ScanPoint]], sense: str) -> ScanPoint | None:
    there = [(number, row) for number, row in rows if number is not None]
    if not there:
        return None
    return (max if sense == "maximise" else min)(there, key=lambda pair: pair[0])[1]
