"""The certificate: what is minimised, with exact cuts on training events, along each scalar parameter around a result.

A point is better if what is minimised is smaller there by more than two errors. The error is that of the difference to
the result: both are looked at on the same bootstrap samples, so what is common to them cancels.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from pipeline.analysis import analysis_of
from pipeline.config import Config
from pipeline.data.record import Check
from pipeline.data.written import Written
from pipeline.gradient.loss import Judge
from pipeline.gradient.sweeps import Executor, FreeValues
from pipeline.gradient.work import Work
from pipeline.optimise import kept

INITIAL_WIDTHS = 10.0  # how far a scan goes to each side, of a parameter that a width has the name of
SHARE = 0.25  # of the allowed range, of any other
ERRORS = 2.0  # by which a point is better, of a normal distribution
CLOSE = 1e-3  # of the reach: a bound so near is where the result is
FEWEST = 5  # replicas with a number: fewer may all lack the one event that makes the difference


class Compared(Written):
    """A value of a parameter, the exact objective there, and what is minimised less what it is at the result.

    ``error`` is that of the difference, from so many ``replicas``. None where there is no fit.
    """

    value: float
    objective: float | None
    difference: float | None
    error: float | None
    replicas: int

    @property
    def is_better(self) -> bool:
        """Whether less is minimised here, by more than two errors; more of them where few replicas give the error."""
        if self.difference is None or not self.error or self.replicas < FEWEST:
            return False
        errors = scipy.stats.t.ppf(scipy.stats.norm.cdf(ERRORS), self.replicas - 1)
        return bool(self.difference < -errors * self.error)


class Curve(Written):
    """A parameter, its value at the result, and what is found around that, in the order of the values."""

    parameter: str
    centre: float
    scanned: tuple[Compared, ...]


class Better(Written):
    """The best point of a curve that is better beyond its error, and the exact objective there on held-out events."""

    parameter: str
    scanned: Compared
    held_out: float | None


class Certificate(Written):
    """The exact objective and what is minimised at the result on training events, all curves, what is better.

    Without a scalar parameter there are no curves. ``held_out`` is the exact objective at the result; none where no
    events are held out.
    """

    objective: float
    minimised: float
    held_out: float | None
    curves: tuple[Curve, ...]
    better: tuple[Better, ...]

    @property
    def evaluations(self) -> int:
        """How many points were looked at."""
        return sum(len(curve.scanned) for curve in self.curves)


class ExactLooks(NamedTuple):
    """How points are looked at: the run, its events, what is minimised of their exact templates."""

    config: Config
    executor: Executor
    work: Work
    judge: Judge

    def __call__(self, parameters: FreeValues) -> Check | None:
        """Return objective and what is minimised at some parameters; None where there is no fit."""
        return kept.check(self.executor, self.work, parameters, self.judge, is_told=False)

    def resampled(self, parameters: FreeValues) -> tuple[float | None, ...]:
        """Return what is minimised on every replica of the events; all of a point in a row."""
        replicas = range(self.config.evaluate.certificate_replicas)
        found = (self._replace(work=self.work._replace(replica=number))(parameters) for number in replicas)
        return tuple(None if check is None else check.minimised for check in found)


class Result(NamedTuple):
    """A point that others are compared with: its parameters, what is minimised there, and that of replicas."""

    parameters: FreeValues
    found: Check
    resampled: tuple[float | None, ...]


def result(looks: ExactLooks, parameters: FreeValues) -> Result | None:
    """Return a point to compare with; None where it has no fit."""
    found = looks(parameters)
    return None if found is None else Result(parameters, found, looks.resampled(parameters))


def scalars(config: Config) -> list[str]:
    """Return the parameters that can be scanned: those that the analysis declares, each one number with bounds."""
    return list(analysis_of(config).parameters)


def values_around(config: Config, name: str, centre: float) -> list[float]:
    """Return values inside the bounds, half of them on each side and denser near the centre; at a bound on one side."""
    number, (low, high) = config.evaluate.certificate, analysis_of(config).parameters[name].bounds
    width = config.widths.get(name)
    reach = SHARE * (high - low) if width is None else INITIAL_WIDTHS * width.initial
    down, up = (0 if side < CLOSE * reach else min(reach, side) for side in (centre - low, high - centre))
    below = 0 if down <= 0 else number if up <= 0 else number // 2
    sides = ((-down, below), (up, number - below))
    found = (centre + side * (step / many) ** 2 for side, many in sides for step in range(1, many + 1))
    return sorted(min(max(value, low), high) for value in found)


def moved(parameters: FreeValues, name: str, value: float) -> FreeValues:
    """Return parameters with another value of one."""
    return {**parameters, name: np.float64(value)}


def compared(
    here: Result, value: float, found: Check | None, resampled: Sequence[float | None] = ()
) -> Compared:
    """Return a value of a parameter as compared with a point, and the error from replicas of both."""
    pairs = zip(here.resampled, resampled, strict=False)
    both = [there - own for own, there in pairs if own is not None and there is not None]
    return Compared(
        value=value,
        objective=None if found is None else found.objective,
        difference=None if found is None else found.minimised - here.found.minimised,
        error=float(np.std(both, ddof=1)) if len(both) > 1 else None,
        replicas=len(both),
    )


def certificate(looks: ExactLooks, parameters: FreeValues, held_out: Work | None) -> Certificate | None:
    """Return the curves around some parameters; None where there is no fit at these.

    Args:
        held_out: the events on which the better points are looked at too.
    """
    here = result(looks, parameters)
    if here is None:
        return None
    unseen = None if held_out is None else looks._replace(work=held_out)
    curves = tuple(_curve(looks, here, name) for name in scalars(looks.config))
    better = tuple(filter(None, (_better(curve, parameters, unseen) for curve in curves)))
    return Certificate(
        objective=here.found.objective,
        minimised=here.found.minimised,
        held_out=_objective(unseen, parameters),
        curves=curves,
        better=better,
    )


def _curve(looks: ExactLooks, here: Result, name: str) -> Curve:
    centre = float(here.parameters[name])
    at = functools.partial(moved, here.parameters, name)
    scanned = (
        compared(here, value, looks(at(value)), looks.resampled(at(value)))
        for value in values_around(looks.config, name, centre)
    )
    return Curve(parameter=name, centre=centre, scanned=tuple(scanned))


def _better(curve: Curve, parameters: FreeValues, unseen: ExactLooks | None) -> Better | None:
    """Return the best of a curve's points that are better."""
    there = [point for point in curve.scanned if point.is_better]
    if not there:
        return None
    best = min(there, key=lambda point: point.difference or 0.0)
    there_too = _objective(unseen, moved(parameters, curve.parameter, best.value))
    return Better(parameter=curve.parameter, scanned=best, held_out=there_too)


def _objective(unseen: ExactLooks | None, parameters: FreeValues) -> float | None:
    found = None if unseen is None else unseen(parameters)
    return None if found is None else found.objective
