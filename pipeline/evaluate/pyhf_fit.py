"""The final number is pyhf's: the workspace of the exact templates fitted by pyhf and iminuit."""

import math
from typing import NamedTuple

import cabinetry
import numpy as np
import pyhf
from numpy.typing import ArrayLike

from pipeline.config import Config
from pipeline.config.quantities import (
    AsimovSignificance,
    Cls,
    Discovery,
    DiscoveryPValue,
    ExpectedLimit,
    JointSignificance,
    PoiUncertainty,
    ProfileInterval,
)
from pipeline.config.quantity import Quantity
from pipeline.errors import FitError
from pipeline.evaluate.evaluation import FittedParameter, PyhfFit
from pipeline.evaluate.pyhf_interval import Fitted, poi_interval, valid_fit
from pipeline.evaluate.pyhf_objectives import contributions, judged
from pipeline.evaluate.pyhf_state import pyhf_with
from pipeline.fit.impacts import Profile, best_fit, impacts, widths_before
from pipeline.fit.interval import Interval
from pipeline.likelihood.workspace import Workspace

# Of Minuit. Higher ones refine the steps of numerical derivatives by the distance to the minimum, which is zero to
# rounding for Asimov data: on workspaces of these analyses their Hessian was off by factors, see docs/design.md.
STRATEGIES_OF_ASIMOV = (0, 1, 2)
STRATEGIES = (1, 0, 2)  # of fits to other data, pyhf's own choice first
MINIMA_APART = 0.01  # in -2 ln L: a hundredth of the distance of one standard deviation
APART = 0.01  # relative, of two numbers that should be one; of a logarithm below 1 of the p-value itself
LOGARITHMS = (Cls, DiscoveryPValue)  # of a p-value
MORE_IS_LOWER = (ExpectedLimit, *LOGARITHMS)  # a lower -2 ln L makes these larger
LESS_IS_LOWER = (Discovery, AsimovSignificance, JointSignificance)  # and these smaller
FEW_EVENTS = "is there a bin with hardly any events? Merge it with its neighbour in channels.*.edges"


class _Asimov(NamedTuple):
    """pyhf's model and Asimov data, its fit, the POI's interval and the objective."""

    model: pyhf.Model
    fitted: Fitted
    interval: Interval | None
    missing: str
    objective: float | None


def pyhf_fit(config: Config, spec: Workspace) -> PyhfFit:
    """Fit a workspace to its own (Asimov) data with pyhf and iminuit.

    An end of the interval is found by ``minos``, ``profile`` (by ``fixed_poi_fit``), or is a ``bound``, where a bin
    would expect fewer than no events beyond and the other side alone is the uncertainty. There may be no interval
    where the objective is no number of it. The objective of an uncertainty is half the width of the interval, because
    iminuit's numerical Hessian can be off by much at the minimum of Asimov data, see docs/design.md.

    Raises:
        FitError: the fit of Asimov data does not return the parameter of interest they were made with, or the
            interval is not that of our likelihood.
    """
    with pyhf_with(pyhf.optimize.scipy_optimizer()):
        found = _asimov_fit(config, spec)
        model, fitted = found.model, found.fitted
        prediction = cabinetry.model_utils.prediction(model)
        before = cabinetry.model_utils.prefit_uncertainties(model)
    interval = found.interval
    return PyhfFit(
        labels=tuple(model.config.par_names),
        impacts=tuple(impacts(spec, widths_before(model, before))),
        prefit_stdev={
            channel: _plain(stdev[-1])
            for channel, stdev in zip(model.config.channels, prediction.total_stdev_model_bins, strict=True)
        },
        interval=None if interval is None else interval.signed,
        interval_method=None if interval is None else interval.methods,
        interval_missing=found.missing,
        bestfit=_plain(fitted.bestfit),
        uncertainty=_plain(fitted.uncertainty),
        correlation=tuple(map(_plain, fitted.correlation)),
        twice_nll=fitted.twice_nll,
        objective=found.objective,
    )


def _plain(numbers: ArrayLike) -> tuple[float, ...]:
    return tuple(np.asarray(numbers, dtype=np.float64).tolist())


def pyhf_objective(config: Config, spec: Workspace) -> float | None:
    """Return the ``objective`` of ``pyhf_fit`` alone."""
    with pyhf_with(pyhf.optimize.scipy_optimizer()):
        return _asimov_fit(config, spec, report=False).objective


def require_agreement(config: Config, spec: Workspace, ours: float | None, pyhfs: float | None) -> None:
    """Raise where pyhf has another number than our likelihood, and say whose fit is at fault.

    Like is compared with like: the interval has been compared with our own by ``pyhf_fit``, and where it makes another
    number than the Hessian that ``poi_uncertainty`` optimises, it is the Hessian of pyhf's likelihood that must be
    ours.
    """
    if pyhfs is None or ours is None or _agree(ours, pyhfs, [pyhfs], config):
        return
    if _has(config, PoiUncertainty) or len(config.objective.parts) > 1:
        parts = _like_ours(config, spec)
        if parts is not None and _agree(ours, math.fsum(parts), parts, config):
            return
    raise FitError(
        f"the objective is {ours:.4g} by our likelihood but {pyhfs:.4g} by pyhf{_fault(config, ours, pyhfs)}; "
        f"{FEW_EVENTS}"
    )


