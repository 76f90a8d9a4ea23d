"""The number of each objective by pyhf: its own fits and tests, on the same Asimov data."""

import math
import operator
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pyhf
import scipy.optimize
from jax.scipy.special import log_ndtr

from pipeline.config import Objective, WeightedTerm
from pipeline.errors import FitError
from pipeline.evaluate.conditional import held_fit, twice_nll
from pipeline.evaluate.pyhf_state import PyhfData, pyhf_with
from pipeline.objective import OBJECTIVES

LEAST_LOG_CLS = math.log(sys.float_info.min)  # a root is not looked for from infinity
STEP = 0.01  # of a parameter's width, of central differences: interpolation codes bend within a tenth of it


def judged(
    objective: Objective | WeightedTerm,
    model: pyhf.Model,
    data: PyhfData,
    half: float,
    *,
    by_hessian: bool = False,
) -> float | None:
    """The objective by pyhf; None for one that is no number of the fit.

    Arguments:
        model: pyhf's, with its Asimov `data`.
        half: half of the POI's interval.
        by_hessian: `poi_uncertainty` by the Hessian, as our likelihood has it, not by the interval.
    """
    parts = contributions(objective, model, data, half, by_hessian=by_hessian)
    return None if parts is None else math.fsum(parts)


def contributions(
    objective: Objective | WeightedTerm,
    model: pyhf.Model,
    data: PyhfData,
    half: float,
    *,
    by_hessian: bool = False,
) -> list[float] | None:
    """What `judged` adds up: of a sum its terms, each with weight and sign, of anything else the number alone."""
    terms = getattr(objective, "terms", ())
    if terms:
        numbers = [judged(term, model, data, half, by_hessian=by_hessian) for term in terms]
        signs = [OBJECTIVES[term.kind].sign * term.weight for term in terms]
        known = [n for n in numbers if n is not None]
        return list(map(operator.mul, signs, known)) if len(known) == len(terms) else None
    if OBJECTIVES[objective.kind].of_sums:
        return None
    with pyhf_with(pyhf.optimize.scipy_optimizer()):
        if by_hessian and objective.kind == "poi_uncertainty":
            return [math.sqrt(variance_of_poi(model, data))]
        return [JUDGES[objective.kind](model, data, half, **objective.options)]


def kinds_of(objective: Objective | WeightedTerm) -> set[str]:
    """The objective's kind, or those of its terms."""
    return {term.kind for term in getattr(objective, "terms", ())} or {objective.kind}


def _at(model: pyhf.Model, poi: float) -> list[float]:
    """The initial parameters with a value of the parameter of interest."""
    parameters: list[float] = model.config.suggested_init()
    parameters[model.config.poi_index] = poi
    return parameters


def _asimov(model: pyhf.Model, poi: float) -> PyhfData:
    """Expected data at the initial parameters and a value of the parameter of interest."""
    expected: PyhfData = model.expected_data(_at(model, poi))
    return expected


def _root_of_q(model: pyhf.Model, tested: float, truth: float) -> float:
    """sqrt(q) of a value of the parameter of interest on the Asimov data of another (arXiv:1007.1727).

    Asimov data are their own best fit, so one fit is enough: the lowest of several starts, as there may be several
    valleys. Infinite where the tested value leaves a bin with data without any expected event.
    """
    data = _asimov(model, truth)
    found = held_fit(model, data, tested)
    if found is None:
        return math.inf
    return math.sqrt(max(found.twice_nll - twice_nll(model, data, _at(model, truth)), 0.0))


def _discovery(model: pyhf.Model, data: PyhfData, half: float, *, mu: float = 1.0) -> float:
    return _root_of_q(model, 0.0, mu)


def _discovery_p_value(model: pyhf.Model, data: PyhfData, half: float, *, mu: float = 1.0) -> float:
    return float(log_ndtr(-_root_of_q(model, 0.0, mu)))


def _counting(
    model: pyhf.Model, data: PyhfData, half: float, *, background_uncertainty: float = 0.0
) -> float:
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


def _log_cls(model: pyhf.Model, data: PyhfData, half: float, *, mu: float = 1.0) -> float:
    """CLs = 2 Phi(-sqrt(q)), as without signal CLb is 1/2: pyhf's `hypotest`, if that finds the lowest minimum."""
    return float(log_ndtr(-_root_of_q(model, mu, 0.0))) + math.log(2)


def _upper_limit(
    model: pyhf.Model, data: PyhfData, half: float, *, level: float = 0.05, band: int = 0
) -> float:
    """Where the expected CLs, Phi(N - sqrt(q)) / Phi(N) at N sigma of the band, is the level (arXiv:1007.1727)."""
    low, high = map(float, model.config.suggested_bounds()[model.config.poi_index])
    sigma = float(band)

    def above(mu: float) -> float:
        log_cls = float(log_ndtr(sigma - _root_of_q(model, mu, 0.0)) - log_ndtr(sigma))
        return max(log_cls, LEAST_LOG_CLS) - math.log(level)

    low, name = max(low, 0.0), model.config.poi_name
    for bound, side, beyond in ((high, "above", above(high) > 0), (low, "below", above(low) < 0)):
        if beyond:
            raise FitError(
                f"upper_limit: CLs is {side} {level} at the {'upper' if side == 'above' else 'lower'} bound {bound:g} "
                f"of {name!r}, so the limit is beyond its bounds [{low:g}, {high:g}]; widen them"
            )
    return float(scipy.optimize.brentq(above, low, high, rtol=1e-6))


def _covariance(model: pyhf.Model, data: PyhfData) -> np.ndarray:
    """Inverse of the Hessian of pyhf's -ln L at its initial parameters, by central differences.

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
    """Roughly the uncertainty of each parameter by the bins alone, at most 1 where there is a constraint term.

    The scale of steps: a parameter of 1e9 signal events has a width of 1e-5, and a step that suits a shape parameter
    is a hundred of it. Rates are nearly linear in each parameter, so `step` may be small.
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


def _generalised_variance(
    model: pyhf.Model, data: PyhfData, half: float, *, parameters: Sequence[str] = ()
) -> float:
    names = parameters or (model.config.poi_name,)
    places = [model.config.par_names.index(name) for name in names]
    return float(np.linalg.det(_covariance(model, data)[np.ix_(places, places)]))


def variance_of_poi(model: pyhf.Model, data: PyhfData) -> float:
    """The POI's element of the inverse Hessian of pyhf's likelihood at its initial parameters.

    Raises:
        FitError: the likelihood has no minimum there.
    """
    found = _generalised_variance(model, data, 0.0)
    if not 0 < found < math.inf:
        raise FitError(
            f"by the Hessian of pyhf's likelihood the variance of {model.config.poi_name!r} is {found:.4g}: "
            "nothing determines it"
        )
    return found


def _inferno(model: pyhf.Model, data: PyhfData, half: float, *, parameter: str | None = None) -> float:
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
"""Every objective of the fit but the sum: model, data, half of the interval, options -> number."""
