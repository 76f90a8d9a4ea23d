"""The number of each objective by pyhf: its own fits and tests, on the same Asimov data."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyhf
import scipy.optimize
from jax.scipy.special import log_ndtr

from pipeline.config import Objective, WeightedTerm
from pipeline.errors import FitError
from pipeline.objective import OBJECTIVES

OFFSETS = tuple(n / 4 for n in range(-12, 13))  # of a shape parameter, where a fit may start


def judged(objective: Objective | WeightedTerm, model: Any, data: Any, half: float) -> float | None:
    """The objective by pyhf; None for one that is no number of the fit.

    Arguments:
        model: pyhf's, with its Asimov `data`.
        half: half of the POI's MINOS interval.
    """
    terms = getattr(objective, "terms", ())
    if terms:
        numbers = [judged(term, model, data, half) for term in terms]
        signs = [OBJECTIVES[term.kind].sign * term.weight for term in terms]
        known = [n for n in numbers if n is not None]
        return math.fsum(map(operator.mul, signs, known)) if len(known) == len(terms) else None
    if OBJECTIVES[objective.kind].of_sums:
        return None
    return JUDGES[objective.kind](model, data, half, **objective.options)


def _at(model: Any, poi: float) -> list[float]:
    """The initial parameters with a value of the parameter of interest."""
    parameters: list[float] = model.config.suggested_init()
    parameters[model.config.poi_index] = poi
    return parameters


def _asimov(model: Any, poi: float) -> Any:
    """Expected data at the initial parameters and a value of the parameter of interest."""
    return model.expected_data(_at(model, poi))


def _with_scipy() -> None:
    """Without nuisance parameters nothing is left to fit at a fixed mu, which iminuit refuses."""
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer())


def _root_of_q(model: Any, tested: float, truth: float) -> float:
    """sqrt(q) of a value of the parameter of interest on the Asimov data of another (arXiv:1007.1727).

    Asimov data are their own best fit, so one fit is enough. It starts from the nominal parameters and from the lowest
    point along each shape parameter: pyhf's minimiser stays in the valley that it starts in, and there may be several.
    """
    _with_scipy()
    data = _asimov(model, truth)

    def twice_nll(parameters: Sequence[float]) -> float:
        found = float(-2 * model.logpdf(parameters, data)[0])
        return found if math.isfinite(found) else math.inf

    def fitted(start: list[float]) -> float:
        return float(pyhf.infer.mle.fixed_poi_fit(tested, data, model, start, return_fitted_val=True)[1])

    nominal = _at(model, tested)
    along = [_moved(model, nominal, name, offset) for name in _shapes(model) for offset in OFFSETS]
    starts = [nominal, min(along, key=twice_nll)] if along else [nominal]
    return math.sqrt(max(min(map(fitted, starts)) - twice_nll(_at(model, truth)), 0.0))


def _shapes(model: Any) -> list[str]:
    return sorted({name for name, kind in model.config.modifiers if kind == "histosys"})


def _moved(model: Any, parameters: Sequence[float], name: str, value: float) -> list[float]:
    moved = list(parameters)
    place = model.config.par_slice(name).start
    if not model.config.suggested_fixed()[place]:
        moved[place] = value
    return moved


def _discovery(model: Any, data: Any, half: float, *, mu: float = 1.0) -> float:
    return _root_of_q(model, 0.0, mu)


def _discovery_p_value(model: Any, data: Any, half: float, *, mu: float = 1.0) -> float:
    return float(log_ndtr(-_root_of_q(model, 0.0, mu)))


def _counting(model: Any, data: Any, half: float, *, background_uncertainty: float = 0.0) -> float:
    """Z of a counting model of the same bins at POI = 1, its background known exactly or to a shapesys."""
    both, background = (
        np.asarray(model.expected_data(_at(model, poi), include_auxdata=False)) for poi in (1.0, 0.0)
    )
    known = {"name": "known", "type": "shapesys", "data": (background_uncertainty * background).tolist()}
    samples = [
        {
            "name": "signal",
            "data": (both - background).tolist(),
            "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
        },
        {
            "name": "background",
            "data": background.tolist(),
            "modifiers": [known] if background_uncertainty else [],
        },
    ]
    counting = pyhf.Model({"channels": [{"name": "bins", "samples": samples}]}, poi_name="mu")
    return _root_of_q(counting, 0.0, 1.0)


def _log_cls(model: Any, data: Any, half: float, *, mu: float = 1.0) -> float:
    """CLs = 2 Phi(-sqrt(q)), as without signal CLb is 1/2: pyhf's `hypotest`, if that finds the lowest minimum."""
    return float(log_ndtr(-_root_of_q(model, mu, 0.0))) + math.log(2)


def _upper_limit(model: Any, data: Any, half: float, *, level: float = 0.05, band: int = 0) -> float:
    """Where the expected CLs, Phi(N - sqrt(q)) / Phi(N) at N sigma of the band, is the level (arXiv:1007.1727)."""
    low, high = map(float, model.config.suggested_bounds()[model.config.poi_index])
    sigma = float(band)

    def above(mu: float) -> float:
        return float(log_ndtr(sigma - _root_of_q(model, mu, 0.0)) - log_ndtr(sigma)) - math.log(level)

    if above(high) > 0:
        raise FitError(
            f"upper_limit: CLs is above {level} up to the bound {high} of {model.config.poi_name!r}; raise the bound"
        )
    return float(scipy.optimize.brentq(above, max(low, 0.0), high, rtol=1e-6))


def _covariance(model: Any, data: Any, *, step: float = 1e-3) -> np.ndarray:
    """Inverse of the Hessian of pyhf's -ln L at its initial parameters, by central differences.

    iminuit's own can be off by factors at the minimum of Asimov data, see docs/design.md.
    """
    start = np.asarray(model.config.suggested_init())
    free = np.flatnonzero(~np.asarray(model.config.suggested_fixed()))
    units = step * np.eye(start.size)[free]

    def difference(a: np.ndarray, b: np.ndarray) -> float:
        corners = [(s, t) for s in (1, -1) for t in (1, -1)]
        return sum(-s * t * float(model.logpdf(start + s * a + t * b, data)[0]) for s, t in corners)

    hessian = np.array([[difference(a, b) for b in units] for a in units]) / (4 * step**2)
    covariance = np.zeros((start.size, start.size))
    covariance[np.ix_(free, free)] = np.linalg.inv(hessian)
    return covariance


def _generalised_variance(model: Any, data: Any, half: float, *, parameters: Sequence[str] = ()) -> float:
    names = parameters or (model.config.poi_name,)
    places = [model.config.par_names.index(name) for name in names]
    return float(np.linalg.det(_covariance(model, data)[np.ix_(places, places)]))


def variance_of_poi(model: Any, data: Any) -> float:
    """The POI's element of the inverse Hessian of pyhf's likelihood at its initial parameters."""
    return _generalised_variance(model, data, 0.0)


def _inferno(model: Any, data: Any, half: float, *, parameter: str | None = None) -> float:
    return _generalised_variance(model, data, half, parameters=(parameter,) if parameter else ())


JUDGES: dict[str, Callable[..., float]] = {
    "poi_uncertainty": lambda model, data, half: half,
    "profile_interval": lambda model, data, half: half,
    "generalised_variance": _generalised_variance,
    "inferno": _inferno,
    "discovery": _discovery,
    "discovery_p_value": _discovery_p_value,
    "cls": _log_cls,
    "upper_limit": _upper_limit,
    "asimov_significance": _counting,
}
"""Every objective of the fit but the sum: model, data, half of the MINOS interval, options -> number."""
