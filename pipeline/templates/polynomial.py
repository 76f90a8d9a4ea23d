"""Templates that are polynomials of a theory's coefficients: their numbers, values, and lowest values in a box."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.config import Config
from pipeline.config.fit.theory import coefficients_of, component, monomials
from pipeline.containers import Templates
from pipeline.data.datasets import NOMINAL
from pipeline.errors import FitError
from pipeline.templates.axes import Axes

NEGATIVE = -1e-9  # of a yield, relative to the sum of the sizes of its terms: rounding is none below 0


class Polynomial(NamedTuple):
    """Yields ``n + l_i c_i + c_i q_ij c_j`` of bins, q symmetric, c the coefficients less their nominal values."""

    nominal: Float[np.ndarray, " bins"]
    linear: Float[np.ndarray, "coefficients bins"]
    quadratic: Float[np.ndarray, "coefficients coefficients bins"]

    def at(self, away: Float[np.ndarray, " coefficients"]) -> Float[np.ndarray, " bins"]:
        """Return the yields at coefficients, given less their nominal values."""
        found: np.ndarray = (
            self.nominal + away @ self.linear + np.einsum("i,j,ijb->b", away, away, self.quadratic)
        )
        return found

    def sizes(self, away: Float[np.ndarray, " coefficients"]) -> Float[np.ndarray, " bins"]:
        """Return the sum of the absolute terms."""
        return Polynomial(*(np.abs(part) for part in self)).at(np.abs(away))

    def lowest(
        self, box: Float[np.ndarray, "coefficients 2"]
    ) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, "bins coefficients"]]:
        """Return the lowest yield of each bin in a box, and where: the lowest of the stationary points of all faces."""
        value, where = self.nominal, np.zeros((len(self.nominal), len(box)))
        for face in itertools.product((0, 1, None), repeat=len(box)):
            points = np.stack([self._stationary(number, face, box) for number in range(len(self.nominal))])
            inside = np.all((points >= box[:, 0]) & (points <= box[:, 1]), axis=1)
            points = np.where(inside[:, None], points, 0.0)
            found = np.array([self.bin(number).at(point)[0] for number, point in enumerate(points)])
            lower = found < value
            value, where = np.where(lower, found, value), np.where(lower[:, None], points, where)
        return value, where

    def bin(self, number: int) -> "Polynomial":
        """Return the polynomial of one bin."""
        return Polynomial(*(part[..., number : number + 1] for part in self))

    def _stationary(
        self, number: int, face: Sequence[int | None], box: Float[np.ndarray, "coefficients 2"]
    ) -> Float[np.ndarray, " coefficients"]:
        """Return where a bin is stationary with some coefficients at an end of the box; infinite without such."""
        free = [i for i, side in enumerate(face) if side is None]
        point = np.array([0.0 if side is None else box[i, side] for i, side in enumerate(face)])
        if free:
            bend = 2.0 * self.quadratic[..., number]
            slope = self.linear[:, number] + bend @ point
            part = bend[np.ix_(free, free)]
            solvable = np.linalg.matrix_rank(part) == len(free)
            point[free] = np.linalg.solve(part, -slope[free]) if solvable else math.inf
        return point


def polynomial_of(templates: Templates, axes: Axes, config: Config, channel: str, sample: str) -> Polynomial:
    """Return the nominal templates of a sample in a channel as a polynomial of all coefficients of the model."""
    names = [own.name for own in config.model.theory]
    yields = np.asarray(templates.yields[channel], dtype=np.float64)
    nominal = yields[axes.row(sample, NOMINAL)]
    linear, quadratic = np.zeros((len(names), len(nominal))), np.zeros((len(names), len(names), len(nominal)))
    for monomial in monomials(coefficients_of(config.model.theory, sample)):
        own = yields[axes.row(sample, component(NOMINAL, monomial))]
        places = [names.index(name) for name in monomial]
        if len(places) == 1:
            linear[places[0]] = own
        else:
            quadratic[places[0], places[1]] += 0.5 * own
            quadratic[places[1], places[0]] += 0.5 * own
    return Polynomial(nominal, linear, quadratic)


def require_positive(templates: Templates, axes: Axes, config: Config) -> None:
    """Raise where coefficients inside their bounds make a negative total weight, of a sample or of a bin of all.

    Where each event's weight is the square of an amplitude, nothing is negative: sums of such polynomials are none.

    Raises:
        FitError: the message has the channel, the sample or bin, the coefficients and the yield.
    """
    if not config.model.theory:
        return
    box = np.array([own.bounds for own in config.model.theory])
    box = box - np.array([[own.nominal] for own in config.model.theory])
    for channel in config.regions:
        own = {name: polynomial_of(templates, axes, config, channel, name) for name in config.data.samples}
        for sample, found in own.items():
            if coefficients_of(config.model.theory, sample):
                whole = Polynomial(*(part.sum(axis=-1, keepdims=True) for part in found))
                _require(
                    whole,
                    box,
                    config,
                    f"sample {sample!r} has a total weight of {{:.4g}} in channel {channel!r}",
                )
        every = Polynomial(*(np.sum(parts, axis=0) for parts in zip(*own.values(), strict=True)))
        _require(every, box, config, f"channel {channel!r} expects {{:.4g}} events in bin {{}}")


def _require(found: Polynomial, box: Float[np.ndarray, "coefficients 2"], config: Config, what: str) -> None:
    value, where = found.lowest(box)
    for number in range(len(value)):
        if value[number] < NEGATIVE * found.bin(number).sizes(where[number])[0]:
            at = _words(config, where[number])
            raise FitError(
                f"model.theory: {what.format(value[number], number)} at {at}, inside the bounds; a weight that is the "
                "square of an amplitude is never negative: correct theory_weight or the benchmark weights, use more "
                "events, or narrow the bounds"
            )


def _words(config: Config, away: Float[np.ndarray, " coefficients"]) -> str:
    """Return the values of coefficients in words."""
    values: Mapping[str, float] = {
        own.name: own.nominal + float(step) for own, step in zip(config.model.theory, away, strict=True)
    }
    return ", ".join(f"{name} = {value:.4g}" for name, value in values.items())
