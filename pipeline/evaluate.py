"""The proof: exact cuts before and after, on training and held-out events, and the ordinary pyhf fit of each."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cabinetry
import numpy as np
import pyhf

from pipeline import datasets
from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.datasets import NOMINAL
from pipeline.errors import FitError
from pipeline.gradient import Centre, Executor, Parameters, forward
from pipeline.nuisance import impacts, widths_before
from pipeline.objective import OBJECTIVES
from pipeline.optimise import centre
from pipeline.problem import Work, analysis, check_bounds, widths, work
from pipeline.workspace import variations_of, workspace

# Of Minuit. Higher ones refine the steps of numerical derivatives by the distance to the minimum, which is zero to
# rounding for Asimov data: on workspaces of these analyses their Hessian was off by factors, see docs/design.md.
STRATEGY: Literal[0] = 0
FEW_EVENTS = "is there a bin with hardly any events? Merge it with its neighbour in channels.*.edges"


class Evaluation(NamedTuple):
    """One point on one fold: templates with exact cuts, the workspace made of them, the numbers."""

    templates: Templates
    workspace: dict[str, Any]
    exact: float
    relaxed: float
    fit: dict[str, Any]


class Evaluations(NamedTuple):
    """What the stage writes: a JSON summary, and the workspace of each (point, fold)."""

    summary: dict[str, Any]
    workspaces: dict[tuple[str, str], dict[str, Any]]


def evaluate(
    config: Config, executor: Executor, fold_work: Work, parameters: Parameters, objective: Centre
) -> Evaluation:
    """Templates with hard cuts -> workspace -> pyhf; beside it the objective of exact and of relaxed templates.

    The relaxed value is at the final widths, those the optimisation ended with.

    Raises:
        FitError: a fit, ours or pyhf's, did not converge.
    """
    exact = forward(executor, fold_work, parameters, None)
    relaxed = forward(executor, fold_work, parameters, widths(config, config.optimise.epochs))
    spec = workspace(exact, fold_work.axes, config)
    result = Evaluation(exact, spec, objective(exact)[0], objective(relaxed)[0], pyhf_fit(config, spec))
    _require_agreement(result.exact, result.fit["objective"])
    return result


def pyhf_fit(config: Config, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Fit a workspace to its own (Asimov) data with pyhf and iminuit, through cabinetry.

    Returns: parameter labels, best fit and uncertainties, correlations; the POI's MINOS `interval`; `impacts` of the
    nuisance parameters; `prefit_stdev`, the total uncertainty of each bin; and the `objective`: for an uncertainty
    half the width of the profile-likelihood interval (MINOS), because iminuit's numerical Hessian can be off by much
    at the minimum of Asimov data, see docs/design.md.

    Raises:
        FitError: the fit of Asimov data does not return the parameter of interest they were made with.
    """
    poi = config.model.poi
    model, data = cabinetry.model_utils.model_and_data(dict(spec))
    try:
        result = cabinetry.fit.fit(model, data, minos=[poi], strategy=STRATEGY)
    except pyhf.exceptions.FailedMinimization as error:
        raise FitError(f"pyhf's fit of the Asimov data failed; {FEW_EVENTS}") from error
    down, up = result.minos_uncertainty[poi]
    _require_closure(config, float(result.bestfit[result.labels.index(poi)]), (up - down) / 2)
    counting = config.objective.kind == "asimov_significance"
    objective = _discovery_significance(model, data) if counting else float(up - down) / 2
    prediction = cabinetry.model_utils.prediction(model)
    before = cabinetry.model_utils.prefit_uncertainties(model)
    return {
        "labels": list(result.labels),
        "impacts": [impact._asdict() for impact in impacts(spec, widths_before(model, before))],
        "prefit_stdev": {
            channel: np.asarray(stdev[-1]).tolist()
            for channel, stdev in zip(model.config.channels, prediction.total_stdev_model_bins, strict=True)
        },
        "interval": [float(down), float(up)],
        "bestfit": np.asarray(result.bestfit).tolist(),
        "uncertainty": np.asarray(result.uncertainty).tolist(),
        "correlation": np.asarray(result.corr_mat).tolist(),
        "twice_nll": float(result.best_twice_nll),
        "objective": objective,
    }


