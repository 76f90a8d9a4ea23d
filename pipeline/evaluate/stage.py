"""The proof: exact cuts before and after, on training and held-out events, and the ordinary pyhf fit of each."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.data import datasets
from pipeline.data.datasets import NOMINAL
from pipeline.errors import FitError
from pipeline.evaluate.at_point import Verdict, objectives_of, verdict, work_of_all_models
from pipeline.evaluate.pyhf_fit import fit_table
from pipeline.gradient.loss import described
from pipeline.gradient.sweeps import Centre, Executor, Parameters, forward
from pipeline.gradient.work import Work, prepare_work
from pipeline.optimise import first_step
from pipeline.optimise.parameters import edges_at
from pipeline.templates import cautions
from pipeline.templates.axes import variations_of
from pipeline.templates.specification import beyond_pyhf, workspace

logger = logging.getLogger(__name__)
INITIAL, PSEUDODATA = "initial", "pseudodata"


class Evaluations(NamedTuple):
    """What the stage writes: a JSON summary, and the workspace of each (point, fold)."""

    summary: dict[str, Any]
    workspaces: dict[tuple[str, str], dict[str, Any]]


def all_points(
    config: Config,
    executor: Executor,
    columns: Sequence[tuple[str, Path]],
    points: Mapping[str, Parameters],
) -> Evaluations:
    """Evaluate every point on every fold that holds events, and fit the pseudodata where there are such.

    At the point `initial` numbers may be missing.
    """
    found, fitted = {}, {}
    works = {fold: work_of_all_models(config, columns, fold) for fold in datasets.folds(config)}
    objectives = objectives_of(config, works[datasets.TRAIN].axes)
    logger.info(first_step.compiling())
    if reason := beyond_pyhf(config):
        logger.info(f"note: no pyhf. {reason}")
    for fold, own in works.items():
        for point, parameters in points.items():
            result = verdict(config, executor, own, parameters, objectives, needed=point != INITIAL)
            logger.info(
                f"{point}, {fold}: exact {_shown(result.exact)}, relaxed {_shown(result.relaxed)}, "
                f"pyhf {_shown(result.pyhf)}"
            )
            for reason in result.missing:
                logger.info(f"note: {point}, {fold}: no number, {reason}")
            if result.fit is not None and result.fit["interval_missing"]:
                logger.info(f"note: {point}, {fold}: no interval, {result.fit['interval_missing']}")
            found[point, fold] = (own, result)
    cautious = {key: _cautions(config, *entry) for key, entry in found.items()}
    for line in cautions.summary(list(cautious.values())[-1], first_step.MOST_LINES):
        logger.info(f"note: {line}")
    if config.model.pseudodata:
        everything = prepare_work(config, columns, datasets.ALL)
        for point, parameters in points.items():
            fitted[point] = _fit_pseudodata(config, executor, everything, parameters)
            logger.info(f"{point}, pseudodata: {_poi_of(config, fitted[point][1])}")
    summary = {
        "objective": described(config),
        "points": {point: _scalars(parameters) for point, parameters in points.items()},
        "edges": {point: edges_at(config, parameters) for point, parameters in points.items()},
        "table": [_row(point, fold, *entry) for (point, fold), entry in found.items()],
        "also": [row for key, (_, e) in found.items() for row in _also(config, *key, e)],
        "cautions": {
            f"{point}_{fold}": [caution._asdict() for caution in own]
            for (point, fold), own in cautious.items()
        },
        "bootstrap": _bootstrap(config, executor, list(works.values())[-1], points, objectives.own),
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
                point: objective(forward(executor, fold_work, parameters, None, replica=replica), parameters)[
                    0
                ]
                for point, parameters in points.items()
            }
        except FitError:
            failed += 1
            continue
        for point, value in row.items():
            values[point].append(value)
    logger.info(
        f"bootstrap: {config.evaluate.bootstrap - failed} replicas of the events, {failed} without a fit left out"
    )
    return {"values": values, "failed": failed}


def yields(config: Config, executor: Executor, fold_work: Work, parameters: Parameters) -> dict[str, Any]:
    """Exact yields at one point: parameters, bin edges, yields and sums of squared weights."""
    exact = forward(executor, fold_work, parameters, None)
    return {
        "parameters": _scalars(parameters),
        "edges": edges_at(config, parameters),
        **_tables(config, exact, fold_work),
    }


def _row(point: str, fold: str, fold_work: Work, result: Verdict) -> dict[str, Any]:
    return {
        "point": point,
        "fold": fold,
        "events": fold_work.events,
        "exact": result.exact,
        "relaxed": result.relaxed,
        "pyhf": result.pyhf,
        "missing": result.missing,
    }


def _also(config: Config, point: str, fold: str, result: Verdict) -> list[dict[str, Any]]:
    return [
        {
            "model": name,
            "label": described(config.alternatives[name])["label"],
            "point": point,
            "fold": fold,
            **numbers,
        }
        for name, numbers in result.also.items()
    ]


def _cautions(config: Config, fold_work: Work, result: Verdict) -> list[cautions.Caution]:
    """What is to be known of the uncertainties of the run's model and of its further ones, on exact templates."""
    found = cautions.cautions(result.templates, fold_work.axes, config)
    for name, other in config.alternatives.items():
        own = cautions.cautions(result.templates, fold_work.axes, other)
        said = {c.text for c in found} | {""}
        found += [
            c._replace(text=f"{c.text} (in model {name!r})", noise=0) for c in own if c.text not in said
        ]
    return found


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
