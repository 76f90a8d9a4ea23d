"""The proof: exact cuts before and after, on training and held-out events, and the ordinary pyhf fit of each."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline import datasets
from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.datasets import NOMINAL
from pipeline.errors import FitError
from pipeline.final import fit_table, pyhf_fit, pyhf_objective, require_agreement
from pipeline.gradient import Centre, Executor, Parameters, forward
from pipeline.objective import OBJECTIVES
from pipeline.optimise import centre
from pipeline.problem import Work, edges, widths, work
from pipeline.workspace import Axes, beyond_pyhf, variations_of, with_all_variations, workspace

PSEUDODATA = "pseudodata"


class Evaluation(NamedTuple):
    """One point on one fold: templates with exact cuts, the workspace made of them, the numbers.

    Workspace and pyhf's fit are missing where a workspace cannot say what the model is. `also` has exact, relaxed and
    pyhf's number by each further model; where pyhf has another, none, and `disagreement` says which.
    """

    templates: Templates
    workspace: dict[str, Any] | None
    exact: float
    relaxed: float
    fit: dict[str, Any] | None
    also: dict[str, dict[str, Any]]

    @property
    def pyhf(self) -> float | None:
        """The final number."""
        return None if self.fit is None else self.fit["objective"]


class Objectives(NamedTuple):
    """The objective of the run, and those of its further models by name; each is compiled once."""

    own: Centre
    others: dict[str, Centre]


class Evaluations(NamedTuple):
    """What the stage writes: a JSON summary, and the workspace of each (point, fold)."""

    summary: dict[str, Any]
    workspaces: dict[tuple[str, str], dict[str, Any]]


def evaluate(
    config: Config, executor: Executor, events: Work, parameters: Parameters, objectives: Objectives
) -> Evaluation:
    """Templates with hard cuts -> workspace -> pyhf; beside it the objective of exact and of relaxed templates.

    The relaxed value is at the final widths, those the optimisation ended with.

    Raises:
        FitError: a fit, ours or pyhf's, did not converge.
    """
    exact = forward(executor, events, parameters, None)
    relaxed = forward(executor, events, parameters, widths(config, config.optimise.epochs))
    spec = None if beyond_pyhf(config) else workspace(exact, events.axes, config)
    values = [objectives.own(templates)[0] for templates in (exact, relaxed)]
    fit = None if spec is None else pyhf_fit(config, spec)
    also = {
        name: _numbers(other, objectives.others[name], events.axes, exact, relaxed)
        for name, other in config.alternatives.items()
    }
    result = Evaluation(exact, spec, values[0], values[1], fit, also)
    if spec is not None:
        require_agreement(config, spec, result.exact, result.pyhf)
    return result


def objectives_of(config: Config, axes: Axes) -> Objectives:
    """The objectives of a run on templates with these axes."""
    others = {name: centre(other, axes) for name, other in config.alternatives.items()}
    return Objectives(centre(config, axes), others)


def work_of_all_models(config: Config, columns: Sequence[tuple[str, Path]], fold: str) -> Work:
    """The events of a fold, with the variations that any of the run's models needs."""
    return work(with_all_variations(config), columns, fold)


def _numbers(
    config: Config, objective: Centre, axes: Axes, exact: Templates, relaxed: Templates
) -> dict[str, Any]:
    """What the templates are worth in a further model; the run does not end where pyhf's fit of that one is lost."""
    found = objective(exact)[0]
    numbers = {"exact": found, "relaxed": objective(relaxed)[0], "pyhf": None}
    if beyond_pyhf(config):
        return numbers
    try:
        spec = workspace(exact, axes, config)
        pyhf = pyhf_objective(config, spec)
        require_agreement(config, spec, found, pyhf)
    except FitError as error:
        return {**numbers, "disagreement": str(error)}
    return {**numbers, "pyhf": pyhf}