def all_points(
    config: Config,
    executor: Executor,
    columns: Sequence[tuple[str, Path]],
    points: Mapping[str, Parameters],
    say: Callable[[str], None],
) -> Evaluations:
    """Evaluate every point on every fold that holds events."""
    found = {}
    works = {fold: work(config, columns, fold) for fold in datasets.folds(config)}
    objective = centre(config, works[datasets.TRAIN].axes)
    for fold, fold_work in works.items():
        for point, parameters in points.items():
            result = evaluate(config, executor, fold_work, parameters, objective)
            say(
                f"{point}, {fold}: exact {result.exact:.6g}, relaxed {result.relaxed:.6g}, "
                f"pyhf {result.fit['objective']:.6g}"
            )
            found[point, fold] = (fold_work, result)
    summary = {
        "objective": _describe(config),
        "points": {point: _scalars(parameters) for point, parameters in points.items()},
        "table": [_row(point, fold, *entry) for (point, fold), entry in found.items()],
        "templates": {
            f"{point}_{fold}": _tables(config, entry[1].templates, entry[0])
            for (point, fold), entry in found.items()
        },
        "fits": {f"{point}_{fold}": entry[1].fit for (point, fold), entry in found.items()},
    }
    return Evaluations(summary, {key: entry[1].workspace for key, entry in found.items()})


def yields(config: Config, executor: Executor, fold_work: Work, parameters: Parameters) -> dict[str, Any]:
    """Exact yields at one point: parameters, bin edges, yields and sums of squared weights."""
    exact = forward(executor, fold_work, parameters, None)
    return {
        "parameters": _scalars(parameters),
        "edges": {name: channel.edges for name, channel in config.channels.items()},
        **_tables(config, exact, fold_work),
    }


def with_values(config: Config, parameters: Parameters, values: Mapping[str, float]) -> Parameters:
    """A point with some parameters set by hand, inside their bounds."""
    free = analysis(config).parameters
    for name, value in values.items():
        check_bounds(name, value, free[name])
    return {**parameters, **{name: np.float64(value) for name, value in values.items()}}


def _describe(config: Config) -> dict[str, str]:
    objective = OBJECTIVES[config.objective.kind]
    return {
        "kind": config.objective.kind,
        "label": objective.label,
        "unit": objective.unit,
        "sense": objective.sense,
    }


def _row(point: str, fold: str, fold_work: Work, result: Evaluation) -> dict[str, Any]:
    return {
        "point": point,
        "fold": fold,
        "events": fold_work.events,
        "exact": result.exact,
        "relaxed": result.relaxed,
        "pyhf": result.fit["objective"],
    }


def _scalars(parameters: Parameters) -> dict[str, float]:
    return {name: float(value) for name, value in parameters.items() if np.ndim(value) == 0}


def _tables(config: Config, templates: Templates, fold_work: Work) -> dict[str, Any]:
    """Channel -> sample -> variation -> bins, of the variations in the model; and channel -> sample -> sumw2."""
    axes = fold_work.axes
    return {
        "yields": {
            channel: {
                sample: {
                    name: array[axes.row(sample, name)].tolist()
                    for name in (NOMINAL, *variations_of(config, sample))
                }
                for sample in axes.samples
            }
            for channel, array in templates.yields.items()
        },
        "sumw2": {
            channel: {sample: array[axes.samples.index(sample)].tolist() for sample in axes.samples}
            for channel, array in templates.sumw2.items()
        },
    }


def _require_agreement(ours: float, pyhfs: float, *, tolerance: float = 0.3) -> None:
    """Two ways to one number may differ by the likelihood's asymmetry; by more than that, Minuit has lost its way."""
    if not abs(pyhfs - ours) <= tolerance * abs(ours):
        raise FitError(
            f"the objective is {ours:.4g} by the exact Hessian but {pyhfs:.4g} by pyhf and Minuit; {FEW_EVENTS}"
        )


def _require_closure(config: Config, fitted: float, sigma: float, *, tolerance: float = 0.05) -> None:
    """Asimov data are their own best fit; farther than `tolerance` standard deviations off, the fit has failed."""
    truth = next(n.nominal for n in config.model.normfactors if n.name == config.model.poi)
    if not abs(fitted - truth) <= tolerance * sigma:
        raise FitError(
            f"pyhf's fit of Asimov data made with {config.model.poi} = {truth} returns {fitted:.4g} +- {sigma:.3g}; "
            f"{FEW_EVENTS}"
        )


def _discovery_significance(model: Any, data: Any) -> float:
    """Z = sqrt(q_0) of the data (arXiv:1007.1727, eq. 53), with pyhf.

    By scipy's optimiser: without nuisance parameters nothing is left to fit at mu = 0, which iminuit refuses.
    """
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer())
    settings = model.config
    q0 = pyhf.infer.test_statistics.q0(
        0.0, data, model, settings.suggested_init(), settings.suggested_bounds(), settings.suggested_fixed()
    )
    return math.sqrt(float(q0))
