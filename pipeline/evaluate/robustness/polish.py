"""The polished point: from the result, one parameter after the other, to what is better with exact cuts.

Each move is to the best point around the present one, on training events, that is better by more than two errors, as a
certificate has it. A round in which nothing moves is the last.
"""

from typing import NamedTuple

from pipeline.data.record import Check
from pipeline.data.written import Written
from pipeline.evaluate.robustness.certificate import (
    Compared,
    ExactLooks,
    Result,
    compared,
    moved,
    result,
    scalars,
    values_around,
)
from pipeline.gradient.sweeps import FreeValues


class Move(Written):
    """One move: in which round, counted from 1, from which value of a parameter to what."""

    round: int
    parameter: str
    before: float
    after: Compared


class Polished(NamedTuple):
    """Where the moves led, and the moves."""

    parameters: FreeValues
    moves: tuple[Move, ...]


def polished(looks: ExactLooks, start: FreeValues) -> Polished:
    """Return the parameters after ``evaluate.polish`` rounds at most; the start where it has no fit."""
    moves: list[Move] = []
    here = result(looks, start)
    for number in range(1, looks.config.evaluate.polish + 1):
        before = len(moves)
        for name in scalars(looks.config) if here is not None else ():
            found = here and _best(looks, here, name)
            if here and found:
                moves.append(
                    Move(round=number, parameter=name, before=float(here.parameters[name]), after=found[1])
                )
                here = found[0]
        if len(moves) == before:
            break
    return Polished(start if here is None else here.parameters, tuple(moves))


def _best(looks: ExactLooks, here: Result, name: str) -> tuple[Result, Compared] | None:
    """Return the best point around that is better beyond its error; replicas are asked only where one looks better."""
    values = values_around(looks.config, name, float(here.parameters[name]))
    seen = [(value, looks(moved(here.parameters, name, value))) for value in values]
    there = [(value, found) for value, found in seen if found and found.minimised < here.found.minimised]
    for value, found in sorted(there, key=_minimised):
        parameters = moved(here.parameters, name, value)
        resampled = looks.resampled(parameters)
        comparison = compared(here, value, found, resampled)
        if comparison.is_better:
            return Result(parameters, found, resampled), comparison
    return None


def _minimised(entry: tuple[float, Check]) -> float:
    return entry[1].minimised