def all_points(
    config: Config,
    executor: Executor,
    columns: Sequence[tuple[str, Path]],
    points: Mapping[str, Parameters],
    say: Callable[[str], None],
) -> Evaluations:
    """Evaluate every point on every fold that holds events, and fit the pseudodata where there are such."""
    found, fitted = {}, {}
    works = {fold: work_of_all_models(config, columns, fold) for fold in datasets.folds(config)}
    objectives = objectives_of(config, works[datasets.TRAIN].axes)
    if reason := beyond_pyhf(config):
        say(f"note: no pyhf. {reason}")
    for fold, own in works.items():
        for point, parameters in points.items():
            result = evaluate(config, executor, own, parameters, objectives)
            say(
                f"{point}, {fold}: exact {result.exact:.6g}, relaxed {result.relaxed:.6g}, "
                f"pyhf {_shown(result.pyhf)}"
            )
            for name, numbers in result.also.items():
                if "disagreement" in numbers:
                    say(f"note: {point}, {fold}: no number from pyhf by {name!r}: {numbers['disagreement']}")
            found[point, fold] = (own, result)
    if config.model.pseudodata:
        everything = work(config, columns, datasets.ALL)
        for point, parameters in points.items():
            fitted[point] = _fit_pseudodata(config, executor, everything, parameters)
            say(f"{point}, pseudodata: {_poi_of(config, fitted[point][1])}")
    summary = {
        "objective": _describe(config),
        "points": {point: _scalars(parameters) for point, parameters in points.items()},
        "edges": {point: edges(config, parameters) for point, parameters in points.items()},
        "table": [_row(point, fold, *entry) for (point, fold), entry in found.items()],
        "also": [row for key, (_, e) in found.items() for row in _also(config, *key, e)],
        "bootstrap": _bootstrap(config, executor, list(works.values())[-1], points, objectives.own, say),
        "templates": {
            f"{point}_{fold}": _tables(config, entry[1].templates, entry[0])
            for (point, fold), entry in found.items()
        },
        "fits": {f"{point}_{fold}": e.fit for (point, fold), (_, e) in found.items() if e.fit is not None},
        "pseudodata": {point: fit for point, (_, fit) in fitted.items()},
    }
    workspaces = {key: e.workspace for key, (_, e) in found.items() if e.workspace is not None}
    return Evaluations(summary, workspaces | {(p, PSEUDODATA): spec for p, (spec, _) in fitted.items()})


def _fit_pseudodata(
    config: Config, executor: Executor, everything: Work, parameters: Parameters
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The workspace of all events with the pseudodata as observations, and the parameters that fit them best."""
    exact = forward(executor, everything, parameters, None)
    spec = workspace(exact, everything.axes, config, pseudodata=True)
    return spec, fit_table(spec)


def _poi_of(config: Config, table: Sequence[Mapping[str, Any]]) -> str:
    row = next(row for row in table if row["label"] == config.model.poi)
    return f"{row['label']} = {row['bestfit']:.5g} +- {row['hessian']:.3g}"


def _bootstrap(
    config: Config,
    executor: Executor,
    fold_work: Work,
    points: Mapping[str, Parameters],
    objective: Centre,
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    """The exact objective at every point on resampled events, the same ones for all points.

    A replica in which a fit fails, as one may that has emptied a bin, is left out and counted.
    """
    if config.evaluate.bootstrap == 0:
        return None
    values: dict[str, list[float]] = {point: [] for point in points}
    failed = 0
    for replica in range(config.evaluate.bootstrap):
        try:
            row = {
                point: objective(forward(executor, fold_work, parameters, None, replica=replica))[0]
                for point, parameters in points.items()
            }
        except FitError:
            failed += 1
            continue
        for point, value in row.items():
            values[point].append(value)
    say(
        f"bootstrap: {config.evaluate.bootstrap - failed} replicas of the events, {failed} without a fit left out"
    )
    return {"values": values, "failed": failed}


def yields(config: Config, executor: Executor, fold_work: Work, parameters: Parameters) -> dict[str, Any]:
    """Exact yields at one point: parameters, bin edges, yields and sums of squared weights."""
    exact = forward(executor, fold_work, parameters, None)
    return {
        "parameters": _scalars(parameters),
        "edges": edges(config, parameters),
        **_tables(config, exact, fold_work),
    }


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
        "pyhf": result.pyhf,
    }


def _also(config: Config, point: str, fold: str, result: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "model": name,
            "label": OBJECTIVES[config.evaluate.also[name].objective.kind].label,
            "point": point,
            "fold": fold,
            **numbers,
        }
        for name, numbers in result.also.items()
    ]


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


def _shown(number: float | None) -> str:
    return "has no such number" if number is None else f"{number:.6g}"
