"""The covariance of the fitted parameters by pyhf: the inverse Hessian of its likelihood, by differences."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyhf

from pipeline.errors import FitError
from pipeline.evaluate.by_pyhf.state import PyhfData

STEP = 0.01  # of a parameter's width, of central differences: interpolation codes bend within a tenth of it


def covariance(model: pyhf.Model, data: PyhfData) -> np.ndarray:
    """Return the inverse of the Hessian of pyhf's -ln L at its initial parameters, by central differences.

    iminuit's own can be off by factors at the minimum of Asimov data, see docs/design.md.
    """
    start = np.asarray(model.config.suggested_init(), dtype=float)
    free = np.flatnonzero(~np.asarray(model.config.suggested_fixed()))
    steps = STEP * _widths(model, start)[free]
    units = np.zeros((free.size, start.size))
    units[np.arange(free.size), free] = steps

    def difference(a: np.ndarray, b: np.ndarray) -> float:
        corners = [(s, t) for s in (1, -1) for t in (1, -1)]
        return sum(-s * t * float(model.logpdf(start + s * a + t * b, data)[0]) for s, t in corners)

    hessian = np.zeros((free.size, free.size))
    for i in range(free.size):
        for j in range(i + 1):
            hessian[i, j] = hessian[j, i] = difference(units[i], units[j])
    covariance = np.zeros((start.size, start.size))
    scaled = hessian / (4 * np.outer(steps, steps))
    try:
        covariance[np.ix_(free, free)] = np.linalg.inv(scaled)
    except np.linalg.LinAlgError as error:
        raise FitError(
            f"the Hessian of pyhf's likelihood is singular: nothing determines {model.config.poi_name!r} or a nuisance "
            "parameter; does its sample have events?"
        ) from error
    return covariance


def _widths(model: pyhf.Model, start: np.ndarray, *, step: float = 1e-6) -> np.ndarray:
    """Return a rough uncertainty of each parameter from the bins alone, at most 1 with a constraint term.

    The scale of steps: a parameter of 1e9 signal events has a width of 1e-5, and a step that suits a shape parameter
    is a hundred of it. Rates are nearly linear in each parameter, so ``step`` may be small.
    """

    def rates(parameters: np.ndarray) -> np.ndarray:
        return np.asarray(model.expected_data(parameters.tolist(), include_auxdata=False))

    nominal, moves = rates(start), step * np.eye(start.size)
    slopes = np.array([(rates(start + move) - rates(start - move)) / (2 * step) for move in moves])
    information = np.sum(slopes**2 / np.where(nominal > 0, nominal, np.inf), axis=1)
    for name in model.config.par_order:
        if model.config.param_set(name).constrained:
            information[model.config.par_slice(name)] += 1.0
    return 1 / np.sqrt(np.where(information > 0, information, 1.0))


def determinant(model: pyhf.Model, data: PyhfData, parameters: Sequence[str] | None) -> float:
    """Return the determinant of the covariance of some parameters; without any, the POI's variance."""
    names = parameters or (model.config.poi_name,)
    places = [model.config.par_names.index(name) for name in names]
    return float(np.linalg.det(covariance(model, data)[np.ix_(places, places)]))


def vector_of(model: pyhf.Model, coefficients: Mapping[str, float]) -> np.ndarray:
    """Return the factor on each parameter; without any the POI's is 1."""
    found = np.zeros(model.config.npars)
    for name, factor in (coefficients or {model.config.poi_name: 1.0}).items():
        found[model.config.par_names.index(name)] = factor
    return found


def variance_of_poi(model: pyhf.Model, data: PyhfData) -> float:
    """Return the POI's element of the inverse Hessian of pyhf's likelihood at its initial parameters.

    Raises:
        FitError: the likelihood has no minimum there.
    """
    found = determinant(model, data, None)
    if not 0 < found < math.inf:
        raise FitError(
            f"by the Hessian of pyhf's likelihood the variance of {model.config.poi_name!r} is {found:.4g}: "
            "nothing determines it"
        )
    return found
