"""Contours of two parameters by the profile likelihood, all others fitted, and the Hessian's ellipse beside them."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from pipeline.data.written import Written
from pipeline.errors import FitError
from pipeline.fit.fits import FitResult
from pipeline.fit.impacts import fit_to_observations, held_fit, pair_covariance
from pipeline.fit.interval import Rise, end_of
from pipeline.likelihood import HistFactory

LEVELS = (0.68, 0.95)  # of probability
DIRECTIONS = 36  # in which a contour is looked for: every ten degrees of the ellipse


class ContourPoint(Written):
    """A point of a contour; with ``is_bound`` the model ends there, a bin expecting fewer than no events beyond."""

    x: float
    y: float
    is_bound: bool


class Contour(Written):
    """Two parameters, their best fit, their covariance by the Hessian, and the contour of each level in order."""

    parameters: tuple[str, str]
    best: tuple[float, float]
    covariance: tuple[tuple[float, float], tuple[float, float]]
    curves: dict[str, tuple[ContourPoint, ...]]

    @property
    def correlation(self) -> float:
        """The correlation of both by the Hessian."""
        (variance, covariance), (_, other) = self.covariance
        return covariance / math.sqrt(variance * other)

    def ellipse(self, level: float, points: int = 181) -> Float[np.ndarray, "2 points"]:
        """Return the closed ellipse that the Hessian makes of a level."""
        angles = np.linspace(0.0, 2 * math.pi, points)
        circle = np.stack([np.cos(angles), np.sin(angles)])
        root: Float[np.ndarray, "2 2"] = np.linalg.cholesky(np.asarray(self.covariance))
        around: Float[np.ndarray, "2 points"] = math.sqrt(rise_of(level)) * root @ circle
        around += np.asarray(self.best)[:, None]
        return around


def rise_of(level: float) -> float:
    """Return how far -2 ln L rises to the contour of a probability, with two parameters (Wilks)."""
    return -2.0 * math.log(1.0 - level)


def contours(model: HistFactory, names: Sequence[str], levels: Sequence[float] = LEVELS) -> list[Contour]:
    """Return the contours of every pair of some parameters in the fit of a model to its observations.

    In each of ``DIRECTIONS`` from the best fit, even in units of the ellipse, the contour of a level is where
    ``-2 ln (L(x, y) / L)`` has risen to ``-2 ln(1 - level)``, all else fitted again, whatever the bounds of the two.

    Raises:
        FitError: a fit did not converge, nothing determines one of the parameters, or both make up for each other.
    """
    data, best, _ = fit_to_observations(model)
    return [_contour(_Plane.of(model, data, best, pair), levels) for pair in itertools.combinations(names, 2)]


class _Plane(NamedTuple):
    """Two parameters around the best fit: their names, places, values there and covariance."""

    model: HistFactory
    data: Float[Array, " data"]
    best: FitResult
    names: tuple[str, str]
    places: tuple[int, ...]
    centre: Float[np.ndarray, " 2"]
    covariance: Float[np.ndarray, "2 2"]

    @classmethod
    def of(
        cls, model: HistFactory, data: Float[Array, " data"], best: FitResult, names: tuple[str, str]
    ) -> "_Plane":
        places = tuple(model.parameter_names.index(name) for name in names)
        covariance = pair_covariance(model, best.parameters, data, np.asarray(places))
        return cls(model, data, best, names, places, np.asarray(best.parameters)[list(places)], covariance)

    def rise(self, ray: Float[np.ndarray, " 2"], whole: float) -> Rise:
        """Return the rise of -2 ln L along a ray in units of ``whole``; each fit starts where the last one ended."""
        latest = self.best.parameters

        def rise(distance: float) -> float | None:
            nonlocal latest
            values = (self.centre + distance * ray).tolist()
            found = held_fit(self.model, self.data, dict(zip(self.places, values, strict=True)), latest)
            if found is None:
                return None
            latest = found.parameters
            return (float(found.twice_nll) - float(self.best.twice_nll)) / whole

        return rise


def _contour(plane: _Plane, levels: Sequence[float]) -> Contour:
    covariance = plane.covariance
    if not (np.all(np.isfinite(covariance)) and np.all(np.linalg.eigvalsh(covariance) > 0)):
        raise FitError(
            f"contour of {' and '.join(map(repr, plane.names))}: nothing determines one of them, or each makes up for "
            "the other"
        )
    angles = 2 * math.pi * np.arange(DIRECTIONS) / DIRECTIONS
    rays = (np.linalg.cholesky(covariance) @ np.stack([np.cos(angles), np.sin(angles)])).T
    (x, y), (one, other) = plane.centre.tolist(), covariance.tolist()
    return Contour(
        parameters=plane.names,
        best=(x, y),
        covariance=(tuple(one), tuple(other)),
        curves={f"{level:g}": tuple(_point(plane, ray, level) for ray in rays) for level in levels},
    )


def _point(plane: _Plane, ray: Float[np.ndarray, " 2"], level: float) -> ContourPoint:
    """Return where a ray from the best fit meets a contour."""
    whole = rise_of(level)
    found = end_of(plane.rise(ray, whole), math.sqrt(whole))
    if found is None:
        raise FitError(
            f"contour of {' and '.join(map(repr, plane.names))}: -2 ln L does not rise by {whole:.3g} in the direction "
            f"{ray.tolist()}"
        )
    x, y = (plane.centre + found.distance * ray).tolist()
    return ContourPoint(x=x, y=y, is_bound=found.method == "bound")
