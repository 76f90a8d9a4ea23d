"""Several optimisations, one outside of each fold, in the words of one: means over them, and the flags of each."""

from collections.abc import Sequence

import numpy as np

from pipeline.config import Config
from pipeline.data.names import OPTIMISED
from pipeline.data.record import EpochRecord
from pipeline.evaluate.evaluation import (
    EvaluatedPoint,
    Evaluation,
    Further,
    Number,
    Numbers,
    Place,
    YieldTables,
)
from pipeline.evaluate.flags import Flag, flags


def mean_row(rows: Sequence[EvaluatedPoint]) -> EvaluatedPoint:
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
        **_means(rows),
    )


def mean_place(places: Sequence[Place]) -> Place:
    """Return the means of parameters and of bin edges."""
    edges = {
        channel: None if own is None else _mean([place.edges[channel] for place in places])
        for channel, own in places[0].edges.items()
    }
    parameters = {
        name: float(np.mean([place.parameters[name] for place in places])) for name in places[0].parameters
    }
    return Place(parameters=parameters, edges=edges, pseudodata=None)


def spreads(evaluation: Evaluation) -> dict[str, float]:
    """Return the standard deviation of each parameter over the folds."""
    found = [own.optimised.parameters for own in evaluation.folds]
    return {name: float(np.std([own[name] for own in found], ddof=1)) for name in found[0]} if found else {}


def flags_of_all(
    config: Config, evaluation: Evaluation, optimisations: Sequence[Sequence[EpochRecord]]
) -> tuple[Flag, ...]:
    """Return the flags of a run: what is true of every optimisation once, the others with the fold they are about."""
    if not evaluation.folds:
        return flags(config, evaluation, optimisations[0])
    found = [
        flags(config, evaluation.changed(points={**evaluation.points, OPTIMISED: own.optimised}), records)
        for own, records in zip(evaluation.folds, optimisations, strict=True)
    ]
    everywhere = tuple(flag for flag in found[0] if all(flag in own for own in found))
    return everywhere + tuple(
        flag.changed(text=f"fold {number}: {flag.text}")
        for number, own in enumerate(found, start=1)
        for flag in own
        if flag not in everywhere
    )


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
