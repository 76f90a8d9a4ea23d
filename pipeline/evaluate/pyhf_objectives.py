"""The number of each objective by pyhf: its own fits and tests, on the same Asimov data."""

import functools
import math
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import pyhf
import scipy.optimize
from jax.scipy.special import log_ndtr

from pipeline.config.quantities import (
    AsimovSignificance,
    Cls,
    Discovery,
    DiscoveryPValue,
    ExpectedLimit,
    ExpectedVariance,
    GeneralisedVariance,
    JointSignificance,
    PoiUncertainty,
    ProfileInterval,
    UncertaintyPart,
    WeightedSum,
)
from pipeline.config.quantity import Quantity
from pipeline.errors import FitError
from pipeline.evaluate.conditional import held_fit, twice_nll
from pipeline.evaluate.pyhf_state import PyhfData, pyhf_with

LEAST_LOG_CLS = math.log(sys.float_info.min)  # a root is not looked for from infinity
STEP = 0.01  # of a parameter's width, of central differences: interpolation codes bend within a tenth of it


@functools.singledispatch
def judge(options: Quantity, model: pyhf.Model, data: PyhfData, half: float) -> float:
    """Return the number of an objective of the fit, of pyhf's model with its Asimov data; ``half`` as of ``judged``.

    Each kind but the sum registers its function, ``@judge.register``.
    """
    raise NotImplementedError(
        f"pyhf's number of {type(options).__name__} is not registered; see 'Adding an objective' in CONTRIBUTING.md"
    )


def judged(
    quantity: Quantity, model: pyhf.Model, data: PyhfData, half: float, *, by_hessian: bool = False
) -> float | None:
    """Return the objective by pyhf; None for one that is no number of the fit.

    Args:
        model: pyhf's, with its Asimov ``data``.
        half: half of the POI's interval.
        by_hessian: ``poi_uncertainty`` by the Hessian, as our likelihood has it, not by the interval.
    """
    parts = contributions(quantity, model, data, half, by_hessian=by_hessian)
    return None if parts is None else math.fsum(parts)


def contributions(
    quantity: Quantity, model: pyhf.Model, data: PyhfData, half: float, *, by_hessian: bool = False
) -> list[float] | None:
    """Return the terms that ``judged`` adds up, each with weight and sign; one where there is no sum."""
    if isinstance(quantity, WeightedSum):
        numbers = [judged(term.quantity, model, data, half, by_hessian=by_hessian) for term in quantity.terms]
        known = [n for n in numbers if n is not None]
        weighted = [term.factor * number for term, number in zip(quantity.terms, known, strict=False)]
        return weighted if len(known) == len(numbers) else None
    if quantity.of_sums:
        return None
    with pyhf_with(pyhf.optimize.scipy_optimizer()):
        if by_hessian and isinstance(quantity, PoiUncertainty) and not quantity.coefficients:
            return [math.sqrt(variance_of_poi(model, data))]
        return [judge(quantity, model, data, half)]


@judge.register
def _interval(options: ProfileInterval, model: pyhf.Model, data: PyhfData, half: float) -> float:
    return half


@judge.register
def _uncertainty(options: PoiUncertainty, model: pyhf.Model, data: PyhfData, half: float) -> float:
    """Return half of the interval, which is the POI's; of others the Hessian's."""
    if not options.coefficients:
        return half
    vector = _vector(model, options.coefficients)
    return math.sqrt(vector @ _covariance(model, data) @ vector)


def _at(model: pyhf.Model, poi: float) -> list[float]:
    """Return the initial parameters with a value of the parameter of interest."""
    parameters: list[float] = model.config.suggested_init()
    parameters[model.config.poi_index] = poi
    return parameters


def _asimov(model: pyhf.Model, poi: float) -> PyhfData:
    """Return expected data at the initial parameters and a value of the parameter of interest."""
    expected: PyhfData = model.expected_data(_at(model, poi))
    return expected


def _root_of_q(model: pyhf.Model, tested: float, truth: float) -> float:
    """Return sqrt(q) of a value of the parameter of interest on the Asimov data of another (arXiv:1007.1727).

    Asimov data are their own best fit, so one fit is enough: the lowest of several starts, as there may be several
    valleys. Infinite where the tested value leaves a bin with data without any expected event.
    """
    data = _asimov(model, truth)
    found = held_fit(model, data, tested)
    if found is None:
        return math.inf
    return math.sqrt(max(found.twice_nll - twice_nll(model, data, _at(model, truth)), 0.0))


@judge.register
def _discovery(options: Discovery, model: pyhf.Model, data: PyhfData, half: float) -> float:
    return _root_of_q(model, 0.0, options.mu)


@judge.register
def _discovery_p_value(options: DiscoveryPValue, model: pyhf.Model, data: PyhfData, half: float) -> float:
    return float(log_ndtr(-_root_of_q(model, 0.0, options.mu)))


