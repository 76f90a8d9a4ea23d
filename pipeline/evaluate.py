"""The proof: exact cuts before and after, on training and held-out events, and the ordinary pyhf fit of each."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cabinetry
import numpy as np
import pyhf

from pipeline import datasets
from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.datasets import NOMINAL
from pipeline.gradient import Centre, Executor, Parameters, forward
from pipeline.objective import OBJECTIVES
from pipeline.optimise import centre
from pipeline.problem import Work, analysis, check_bounds, widths, work
from pipeline.workspace import variations_of, workspace


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
    return Evaluation(exact, spec, objective(exact)[0], objective(relaxed)[0], pyhf_fit(config, spec))


def pyhf_fit(config: Config, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Fit a workspace to its own (Asimov) data with pyhf and iminuit, through cabinetry.

    Returns: parameter labels, best fit and uncertainties, correlations; `pulls` (pull, constraint) of the nuisance
    parameters of Gaussian constraint; `prefit_stdev`, the total uncertainty of each bin; and the `objective`.
    """
    model, data = cabinetry.model_utils.model_and_data(dict(spec))
    result = cabinetry.fit.fit(model, data)
    poi = result.labels.index(config.model.poi)
    if config.objective.kind == "poi_uncertainty":
        objective = float(result.uncertainty[poi])
    else:
        objective = _discovery_significance(model, data)
    prediction = cabinetry.model_utils.prediction(model)
    return {
        "labels": list(result.labels),
        "pulls": _pulls(model, result),
        "prefit_stdev": {
            channel: np.asarray(stdev[-1]).tolist()
            for channel, stdev in zip(model.config.channels, prediction.total_stdev_model_bins, strict=True)
        },
        "bestfit": np.asarray(result.bestfit).tolist(),
        "uncertainty": np.asarray(result.uncertainty).tolist(),
        "correlation": np.asarray(result.corr_mat).tolist(),
        "twice_nll": float(result.best_twice_nll),
        "objective": objective,
    }


def ranking(config: Config, spec: Mapping[str, Any], fit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Impact of each nuisance parameter on the POI: its shift when the parameter is fixed at +-1 sigma, post-fit.

    The statistical parameters of the bins are left out: they are many and each alone is small.
    """
    model, data = cabinetry.model_utils.model_and_data(dict(spec))
    poi = fit["labels"].index(config.model.poi)
    impacts = []
    for label in fit["pulls"]:
        index = fit["labels"].index(label)
        shifts = [_poi_shift(model, data, fit, poi, index, sign) for sign in (+1, -1)]
        impacts.append({"label": label, "up": shifts[0], "down": shifts[1]})
    return sorted(impacts, key=lambda impact: -max(abs(impact["up"]), abs(impact["down"])))


def all_points(
    config: Config,
    executor: Executor,
    columns: Sequence[tuple[str, Path]],
    points: Mapping[str, Parameters],
    say: Callable[[str], None],
) -> Evaluations:
    """Evaluate every point on every fold that holds events; the ranking is that of the last point and fold."""
    found = {}
    for fold in datasets.folds(config):
        fold_work = work(config, columns, fold)
        objective = centre(config, fold_work.axes)
        for point, parameters in points.items():
            result = evaluate(config, executor, fold_work, parameters, objective)
            say(
                f"{point}, {fold}: exact {result.exact:.6g}, relaxed {result.relaxed:.6g}, "
                f"pyhf {result.fit['objective']:.6g}"
            )
            found[point, fold] = (fold_work, result)
    point, fold = list(points)[-1], datasets.folds(config)[-1]
    last = found[point, fold][1]
    summary = {
        "objective": _describe(config),
        "points": {point: _scalars(parameters) for point, parameters in points.items()},
        "table": [_row(point, fold, *entry) for (point, fold), entry in found.items()],
        "templates": {
            f"{point}_{fold}": _tables(config, entry[1].templates, entry[0])
            for (point, fold), entry in found.items()
        },
        "fits": {f"{point}_{fold}": entry[1].fit for (point, fold), entry in found.items()},
        "ranking": {"point": point, "fold": fold, "impacts": ranking(config, last.workspace, last.fit)},
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


def _pulls(model: Any, result: Any) -> dict[str, tuple[float, float]]:
    """(pull, constraint) in units of the width before the fit, of every constrained parameter but the bins' own."""
    nominal = cabinetry.model_utils.asimov_parameters(model)
    before = cabinetry.model_utils.prefit_uncertainties(model)
    chosen = {}
    for i, label in enumerate(result.labels):
        if before[i] > 0 and "staterror" not in label:
            chosen[label] = ((result.bestfit[i] - nominal[i]) / before[i], result.uncertainty[i] / before[i])
    return {label: (float(pull), float(constraint)) for label, (pull, constraint) in chosen.items()}


def _poi_shift(model: Any, data: Any, fit: Mapping[str, Any], poi: int, index: int, sign: int) -> float:
    start = list(fit["bestfit"])
    start[index] += sign * fit["uncertainty"][index]
    fixed = list(model.config.suggested_fixed())
    fixed[index] = True
    refit = cabinetry.fit.fit(model, data, init_pars=start, fix_pars=fixed)
    return float(refit.bestfit[poi] - fit["bestfit"][poi])
