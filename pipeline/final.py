"""The final number is pyhf's: the workspace of the exact templates fitted by pyhf and iminuit, through cabinetry."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import cabinetry
import numpy as np
import pyhf

from pipeline.config import Config
from pipeline.errors import FitError
from pipeline.judges import judged, variance_of_poi
from pipeline.nuisance import best_fit, impacts, widths_before

# Of Minuit. Higher ones refine the steps of numerical derivatives by the distance to the minimum, which is zero to
# rounding for Asimov data: on workspaces of these analyses their Hessian was off by factors, see docs/design.md.
STRATEGY: Literal[0] = 0
STRATEGIES: tuple[Literal[0, 1, 2], ...] = (1, 0, 2)  # of fits to other data, pyhf's own choice first
MINIMA_APART = 0.01  # in -2 ln L: a hundredth of the distance of one standard deviation
HESSIANS_APART = 0.01  # relative; central differences
FEW_EVENTS = "is there a bin with hardly any events? Merge it with its neighbour in channels.*.edges"


def pyhf_fit(config: Config, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Fit a workspace to its own (Asimov) data with pyhf and iminuit, through cabinetry.

    Returns: parameter labels, best fit and uncertainties, correlations; the POI's MINOS `interval`; `impacts` of the
    nuisance parameters; `prefit_stdev`, the total uncertainty of each bin; and the `objective` by pyhf: for an
    uncertainty half the width of the profile-likelihood interval (MINOS), because iminuit's numerical Hessian can
    be off by much at the minimum of Asimov data, see docs/design.md.

    Raises:
        FitError: the fit of Asimov data does not return the parameter of interest they were made with.
    """
    model, data, result, (down, up) = _asimov_fit(config, spec)
    prediction = cabinetry.model_utils.prediction(model)
    before = cabinetry.model_utils.prefit_uncertainties(model)
    return {
        "labels": list(result.labels),
        "impacts": [impact._asdict() for impact in impacts(spec, widths_before(model, before))],
        "prefit_stdev": {
            channel: np.asarray(stdev[-1]).tolist()
            for channel, stdev in zip(model.config.channels, prediction.total_stdev_model_bins, strict=True)
        },
        "interval": [down, up],
        "bestfit": np.asarray(result.bestfit).tolist(),
        "uncertainty": np.asarray(result.uncertainty).tolist(),
        "correlation": np.asarray(result.corr_mat).tolist(),
        "twice_nll": float(result.best_twice_nll),
        "objective": judged(config.objective, model, data, (up - down) / 2),
    }


def pyhf_objective(config: Config, spec: Mapping[str, Any]) -> float | None:
    """The `objective` of :func:`pyhf_fit` alone."""
    model, data, _, (down, up) = _asimov_fit(config, spec)
    return judged(config.objective, model, data, (up - down) / 2)


def require_agreement(
    config: Config, spec: Mapping[str, Any], ours: float | None, pyhfs: float | None, *, apart: float = 0.3
) -> None:
    """Raise where pyhf has another number than our likelihood: Minuit may have lost its way.

    The final number of an uncertainty is half of an interval, which a likelihood that is no parabola makes another one
    than its Hessian: then it is the Hessian of pyhf's own likelihood that must be ours.
    """
    if pyhfs is None or ours is None or abs(pyhfs - ours) <= apart * abs(ours):
        return
    if config.objective.kind == "poi_uncertainty":
        model, data = cabinetry.model_utils.model_and_data(dict(spec))
        if abs(math.sqrt(variance_of_poi(model, data)) - ours) <= HESSIANS_APART * ours:
            return
    raise FitError(f"the objective is {ours:.4g} by our likelihood but {pyhfs:.4g} by pyhf; {FEW_EVENTS}")


def _asimov_fit(config: Config, spec: Mapping[str, Any]) -> tuple[Any, Any, Any, tuple[float, float]]:
    """pyhf's model and Asimov data, cabinetry's result, and both sides of the POI's MINOS interval."""
    poi = config.model.poi
    model, data = cabinetry.model_utils.model_and_data(dict(spec))
    try:
        result = cabinetry.fit.fit(model, data, minos=[poi], strategy=STRATEGY)
    except (
        pyhf.exceptions.FailedMinimization,
        AttributeError,
    ) as error:  # or Minuit gave cabinetry no covariance
        raise FitError(f"pyhf's fit of the Asimov data failed; {FEW_EVENTS}") from error
    down, up = (float(side) for side in result.minos_uncertainty[poi])
    _require_closure(config, float(result.bestfit[result.labels.index(poi)]), (up - down) / 2)
    return model, data, result, (down, up)


def fit_table(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The best fit of a workspace to its observations: a row per parameter, by pyhf and iminuit through cabinetry.

    `uncertainty` is iminuit's, `hessian` that of the exact Hessian of our likelihood at our own minimum, `ours`. A
    fixed parameter has neither.

    Raises:
        FitError: a fit did not converge, or the two minima of the likelihood differ.
    """
    model, data = cabinetry.model_utils.model_and_data(dict(spec))
    result = _fit_with_any_strategy(model, data)
    ours, sigma, twice_nll = best_fit(spec)
    if not abs(twice_nll - float(result.best_twice_nll)) < MINIMA_APART:
        raise FitError(
            f"-2 ln L of the pseudodata is {twice_nll:.6g} at our minimum but {float(result.best_twice_nll):.6g} at "
            f"pyhf's; {FEW_EVENTS}"
        )
    return [
        {
            "label": label,
            "bestfit": float(fitted),
            "uncertainty": float(error),
            "ours": here,
            "hessian": width,
        }
        for label, fitted, error, here, width in zip(
            result.labels, result.bestfit, result.uncertainty, ours, sigma, strict=True
        )
    ]


def _fit_with_any_strategy(model: Any, data: Any) -> Any:
    """cabinetry's fit by the first of Minuit's strategies that calls its minimum valid."""
    for strategy in STRATEGIES:
        try:
            return cabinetry.fit.fit(model, data, strategy=strategy)
        except pyhf.exceptions.FailedMinimization:
            continue
    raise FitError(f"pyhf's fit of the pseudodata failed with Minuit's strategies {STRATEGIES}; {FEW_EVENTS}")


def _require_closure(config: Config, fitted: float, sigma: float, *, tolerance: float = 0.05) -> None:
    """Asimov data are their own best fit; farther than `tolerance` standard deviations off, the fit has failed."""
    truth = next(n.nominal for n in config.model.normfactors if n.name == config.model.poi)
    if not abs(fitted - truth) <= tolerance * sigma:
        raise FitError(
            f"pyhf's fit of Asimov data made with {config.model.poi} = {truth} returns {fitted:.4g} +- {sigma:.3g}; "
            f"{FEW_EVENTS}"
        )
