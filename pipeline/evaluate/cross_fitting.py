"""Cross-fitting: every event is judged by the optimisation that never saw it, and the final templates have all events.

An optimisation outside of each fold; the templates of a fold's events at its parameters, and their sum over the folds,
normalised together to the luminosity. So all events are in the final number, and none of them was trained on.

Beside it stands what the optimisations are worth on their own training events, the mean over them. The events of all
folds are read once: what is outside of a fold are the pieces of the others, with factors that normalise them.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pipeline.config import Config
from pipeline.data import datasets
from pipeline.data.names import CROSS_FITTED, INITIAL, OPTIMISED, POINTS, TRAIN, Point
from pipeline.evaluate.at_point import Objectives, objectives_of, work_of_all_models
from pipeline.evaluate.evaluation import (
    EvaluatedPoint,
    FoldResult,
    Further,
    Number,
    Numbers,
    Place,
    YieldTables,
)
from pipeline.evaluate.robustness.together import Robustness
from pipeline.evaluate.robustness.toys import toys_of
from pipeline.evaluate.rows import place, row
from pipeline.evaluate.stage import (
    Evaluations,
    JudgedPieces,
    evaluated,
    final_model,
    started,
    verdict_in_words,
)
from pipeline.evaluate.yields.purity import folds_by_purity
from pipeline.evaluate.yields.whole import ColumnsOfSamples, ratios
from pipeline.gradient.pieces import Piece, Pieces
from pipeline.gradient.sweeps import Executor, FreeValues
from pipeline.gradient.work import Work, prepare_work


def cross_fitted(
    config: Config,
    executor: Executor,
    columns: ColumnsOfSamples,
    start: FreeValues,
    optimised: Sequence[FreeValues],
) -> Evaluations:
    """Evaluate start and result: all events cross-fitted, and the mean over the optimisations' training events.

    Args:
        optimised: the parameters of the optimisation outside of each fold.
    """
    works = works_of_folds(config, columns, of_all_models=True)
    objectives = objectives_of(config, works[0].axes)
    started(config)
    trainings = [number + 1 for number in range(len(works))]
    given = list(zip([1, *trainings], [start, *optimised], strict=True))
    start, *optimised = folds_by_purity(config, executor, columns, given)
    points: dict[Point, list[FreeValues]] = {INITIAL: [start] * len(works), OPTIMISED: [*optimised]}
    trained = {
        point: _training(config, executor, columns, works, (point, points[point]), objectives)
        for point in POINTS
    }
    whole: dict[Point, Pieces] = {point: paired(works, points[point]) for point in POINTS}
    judged: JudgedPieces = {(point, CROSS_FITTED): own for point, own in whole.items()}
    found = [place(config, parameters) for parameters in optimised]
    places: dict[Point, Place] = {INITIAL: place(config, start), OPTIMISED: _mean_place(found)}
    everything = whole if config.model.pseudodata else {}
    made = evaluated(config, executor, objectives, judged, everything, places)
    folds = tuple(
        FoldResult(
            fold=part,
            inside=works[number].events,
            outside=trained[OPTIMISED][number].events,
            optimised=found[number],
            training={point: _numbers(rows[number]) for point, rows in trained.items()},
        )
        for number, part in enumerate(datasets.parts(config))
    )
    rows = (*(_mean_row(own) for own in trained.values()), *made.evaluation.rows)
    robust = Robustness(toys=toys_of(config, executor, works[0], final_model(made)))
    return made._replace(evaluation=made.evaluation.changed(rows=rows, folds=folds, robustness=robust))


def paired(works: Sequence[Work], parameters: Sequence[FreeValues]) -> tuple[Piece, ...]:
    """Return the events of each fold with its parameters."""
    return tuple(Piece(work, own) for work, own in zip(works, parameters, strict=True))


def works_of_folds(config: Config, columns: ColumnsOfSamples, *, of_all_models: bool = False) -> list[Work]:
    """Return the events of each fold, normalised such that all together are the whole luminosity.

    Args:
        of_all_models: with the variations that any of the run's models needs.
    """
    prepare = work_of_all_models if of_all_models else prepare_work
    made = [prepare(config, columns, part, part_of=datasets.ALL) for part in datasets.parts(config)]
    longest = max((work.problem for work in made), key=lambda problem: problem.layout.chunk_events)
    return [work._replace(problem=longest) for work in made]  # in chunks of one length


def _training(
    config: Config,
    executor: Executor,
    columns: ColumnsOfSamples,
    works: Sequence[Work],
    at: tuple[Point, Sequence[FreeValues]],
    objectives: Objectives,
) -> list[EvaluatedPoint]:
    """Return what a point is worth to each optimisation, on the events outside of its fold.

    A number may be missing: an optimisation that knows its events too well may leave a bin without background.
    """
    point, parameters = at
    found = []
    for number, own in enumerate(parameters):
        pieces = _outside(config, columns, works, number, own)
        where = f"{point}, training outside of fold {number + 1}"
        result = verdict_in_words(config, executor, where, pieces, objectives, needed=False)
        found.append(row(config, point, TRAIN, pieces, result, ()))
    return found


def _outside(
    config: Config, columns: ColumnsOfSamples, works: Sequence[Work], number: int, parameters: FreeValues
) -> Pieces:
    """Return the events outside of a fold, normalised to the whole luminosity by themselves."""
    factors = _factors(config, columns, works[number].axes.samples, number)
    others = [work for other, work in enumerate(works) if other != number]
    together = others[0]._replace(groups=tuple(group for work in others for group in work.groups))
    return (Piece(together, parameters, factors),)


def _factors(
    config: Config, columns: ColumnsOfSamples, samples: Sequence[str], number: int
) -> Float[np.ndarray, " samples"]:
    """Return how much more the events outside of a fold weigh alone than among all."""
    return ratios(config, columns, samples, datasets.training(config, number + 1), datasets.ALL)


def _numbers(own: EvaluatedPoint) -> Numbers:
    return Numbers(exact=own.exact, relaxed=own.relaxed, pyhf=own.pyhf)


def _mean_row(rows: Sequence[EvaluatedPoint]) -> EvaluatedPoint:
    """Return the mean of what several optimisations are worth, each on its own events; a mean has no fit."""
    return EvaluatedPoint(
        point=rows[0].point,
        fold=rows[0].fold,
        events=round(np.mean([row.events for row in rows])),
        missing=tuple(
            missing.changed(reason=f"fold {number}: {missing.reason}")
            for number, row in enumerate(rows, start=1)
            for missing in row.missing
        ),
        also={
            name: Further(label=own.label, **_means([row.also[name] for row in rows]))
            for name, own in rows[0].also.items()
        },
        cautions=(),
        templates=_mean_tables([row.templates for row in rows]),
        fit=None,
        breakdowns={},
        breakdown_missing="",
        contours=(),
        contours_missing="",
        pruned=None,
        at_coefficients=(),
        **_means(rows),
    )


def _mean_place(places: Sequence[Place]) -> Place:
    """Return the means of parameters and of bin edges."""
    edges = {
        channel: None if own is None else _mean([place.edges[channel] for place in places])
        for channel, own in places[0].edges.items()
    }
    parameters = {
        name: float(np.mean([place.parameters[name] for place in places])) for name in places[0].parameters
    }
    return Place(parameters=parameters, edges=edges, pseudodata=None)


def _means(rows: Sequence[Numbers]) -> dict[str, Number]:
    """Return the mean of each kind of number; none where one of them is missing."""
    found = {
        "exact": [row.exact for row in rows],
        "relaxed": [row.relaxed for row in rows],
        "pyhf": [row.pyhf for row in rows],
    }
    return {kind: None if None in own else float(np.mean([*own])) for kind, own in found.items()}


def _mean(arrays: Sequence[object]) -> tuple[float, ...]:
    return tuple(np.mean(np.array(arrays, dtype=np.float64), axis=0).tolist())


def _mean_tables(tables: Sequence[YieldTables]) -> YieldTables:
    first = tables[0]
    return YieldTables(
        yields={
            channel: {
                sample: {
                    name: _mean([table.yields[channel][sample][name] for table in tables]) for name in named
                }
                for sample, named in samples.items()
            }
            for channel, samples in first.yields.items()
        },
        sumw2={
            channel: {sample: _mean([table.sumw2[channel][sample] for table in tables]) for sample in samples}
            for channel, samples in first.sumw2.items()
        },
    )
