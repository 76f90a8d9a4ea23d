"""The proof: exact cuts before and after, on training and held-out events, and the ordinary pyhf fit of each."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.data import datasets, store
from pipeline.data.datasets import NOMINAL
from pipeline.data.names import INITIAL, OPTIMISED, Fold, Point
from pipeline.data.progress import Moment
from pipeline.data.record import EpochRecord
from pipeline.errors import FitError
from pipeline.evaluate import evaluation
from pipeline.evaluate.at_point import Verdict, objectives_of, verdict, work_of_all_models
from pipeline.evaluate.evaluation import (
    Bootstrap,
    EvaluatedPoint,
    Evaluation,
    FittedParameter,
    Further,
    Place,
    YieldTables,
)
from pipeline.evaluate.pyhf_fit import fit_table
from pipeline.evaluate.robustness.certificate import ExactLooks
from pipeline.evaluate.robustness.together import Judged, robustness_of, with_polished
from pipeline.evaluate.summary import Seconds, summary
from pipeline.evaluate.variation_noise import variation_noise
from pipeline.gradient.loss import Judge, described
from pipeline.gradient.sweeps import Executor, FreeValues, forward
from pipeline.gradient.work import Work, prepare_work
from pipeline.likelihood.run_workspace import beyond_pyhf, workspace
from pipeline.likelihood.workspace import Workspace
from pipeline.optimise import first_step
from pipeline.optimise.parameters import edges_at
from pipeline.optimise.plateaus import Plateau, plateaus
from pipeline.templates import cautions
from pipeline.templates.axes import variations_of
from pipeline.templates.fill import EXACT

PSEUDODATA = "pseudodata"
WORTH_A_WORD = 0.1  # relative, between the objective with exact cuts and pyhf's number
logger = logging.getLogger(__name__)


class Evaluations(NamedTuple):
    """What the stage writes: the evaluation, and the workspace of each (point, fold)."""

    evaluation: Evaluation
    workspaces: dict[tuple[str, str], Workspace]


def all_points(
    config: Config,
    executor: Executor,
    columns: Sequence[tuple[str, Path]],
    points: Mapping[Point, FreeValues],
    kept: Moment | None = None,
) -> Evaluations:
    """Evaluate every point on every fold that holds events, and fit the pseudodata where there are such.

    At the point ``initial`` numbers may be missing. The polished point is made here, where it is asked for.

    Args:
        kept: the epoch that the optimised point is of; absent: no plateaus are looked for.
    """
    found, fitted = {}, {}
    works = {fold: work_of_all_models(config, columns, fold) for fold in datasets.folds(config)}
    objectives = objectives_of(config, works[datasets.TRAIN].axes)
    logger.info(first_step.compiling())
    if reason := beyond_pyhf(config):
        logger.info(f"note: no pyhf. {reason}")
    looks = ExactLooks(config, executor, works[datasets.TRAIN], objectives.own.judge)
    points, moves = with_polished(looks, points)
    for fold, own in works.items():
        for point, parameters in points.items():
            result = verdict(config, executor, own, parameters, objectives, needed=point != INITIAL)
            _tell(point, fold, result)
            found[point, fold] = (own, result)
    cautious = {key: _cautions(config, *entry) for key, entry in found.items()}
    own, result = found[OPTIMISED, last := list(works)[-1]]
    for line in cautions.summary(cautious[OPTIMISED, last], first_step.MOST_LINES):
        logger.info(f"note: {line}")
    if config.model.pseudodata:
        everything = prepare_work(config, columns, datasets.ALL)
        for point, parameters in points.items():
            fitted[point] = _fit_pseudodata(config, executor, everything, parameters)
            logger.info(f"{point}, pseudodata: {_poi_of(config, fitted[point][1])}")
    everywhere = Evaluation(
        objective=described(config),
        points={
            point: Place(
                parameters=_scalars(parameters),
                edges=_edges(config, parameters),
                pseudodata=fitted[point][1] if point in fitted else None,
            )
            for point, parameters in points.items()
        },
        rows=tuple(_row(config, *key, *entry, cautious[key]) for key, entry in found.items()),
        bootstrap=_bootstrap(config, executor, own, result, points, objectives.own.judge),
        robustness=robustness_of(looks, columns, Judged(works, looks.judge), points[OPTIMISED], moves),
        plateaus=_plateaus(looks, found[OPTIMISED, datasets.TRAIN][1], points[OPTIMISED], kept),
    )
    workspaces = {key: e.workspace for key, (_, e) in found.items() if e.workspace is not None}
    return Evaluations(everywhere, workspaces | {(p, PSEUDODATA): spec for p, (spec, _) in fitted.items()})


def _tell(point: Point, fold: Fold, result: Verdict) -> None:
    """Log what a point is worth on a fold, and what there is to know about it."""
    logger.info(
        f"{point}, {fold}: exact {_shown(result.exact)}, relaxed {_shown(result.relaxed)}, "
        f"pyhf {_shown(result.pyhf)}"
    )
    if (apart := _apart(result)) > WORTH_A_WORD:
        logger.info(
            f"note: {point}, {fold}: the final number is {100 * apart:.0f} % from the one that is optimised: "
            "the likelihood is no parabola there, or a parameter meets a bound; see docs/objectives.md"
        )
    for missing in result.missing:
        logger.info(f"note: {point}, {fold}: no number, {missing}")
    if result.fit is not None and result.fit.interval_missing:
        logger.info(f"note: {point}, {fold}: no interval, {result.fit.interval_missing}")


def _plateaus(
    looks: ExactLooks, training: Verdict, optimised: FreeValues, kept: Moment | None
) -> tuple[Plateau, ...]:
    if kept is None:
        return ()
    return plateaus(looks.config, looks.executor, looks.work, optimised, kept, training.templates)


def _apart(result: Verdict) -> float:
    """Return the relative difference of pyhf's number and ours with exact cuts; 0 where one is missing."""
    if result.pyhf is None or result.exact is None:
        return 0.0
    return abs(result.pyhf - result.exact) / max(abs(result.exact), abs(result.pyhf), 1e-300)


