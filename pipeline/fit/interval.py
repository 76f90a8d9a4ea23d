"""The two ends of a profile-likelihood interval, whoever's likelihood it is."""

import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import scipy.optimize

Rise = Callable[[float], float | None]
"""Distance from the best fit -> how far -2 ln L has risen there; None where a bin would expect fewer than no events."""
Method = Literal["minos", "profile", "bound"]

CLOSE = 1e-4  # relative, of an end: a hundredth of what counts as agreement
NO_EVENTS = -1e-9  # relative to the fullest bin: a rate that is 0 to rounding is none below 0
STEPS = 60  # doublings and halvings before a likelihood counts as one that never rises
FURTHEST = 2.0  # factor between two looks outwards: one that is larger may step over an end


class End(NamedTuple):
    """How far an end is from the best fit, at least 0, and how it was found.

    ``bound``: no end of the interval, but where the model itself ends, a bin expecting fewer than no events beyond.
    """

    distance: float
    method: Method


class Interval(NamedTuple):
    """Both ends, below and above the best fit."""

    down: End
    up: End

    @property
    def half(self) -> float:
        """Half of the width; where one side ends at the bound of the model, the distance to the other end."""
        ends = [end.distance for end in self if end.method != "bound"]
        return math.fsum(ends) / len(ends) if ends else math.nan

    @property
    def signed(self) -> tuple[float, float]:
        """Both ends relative to the best fit, the lower first."""
        return 0.0 - self.down.distance, self.up.distance

    @property
    def methods(self) -> dict[Literal["down", "up"], Method]:
        """How each end was found."""
        return {"down": self.down.method, "up": self.up.method}


def end_of(rise: Rise, guess: float) -> End | None:
    """Return where -2 ln L has risen by 1: the nearest such place that steps outwards from a ``guess`` meet.

    The root of the rise is nearly linear, so a good guess takes two or three values. None where the likelihood never
    rises: nothing determines the parameter on this side.
    """

    @functools.cache
    def beyond(x: float) -> float:
        """Return how far the root is beyond 1; infinite where there is no likelihood."""
        found = rise(x)
        return math.inf if found is None else math.sqrt(max(found, 0.0)) - 1.0

    inside, wall, x = 0.0, math.inf, guess
    for _ in range(STEPS):
        excess = beyond(x)
        if abs(excess) <= CLOSE:
            return End(x, "profile")
        if math.isinf(excess):
            wall = x
        elif excess > 0:
            return End(_between(beyond, inside, x), "profile")
        else:
            inside = x
        if math.isfinite(wall) and wall - inside <= CLOSE * max(wall, guess):
            return End(inside, "bound")
        x = _next(inside, wall, excess)
    return None


def _next(inside: float, wall: float, excess: float) -> float:
    """Return where to look after a value that was no end: outwards, and no further than halfway to where all ends."""
    if math.isinf(wall):
        root = max(excess + 1.0, 1.0 / FURTHEST)
        return inside * min(1.5 / root - 0.5 + CLOSE, FURTHEST)
    return (inside + wall) / 2


def _between(beyond: Callable[[float], float], inside: float, outside: float) -> float:
    if inside == 0.0:  # the rise is 0 there, by definition, and no fit is needed to know it
        return float(scipy.optimize.brentq(lambda x: beyond(x) if x else -1.0, 0.0, outside, rtol=CLOSE))
    return float(scipy.optimize.brentq(beyond, inside, outside, rtol=CLOSE))
