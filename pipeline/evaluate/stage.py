"""The proof: exact cuts before and after, on training and held-out events, and the ordinary pyhf fit of each."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.data import datasets, store
from pipeline.data.names import OPTIMISED, POINTS, Fold, Point
from pipeline.data.progress import Moment
from pipeline.data.record import EpochRecord
from pipeline.errors import FitError
from pipeline.evaluate import evaluation
from pipeline.evaluate.at_point import (
    ModelPieces,
    Objectives,
    Verdict,
    objectives_of,
    verdict_of,
    work_of_all_models,
)
from pipeline.evaluate.by_pyhf.fit import fit_table
from pipeline.evaluate.evaluation import Bootstrap, CutWidth, Evaluation, FittedParameter, Place
from pipeline.evaluate.flags import is_apart
from pipeline.evaluate.robustness.together import Judged, looks_around, robustness_of, with_polished
from pipeline.evaluate.robustness.toys import FinalModel, toys_of
from pipeline.evaluate.rows import place, row, tables
from pipeline.evaluate.summary import Seconds, summary
from pipeline.evaluate.variation_noise import variation_noise
from pipeline.evaluate.yields.outside import outside
from pipeline.evaluate.yields.purity import all_by_purity
from pipeline.evaluate.yields.selected import selected
from pipeline.evaluate.yields.whole import of_all_events
from pipeline.gradient.loss import described
from pipeline.gradient.pieces import Piece, Pieces, added
from pipeline.gradient.sweeps import Executor, FreeValues, forward
from pipeline.gradient.work import Work, prepare_work
from pipeline.likelihood.configured.run_workspace import beyond_pyhf, workspace
from pipeline.likelihood.workspace import Workspace
from pipeline.optimise import first_step
from pipeline.optimise.parameters import edges_at, scalars
from pipeline.optimise.plateaus import Plateau, plateaus
from pipeline.templates import cautions
from pipeline.templates.axes import Axes
from pipeline.templates.fill import EXACT

PSEUDODATA = "pseudodata"
logger = logging.getLogger(__name__)
JudgedPieces = Mapping[tuple[Point, Fold], Pieces]


class Evaluations(NamedTuple):
    """What the stage writes: evaluation, and workspace of each (point, fold); and the exact templates there."""

    evaluation: Evaluation
    workspaces: dict[tuple[str, str], Workspace]
    exact: dict[tuple[Point, Fold], Templates]


def all_points(
    config: Config,
    executor: Executor,
    columns: Sequence[tuple[str, Path]],
    points: Mapping[Point, FreeValues],
    kept: Moment | None = None,
) -> Evaluations:
    """Evaluate every point on every fold that holds events, and fit the pseudodata where there are such.

    At other points than ``optimised`` numbers may be missing. The polished point is made here, where it is asked for.

    Args:
        kept: the epoch that the optimised point is of; absent: no plateaus are looked for.
    """
    works = {fold: work_of_all_models(config, columns, fold) for fold in datasets.folds(config)}
    objectives = objectives_of(config, works[datasets.TRAIN].axes)
    started(config)
    points = all_by_purity(config, executor, works[datasets.TRAIN], points)
    looks = looks_around(config, executor, works[datasets.TRAIN], objectives.own.judge, points[OPTIMISED])
    points, moves = with_polished(looks, points)
    judged = {(point, fold): (Piece(own, points[point]),) for fold, own in works.items() for point in points}
    everything: dict[Point, Pieces] = {}
    if config.model.pseudodata:
        whole = prepare_work(config, columns, datasets.ALL)
        everything = {point: (Piece(whole, parameters),) for point, parameters in points.items()}
    places = {point: place(config, parameters) for point, parameters in points.items()}
    made = evaluated(config, executor, objectives, judged, everything, places)
    result, training = points[OPTIMISED], works[datasets.TRAIN]
    robust = robustness_of(looks, columns, Judged(works, looks.judge), result, moves)
    robust = robust.changed(toys=toys_of(config, executor, training, final_model(made)))
    flat: tuple[Plateau, ...] = ()
    if kept is not None:
        exact = made.exact[OPTIMISED, datasets.TRAIN]
        flat = plateaus(config, executor, training, result, kept, exact)
    everywhere = of_all_events(config, columns, training.axes, made.exact)
    return made._replace(
        evaluation=made.evaluation.changed(robustness=robust, plateaus=flat, whole=everywhere)
    )


def final_model(made: Evaluations) -> FinalModel:
    """Return the model of the optimised point on the last fold, of which toys are made."""
    fold, spaces = made.evaluation.last_fold, made.workspaces
    number = made.evaluation.at(OPTIMISED, fold).exact
    return FinalModel(fold, spaces.get((OPTIMISED, fold)), number, spaces.get((OPTIMISED, PSEUDODATA)))


def started(config: Config) -> None:
    """Say what is waited for, and whether pyhf has no number."""
    logger.info(first_step.compiling())
    if reason := beyond_pyhf(config):
        logger.info(f"note: no pyhf. {reason}")


def evaluated(
    config: Config,
    executor: Executor,
    objectives: Objectives,
    judged: JudgedPieces,
    everything: Mapping[Point, Pieces],
    places: Mapping[Point, Place],
) -> Evaluations:
    """Evaluate what is judged, the last fold last, and fit the pseudodata to everything at each point."""
    found = {
        (point, fold): verdict_in_words(
            config, executor, f"{point}, {fold}", own, objectives, needed=point == OPTIMISED
        )
        for (point, fold), own in judged.items()
    }
    axes = next(iter(judged.values()))[0].work.axes
    cautious = {key: _cautions(config, axes, result) for key, result in found.items()}
    _, last = list(found)[-1]
    for line in cautions.summary(cautious[OPTIMISED, last], first_step.MOST_LINES):
        logger.info(f"note: {line}")
    fitted = {}
    for point, own in everything.items():
        fitted[point] = _fit_pseudodata(config, executor, own)
        logger.info(f"{point}, pseudodata: {_poi_of(config, fitted[point][1])}")
    compared = {p: own for (p, fold), own in judged.items() if fold == last and p in POINTS}
    everywhere = Evaluation(
        objective=described(config),
        points={p: at.changed(pseudodata=fitted[p][1] if p in fitted else None) for p, at in places.items()},
        rows=tuple(row(config, *key, judged[key], result, cautious[key]) for key, result in found.items()),
        bootstrap=_bootstrap(
            config,
            executor,
            found[OPTIMISED, last],
            compared,
            {point: objectives.own.decided(found[point, last].decision) for point in compared},
        ),
        widths={n: CutWidth(initial=own.initial, final=own.final) for n, own in config.widths.items()},
    )
    workspaces: dict[tuple[str, str], Workspace] = {
        key: e.workspace for key, e in found.items() if e.workspace is not None
    }
    workspaces |= {(point, PSEUDODATA): spec for point, (spec, _) in fitted.items()}
    return Evaluations(everywhere, workspaces, {key: e.templates for key, e in found.items()})


def verdict_in_words(
    config: Config, executor: Executor, where: str, pieces: Pieces, objectives: Objectives, *, needed: bool
) -> Verdict:
    """Return the verdict on some events at a point, and log it."""
    result = verdict_of(config, executor, pieces, objectives, needed=needed)
    logger.info(
        f"{where}: exact {_shown(result.exact)}, relaxed {_shown(result.relaxed)}, pyhf {_shown(result.pyhf)}"
    )
    if is_apart(result.pyhf, result.exact):
        logger.info(
            f"note: {where}: the final number differs from the one that is optimised: "
            "the likelihood is no parabola there, or a parameter meets a bound; see docs/objectives.md"
        )
    if result.decision is not None:
        logger.info(f"note: {where}: {result.decision.line}")
    for missing in result.missing:
        logger.info(f"note: {where}: no number, {missing}")
    if result.fit is not None and result.fit.interval_missing:
        logger.info(f"note: {where}: no interval, {result.fit.interval_missing}")
    return result


def write(
    config: Config,
    found: Evaluations,
    path: Path,
    header: Mapping[str, str],
    seconds: Seconds,
    *optimisations: Sequence[EpochRecord],
) -> None:
    """Write the workspaces, the evaluation to a path, and the summary; log its flags.

    Args:
        optimisations: the records of each, one where there are no folds.
    """
    folder = store.Folder(config.run)
    for (point, fold), spec in found.workspaces.items():
        store.write_json(folder.workspace(point, fold), spec)
    evaluation.write(path, found.evaluation, header)
    made = summary(config, found.evaluation, seconds, *optimisations)
    for flag in made.flags:
        logger.info(f"note: {flag.text}")
    store.write_json(folder.summary, made.as_json())


def _fit_pseudodata(
    config: Config, executor: Executor, everything: Pieces
) -> tuple[Workspace, tuple[FittedParameter, ...]]:
    """Return the workspace of all events with the pseudodata as observations, and the parameters that fit them best."""
    exact = added(executor, everything, EXACT)
    spec = workspace(exact, everything[0].work.axes, config, pseudodata=True)
    return spec, tuple(fit_table(spec))


def _poi_of(config: Config, table: Sequence[FittedParameter]) -> str:
    row = next(row for row in table if row.label == config.model.poi)
    return f"{row.label} = {row.bestfit:.5g} +- {row.hessian:.3g}"


def _bootstrap(
    config: Config,
    executor: Executor,
    result: Verdict,
    points: Mapping[Point, Pieces],
    models: Mapping[Point, ModelPieces],
) -> Bootstrap | None:
    """Return the exact objective at start and result on resampled events, the same ones for both, and noise.

    The noise is that of the variations of ``result``, at the optimised point. What is pruned is as in ``models``, for
    all replicas of a point.

    A replica in which a fit fails, as one may that has emptied a bin, is left out and counted.
    """
    if config.evaluate.bootstrap == 0:
        return None
    values: dict[Point, list[float]] = {point: [] for point in points}
    axes, reasons = next(iter(points.values()))[0].work.axes, list[str]()
    resampled: list[Templates] = []
    for replica in range(config.evaluate.bootstrap):
        try:
            templates = {point: added(executor, own, EXACT, replica=replica) for point, own in points.items()}
            resampled.append(templates[OPTIMISED])
            row = {point: models[point].at(templates[point], own) for point, own in points.items()}
        except FitError as error:
            reasons.append(str(error))
            continue
        for point, value in row.items():
            values[point].append(value)
    failed = len(reasons)
    why = "".join(f"; the first of them: {reason}" for reason in reasons[:1])
    logger.info(
        f"bootstrap: {config.evaluate.bootstrap - failed} replicas of the events, {failed} without a fit left out{why}"
    )
    noise = variation_noise(config, axes, result.templates, resampled)
    if noise:
        unseen = sum(not own.is_seen for own in noise)
        logger.info(f"variations: {unseen} of {len(noise)} are compatible with no effect in their channel")
    return Bootstrap(
        values={point: tuple(own) for point, own in values.items()}, failed=failed, variations=noise
    )


def yields(config: Config, executor: Executor, fold_work: Work, parameters: FreeValues) -> dict[str, object]:
    """Return exact yields at one point: parameters, bin edges, yields, sums of squared weights, totals.

    ``outside`` has the events that no bin counts.
    """
    exact = forward(executor, fold_work, parameters, EXACT)
    found = tables(config, exact, fold_work.axes)
    beyond = outside(config, executor, fold_work, parameters)
    return {
        "parameters": scalars(parameters),
        "edges": edges_at(config, parameters),
        **found.as_json(),
        "totals": selected(config, found).as_json(),
        "outside": {
            channel: {sample: ends.as_json() for sample, ends in own.items()}
            for channel, own in beyond.items()
        },
    }


def _cautions(config: Config, axes: Axes, result: Verdict) -> list[cautions.Caution]:
    """Return the cautions on the uncertainties of the run's models, on exact templates."""
    found = cautions.cautions(result.templates, axes, config)
    for name, other in config.alternatives.items():
        own = cautions.cautions(result.templates, axes, other)
        said = {c.text for c in found} | {""}
        found += [c.changed(text=f"{c.text} (in model {name!r})", noise=0) for c in own if c.text not in said]
    return found


def _shown(number: float | None) -> str:
    return "has no such number" if number is None else f"{number:.6g}"