@judge.register
def _counting(options: AsimovSignificance, model: pyhf.Model, data: PyhfData, half: float) -> float:
    """Return Z of a counting model of the same bins at POI = 1, its background known exactly or to a shapesys."""
    both, background = (
        np.asarray(model.expected_data(_at(model, poi), include_auxdata=False)) for poi in (1.0, 0.0)
    )
    relative = options.background_uncertainty or 0.0
    known = {"name": "known", "type": "shapesys", "data": (relative * background).tolist()}
    samples = [
        {
            "name": "signal",
            "data": (both - background).tolist(),
            "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
        },
        {
            "name": "background",
            "data": background.tolist(),
            "modifiers": [known] if relative else [],
        },
    ]
    counting = pyhf.Model({"channels": [{"name": "bins", "samples": samples}]}, poi_name="mu")
    return _root_of_q(counting, 0.0, 1.0)


@judge.register
def _joint(options: JointSignificance, model: pyhf.Model, data: PyhfData, half: float) -> float:
    """Return the geometric mean, each signal in turn the parameter of interest of the same model."""
    quantity = Discovery() if options.fitted else AsimovSignificance()
    each = [judge(quantity, _with_poi(model, name), data, half) for name in options.signals or ()]
    return float(np.prod(each) ** (1 / len(each)))


def _with_poi(model: pyhf.Model, name: str) -> pyhf.Model:
    settings = model.config.modifier_settings
    return pyhf.Model(model.spec, poi_name=name, modifier_settings=settings, validate=False)


@judge.register
def _log_cls(options: Cls, model: pyhf.Model, data: PyhfData, half: float) -> float:
    """Return ``ln CLs = ln(2 Phi(-sqrt(q)))``.

    The 2 is there because CLb is 1/2 without signal. pyhf's ``hypotest`` gives the same number, if it finds
    the lowest minimum.
    """
    return float(log_ndtr(-_root_of_q(model, options.mu, 0.0))) + math.log(2)


@judge.register
def _upper_limit(options: ExpectedLimit, model: pyhf.Model, data: PyhfData, half: float) -> float:
    """Return the value of the POI where the expected CLs is the level (arXiv:1007.1727).

    The expected CLs is ``Phi(N - sqrt(q)) / Phi(N)`` at N sigma of the band.
    """
    low, high = map(float, model.config.suggested_bounds()[model.config.poi_index])
    sigma, level = float(options.band), options.level

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


def _determinant(model: pyhf.Model, data: PyhfData, parameters: Sequence[str] | None) -> float:
    """Return the determinant of the covariance of some parameters; without any, the POI's variance."""
    names = parameters or (model.config.poi_name,)
    places = [model.config.par_names.index(name) for name in names]
    return float(np.linalg.det(_covariance(model, data)[np.ix_(places, places)]))


@judge.register
def _generalised_variance(
    options: GeneralisedVariance, model: pyhf.Model, data: PyhfData, half: float
) -> float:
    return _determinant(model, data, options.parameters)


@judge.register
def _expected_variance(options: ExpectedVariance, model: pyhf.Model, data: PyhfData, half: float) -> float:
    return _determinant(model, data, None if options.parameter is None else (options.parameter,))


def variance_of_poi(model: pyhf.Model, data: PyhfData) -> float:
    """Return the POI's element of the inverse Hessian of pyhf's likelihood at its initial parameters.

    Raises:
        FitError: the likelihood has no minimum there.
    """
    found = _determinant(model, data, None)
    if not 0 < found < math.inf:
        raise FitError(
            f"by the Hessian of pyhf's likelihood the variance of {model.config.poi_name!r} is {found:.4g}: "
            "nothing determines it"
        )
    return found


def _vector(model: pyhf.Model, coefficients: Mapping[str, float]) -> np.ndarray:
    """Return the factor on each parameter; without any the POI's is 1."""
    found = np.zeros(model.config.npars)
    for name, factor in (coefficients or {model.config.poi_name: 1.0}).items():
        found[model.config.par_names.index(name)] = factor
    return found


@judge.register
def _part(
    options: UncertaintyPart, model: pyhf.Model, data: PyhfData, half: float, *, step: float = 1e-4
) -> float:
    """Return the impacts of a group's auxiliary measurements, or of the bins, in quadrature.

    Of pyhf's likelihood at its initial parameters, its expected data differentiated along the covariances by ``step``.
    """
    along = _covariance(model, data) @ _vector(model, options.coefficients)
    start = np.asarray(model.config.suggested_init(), dtype=float)
    expected, up, down = (np.asarray(model.expected_data(start + sign * step * along)) for sign in (0, 1, -1))
    bins, weight = model.config.nmaindata, np.divide(data, expected**2, where=expected > 0, out=0 * expected)
    chosen, place = np.arange(expected.size) < (0 if options.sources else bins), bins
    for name in model.config.auxdata_order:
        own = slice(place, place := place + model.config.param_set(name).n_parameters)
        chosen[own] |= name in (options.sources or ())
        if model.config.param_set(name).pdf_type == "normal":
            weight[own] = 1 / np.asarray(model.config.param_set(name).width()) ** 2
    return float(np.sqrt(np.sum((weight * ((up - down) / (2 * step)) ** 2)[chosen])))