def write(
    config: Config,
    found: Evaluations,
    path: Path,
    header: Mapping[str, str],
    seconds: Seconds,
    records: Sequence[EpochRecord],
) -> None:
    """Write the workspaces, the evaluation to a path, and the summary; log its flags."""
    folder = store.Folder(config.run)
    for (point, fold), spec in found.workspaces.items():
        store.write_json(folder.workspace(point, fold), spec)
    evaluation.write(path, found.evaluation, header)
    made = summary(config, found.evaluation, seconds, records)
    for flag in made.flags:
        logger.info(f"note: {flag.text}")
    store.write_json(folder.summary, made.as_json())


def _fit_pseudodata(
    config: Config, executor: Executor, everything: Work, parameters: FreeValues
) -> tuple[Workspace, tuple[FittedParameter, ...]]:
    """Return the workspace of all events with the pseudodata as observations, and the parameters that fit them best."""
    exact = forward(executor, everything, parameters, EXACT)
    spec = workspace(exact, everything.axes, config, pseudodata=True)
    return spec, tuple(fit_table(spec))


def _poi_of(config: Config, table: Sequence[FittedParameter]) -> str:
    row = next(row for row in table if row.label == config.model.poi)
    return f"{row.label} = {row.bestfit:.5g} +- {row.hessian:.3g}"


