"""Verdicts and points in the words of an evaluation."""

from collections.abc import Sequence

from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.data.datasets import NOMINAL
from pipeline.data.names import Fold, Point
from pipeline.evaluate.at_point import Verdict
from pipeline.evaluate.evaluation import EvaluatedPoint, Further, Place, PrunedModel, YieldTables
from pipeline.gradient.loss import described
from pipeline.gradient.pieces import Pieces, events
from pipeline.gradient.sweeps import FreeValues
from pipeline.likelihood.configured.pruning import Decision
from pipeline.optimise.parameters import edges_at, scalars
from pipeline.templates import cautions
from pipeline.templates.axes import Axes, variations_of


def row(
    config: Config,
    point: Point,
    fold: Fold,
    pieces: Pieces,
    result: Verdict,
    cautious: Sequence[cautions.Caution],
) -> EvaluatedPoint:
    """Return what an evaluation says of a verdict."""
    return EvaluatedPoint(
        point=point,
        fold=fold,
        events=events(pieces),
        exact=result.exact,
        relaxed=result.relaxed,
        pyhf=result.pyhf,
        missing=tuple(result.missing),
        also={
            name: Further(label=described(config.alternatives[name]).label, **dict(numbers))
            for name, numbers in result.also.items()
        },
        cautions=tuple(cautious),
        templates=tables(config, result.templates, pieces[0].work.axes),
        fit=result.fit,
        breakdowns=result.parts.breakdowns,
        breakdown_missing=result.parts.no_breakdown,
        contours=result.parts.contours,
        contours_missing=result.parts.no_contours,
        at_coefficients=result.at_coefficients,
        pruned=None if result.decision is None else _pruned(result.decision),
    )


def _pruned(found: Decision) -> PrunedModel:
    """Return a decision without its tables."""
    return PrunedModel(
        parts=found.parts, of=found.of, gone=found.gone, before=found.before, after=found.after
    )


def place(config: Config, parameters: FreeValues) -> Place:
    """Return parameters and bin edges at a point."""
    return Place(parameters=scalars(parameters), edges=_edges(config, parameters), pseudodata=None)


def _edges(config: Config, parameters: FreeValues) -> dict[str, tuple[float, ...] | None]:
    found = edges_at(config, parameters)
    return {channel: None if edges is None else tuple(edges) for channel, edges in found.items()}


def tables(config: Config, templates: Templates, axes: Axes) -> YieldTables:
    """Return the variations in the model, and the sums of squared weights."""
    named = {sample: (NOMINAL, *variations_of(config, sample)) for sample in axes.samples}
    return YieldTables.of(templates, axes, named)