def _has(config: Config, *kinds: type[Quantity]) -> bool:
    """Return whether the objective, or a term of it, is of one of these kinds."""
    return any(isinstance(part, kinds) for part in config.objective.parts)


def _like_ours(config: Config, spec: Workspace) -> list[float] | None:
    """Return the terms of pyhf's number, with the Hessian where our likelihood has it."""
    with pyhf_with(pyhf.optimize.scipy_optimizer()):
        model, data = cabinetry.model_utils.model_and_data(dict(spec))
        interval = _asimov_fit(config, spec).interval if _has(config, ProfileInterval) else None
        half = math.nan if interval is None else interval.half
        return contributions(config.objective_of_parameters.quantity, model, data, half, by_hessian=True)


def _agree(ours: float, pyhfs: float, parts: list[float], config: Config) -> bool:
    """Return whether our number and pyhf's agree to 1 %.

    That is 1 % of the number; of a sum, of its absolute terms added up; of a p-value whose logarithm is
    small, of the p-value itself.
    """
    scale = math.fsum(map(abs, parts))
    if _has(config, *LOGARITHMS):
        scale = max(scale, 1.0)
    return abs(pyhfs - ours) <= APART * scale


def _fault(config: Config, ours: float, pyhfs: float) -> str:
    quantity = config.objective.quantity
    if not isinstance(quantity, MORE_IS_LOWER + LESS_IS_LOWER):
        return ""
    ours_is_lower = (ours > pyhfs) == isinstance(quantity, MORE_IS_LOWER)
    return f": the fit of {'pyhf' if ours_is_lower else 'ours'} is not at the lowest -2 ln L"


def _asimov_fit(config: Config, spec: Workspace, *, report: bool = True) -> _Asimov:
    """Return pyhf's fit of the Asimov data, the interval where the objective or the report needs it, the objective."""
    model, data = cabinetry.model_utils.model_and_data(dict(spec))
    needs_interval = _has(config, PoiUncertainty, ProfileInterval)
    profile = Profile(spec) if needs_interval or report else None
    fitted = valid_fit(model, data, STRATEGIES_OF_ASIMOV)
    if fitted is None:
        raise FitError(f"pyhf's fit of the Asimov data failed; {FEW_EVENTS}")
    _require_closure(config, fitted.poi, profile.guess if profile else fitted.poi_uncertainty)
    interval, missing = None, ""
    try:
        interval = poi_interval(model, data, fitted, profile) if profile else None
    except FitError as error:
        if needs_interval:
            raise
        missing = str(error)
    half = math.nan if interval is None else interval.half
    number = judged(config.objective_of_parameters.quantity, model, data, half)
    if number is not None and not math.isfinite(number):
        raise FitError(
            f"the objective by pyhf is {number}: a tested hypothesis leaves a bin without expected events"
        )
    return _Asimov(model, fitted, interval, missing, number)


def fit_table(spec: Workspace) -> list[FittedParameter]:
    """Return the best fit of a workspace to its observations: a row per parameter, by pyhf and iminuit.

    ``uncertainty`` is iminuit's, ``hessian`` that of the exact Hessian of our likelihood at our own minimum, ``ours``.
    A fixed parameter has neither.

    Raises:
        FitError: a fit did not converge, or the two minima of the likelihood differ.
    """
    with pyhf_with(pyhf.optimize.scipy_optimizer()):
        model, data = cabinetry.model_utils.model_and_data(dict(spec))
        fitted = valid_fit(model, data, STRATEGIES, widen=False)
    if fitted is None:
        raise FitError(
            f"pyhf's fit of the pseudodata failed with Minuit's strategies {STRATEGIES}; {FEW_EVENTS}"
        )
    ours, sigma, twice_nll = best_fit(spec)
    if not abs(twice_nll - fitted.twice_nll) < MINIMA_APART:
        worse = "pyhf" if fitted.twice_nll > twice_nll else "ours"
        raise FitError(
            f"-2 ln L of the pseudodata is {twice_nll:.6g} at our minimum but {fitted.twice_nll:.6g} at "
            f"pyhf's: the fit of {worse} is not at the lowest; {FEW_EVENTS}"
        )
    return [
        FittedParameter(label=label, bestfit=float(best), uncertainty=float(error), ours=here, hessian=width)
        for label, best, error, here, width in zip(
            model.config.par_names, fitted.bestfit, fitted.uncertainty, ours, sigma, strict=True
        )
    ]


def _require_closure(config: Config, fitted: float, sigma: float, *, tolerance: float = 0.05) -> None:
    """Refuse a fit of Asimov data that ends more than ``tolerance`` standard deviations from their parameters."""
    truth = next(n.nominal for n in config.model.normfactors if n.name == config.model.poi)
    if not abs(fitted - truth) <= tolerance * sigma:
        raise FitError(
            f"pyhf's fit of Asimov data made with {config.model.poi} = {truth} returns {fitted:.4g} +- {sigma:.3g}; "
            f"{FEW_EVENTS}"
        )