def _bootstrap(
    config: Config,
    executor: Executor,
    fold_work: Work,
    result: Verdict,
    points: Mapping[Point, FreeValues],
    judge: Judge,
) -> Bootstrap | None:
    """Return the exact objective at every point on resampled events, the same ones for all points, and noise.

    The noise is that of the variations of ``result``, at the optimised point.

    A replica in which a fit fails, as one may that has emptied a bin, is left out and counted.
    """
    if config.evaluate.bootstrap == 0:
        return None
    values: dict[Point, list[float]] = {point: [] for point in points}
    failed = 0
    resampled: list[Templates] = []
    for replica in range(config.evaluate.bootstrap):
        try:
            templates = {
                point: forward(executor, fold_work, parameters, EXACT, replica=replica)
                for point, parameters in points.items()
            }
            resampled.append(templates[OPTIMISED])
            row = {point: judge(templates[point], points[point]).objective for point in points}
        except FitError:
            failed += 1
            continue
        for point, value in row.items():
            values[point].append(value)
    logger.info(
        f"bootstrap: {config.evaluate.bootstrap - failed} replicas of the events, {failed} without a fit left out"
    )
    noise = variation_noise(config, fold_work.axes, result.templates, resampled)
    if noise:
        unseen = sum(not own.is_seen for own in noise)
        logger.info(f"variations: {unseen} of {len(noise)} are compatible with no effect in their channel")
    return Bootstrap(
        values={point: tuple(own) for point, own in values.items()}, failed=failed, variations=noise
    )


def yields(config: Config, executor: Executor, fold_work: Work, parameters: FreeValues) -> dict[str, object]:
    """Return exact yields at one point: parameters, bin edges, yields and sums of squared weights."""
    exact = forward(executor, fold_work, parameters, EXACT)
    return {
        "parameters": _scalars(parameters),
        "edges": edges_at(config, parameters),
        **_tables(config, exact, fold_work).as_json(),
    }


def _row(
    config: Config,
    point: Point,
    fold: Fold,
    fold_work: Work,
    result: Verdict,
    cautious: Sequence[cautions.Caution],
) -> EvaluatedPoint:
    return EvaluatedPoint(
        point=point,
        fold=fold,
        events=fold_work.events,
        exact=result.exact,
        relaxed=result.relaxed,
        pyhf=result.pyhf,
        missing=tuple(result.missing),
        also={
            name: Further(label=described(config.alternatives[name]).label, **dict(numbers))
            for name, numbers in result.also.items()
        },
        cautions=tuple(cautious),
        templates=_tables(config, result.templates, fold_work),
        fit=result.fit,
    )


def _cautions(config: Config, fold_work: Work, result: Verdict) -> list[cautions.Caution]:
    """Return the cautions on the uncertainties of the run's models, on exact templates."""
    found = cautions.cautions(result.templates, fold_work.axes, config)
    for name, other in config.alternatives.items():
        own = cautions.cautions(result.templates, fold_work.axes, other)
        said = {c.text for c in found} | {""}
        found += [c.changed(text=f"{c.text} (in model {name!r})", noise=0) for c in own if c.text not in said]
    return found


def _scalars(parameters: FreeValues) -> dict[str, float]:
    return {name: float(value) for name, value in parameters.items() if np.ndim(value) == 0}


def _edges(config: Config, parameters: FreeValues) -> dict[str, tuple[float, ...] | None]:
    found = edges_at(config, parameters)
    return {channel: None if edges is None else tuple(edges) for channel, edges in found.items()}


def _tables(config: Config, templates: Templates, fold_work: Work) -> YieldTables:
    """Return the variations in the model, and the sums of squared weights."""
    axes = fold_work.axes
    return YieldTables(
        yields={
            channel: {
                sample: {
                    name: tuple(array[axes.row(sample, name)].tolist())
                    for name in (NOMINAL, *variations_of(config, sample))
                }
                for sample in axes.samples
            }
            for channel, array in templates.yields.items()
        },
        sumw2={
            channel: {sample: tuple(array[axes.samples.index(sample)].tolist()) for sample in axes.samples}
            for channel, array in templates.sumw2.items()
        },
    )


def _shown(number: float | None) -> str:
    return "has no such number" if number is None else f"{number:.6g}"
