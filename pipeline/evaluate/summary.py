"""The result of a run in few numbers, for other programs: ``summary.json``, whose keys docs/summary.md explains."""

import html
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from pipeline.analysis import analysis_of
from pipeline.config import Config
from pipeline.data.names import INITIAL, OPTIMISED, POLISHED, Fold, Part, Point
from pipeline.data.progress import Reached, kept, reached
from pipeline.data.record import EpochRecord
from pipeline.data.written import Written
from pipeline.evaluate.change import Change, change
from pipeline.evaluate.evaluation import (
    AtCoefficients,
    CutWidth,
    EvaluatedKind,
    EvaluatedPoint,
    Evaluation,
    Number,
    PruningSummary,
)
from pipeline.evaluate.flags import Flag, flags_of_all
from pipeline.evaluate.robustness.brief import (
    CertificateSummary,
    RefitsSummary,
    ToysSummary,
    brief_certificate,
    brief_refits,
    brief_toys,
)
from pipeline.evaluate.yields.selected import EventsOfYields, SelectedYields, yields_of
from pipeline.fit.breakdown import Breakdown
from pipeline.gradient.loss import Described
from pipeline.likelihood.configured.run_workspace import beyond_pyhf

VERSION: Literal[1] = 1  # another one where a key goes or means something else; keys are added within one
PACKAGES = (
    "thalweg",
    "jax",
    "jaxlib",
    "optax",
    "pyhf",
    "cabinetry",
    "iminuit",
    "coffea",
    "uproot",
    "awkward",
    "dask",
)


class FreeParameter(Written):
    """A free parameter before and after; bounds and unit are those that the analysis declares."""

    bounds: tuple[float, float] | None
    unit: str
    initial: float
    optimised: float
    polished: float | None


class Edges(Written):
    """The bin edges of a channel before and after; null for one that counts."""

    initial: tuple[float, ...] | None
    optimised: tuple[float, ...] | None


class SummaryValue(Written):
    """A number, or null and the reason."""

    value: Number
    reason: str | None


class Values(Written):
    """The objective with soft cuts at their final widths, with hard cuts, and with hard cuts by pyhf."""

    relaxed: SummaryValue
    exact: SummaryValue
    pyhf: SummaryValue


class Seconds(Written):
    """Wall time of all epochs, and of the stage ``evaluate``."""

    optimise: float
    evaluate: float


class FoldSummary(Written):
    """The optimisation that never saw a fold: what it found, its epoch, and the exact objective on what it did see."""

    fold: Part
    parameters: dict[str, float]
    edges: dict[str, tuple[float, ...] | None]
    kept_epoch: int
    kept_start: int
    training: Number
    training_events: int


class Summary(Written):
    """The result of a run."""

    schema_version: Literal[1] = Field(description="version of this schema: keys are only added within one")
    run: str = Field(description="name of the run")
    objective: Described = Field(description="what was optimised")
    parameters: dict[str, FreeParameter] = Field(description="free parameters by name, but for arrays")
    edges: dict[str, Edges] = Field(description="bin edges by channel")
    widths: dict[str, CutWidth] = Field(description="widths of the smooth cuts by name, given or found")
    values: dict[Point, dict[Fold, Values]] = Field(description="the objective by point and fold")
    change: Change = Field(description="what the optimisation changed")
    events: dict[Fold, int] = Field(description="preselected events by fold")
    yields: dict[Point, dict[EventsOfYields, SelectedYields]] = Field(
        description="selected yields with hard cuts by point and events, `all` for those of both folds"
    )
    breakdown: dict[Point, dict[Fold, dict[str, Breakdown]]] = Field(
        description="what the uncertainties of the parameters of interest are made of, with hard cuts, by point, fold "
        "and parameter; empty without a model"
    )
    pruning: dict[Point, dict[Fold, PruningSummary]] = Field(
        description="what is left out of the systematics with hard cuts, by point and fold; empty without thresholds"
    )
    at_coefficients: dict[Fold, tuple[AtCoefficients, ...]] = Field(
        description="at the optimised point, -2 ln L with coefficients of a theory fixed, by the project's own "
        "likelihood and by pyhf; empty without such coefficients",
    )
    versions: dict[str, str] = Field(description="versions of the packages and of Python")
    seconds: Seconds = Field(description="what it took")
    kept_epoch: int | None = Field(
        description="the epoch whose parameters are the result, counted from 0, the start; null with data.folds"
    )
    kept_start: int | None = Field(
        description="the start that it is of, counted from 0, the configured one; null with data.folds"
    )
    starts: tuple[Reached, ...] = Field(
        description="how far each start came, and what it reached; empty with data.folds"
    )
    certificate: CertificateSummary | None = Field(
        description="whether a better point lies near the result, along one parameter; null where it was not looked for"
    )
    refits: RefitsSummary | None = Field(
        description="optimisations of bootstrap samples of the training events; null where there are none"
    )
    toys: ToysSummary | None = Field(
        description="whether pseudo-experiments of the final model agree with its asymptotic numbers; null without"
    )
    flags: tuple[Flag, ...] = Field(description="what to know before the number: bounds, derivatives, errors")
    folds: tuple[FoldSummary, ...] = Field(description="with data.folds, the optimisation outside of each")

    def _repr_html_(self) -> str:
        """Return what a notebook shows: parameters, the objective's values, the change, and what to know first."""
        free = [
            (f"{name} [{own.unit}]" if own.unit else name, f"{own.initial:.4g}", f"{own.optimised:.4g}")
            for name, own in self.parameters.items()
        ]
        kinds = ("relaxed", "exact", "pyhf")
        numbers = [
            (point, fold, *(_shown(getattr(found, kind).value) for kind in kinds))
            for point, folds in self.values.items()
            for fold, found in folds.items()
        ]
        said = "".join(f"<li>{html.escape(flag.text)}</li>" for flag in self.flags)
        objective = self.objective.label + (f" [{self.objective.unit}]" if self.objective.unit else "")
        return (
            f"<p><b>{html.escape(self.run)}</b>: {html.escape(objective)}. {html.escape(str(self.change))}</p>"
            + _table(("parameter", "initial", "optimised"), free)
            + _table(("point", "events", *kinds), numbers)
            + (f"<ul>{said}</ul>" if said else "")
        )


def summary(
    config: Config, evaluation: Evaluation, seconds: Seconds, *optimisations: Sequence[EpochRecord]
) -> Summary:
    """Return the summary of an evaluated run.

    Args:
        optimisations: the records of each, one where there are no folds.
    """
    free = analysis_of(config).parameters
    initial, optimised = (evaluation.points[point] for point in (INITIAL, OPTIMISED))
    polished = evaluation.points.get(POLISHED)
    values: dict[Point, dict[Fold, Values]] = {}
    for row in evaluation.rows:
        values.setdefault(row.point, {})[row.fold] = _values(config, row)
    return Summary(
        schema_version=VERSION,
        run=config.run,
        objective=evaluation.objective,
        parameters={
            name: FreeParameter(
                bounds=free[name].bounds if name in free else None,
                unit=free[name].unit if name in free else "",
                initial=value,
                optimised=optimised.parameters[name],
                polished=None if polished is None else polished.parameters[name],
            )
            for name, value in initial.parameters.items()
        },
        edges={
            channel: Edges(initial=edges, optimised=optimised.edges[channel])
            for channel, edges in initial.edges.items()
        },
        widths=evaluation.widths,
        values=values,
        change=change(evaluation),
        events={row.fold: row.events for row in evaluation.rows},
        yields=yields_of(config, evaluation),
        breakdown=_breakdowns(evaluation),
        pruning=evaluation.pruning,
        at_coefficients=evaluation.at_coefficients,
        versions=versions(),
        seconds=seconds,
        kept_epoch=None if evaluation.folds else kept(optimisations[0]).epoch,
        kept_start=None if evaluation.folds else kept(optimisations[0]).start,
        starts=() if evaluation.folds else reached(config.optimise, optimisations[0]),
        certificate=brief_certificate(evaluation.robustness.certificate),
        refits=brief_refits(evaluation.robustness.refits),
        toys=brief_toys(evaluation.robustness.toys),
        flags=flags_of_all(config, evaluation, optimisations),
        folds=_folds(evaluation, optimisations),
    )


def _folds(evaluation: Evaluation, optimisations: Sequence[Sequence[EpochRecord]]) -> tuple[FoldSummary, ...]:
    return tuple(
        FoldSummary(
            fold=own.fold,
            parameters=own.optimised.parameters,
            edges=own.optimised.edges,
            kept_epoch=kept(records).epoch,
            kept_start=kept(records).start,
            training=own.training[OPTIMISED].exact,
            training_events=own.outside,
        )
        for own, records in zip(evaluation.folds, optimisations, strict=False)
    )


def _breakdowns(evaluation: Evaluation) -> dict[Point, dict[Fold, dict[str, Breakdown]]]:
    found: dict[Point, dict[Fold, dict[str, Breakdown]]] = {}
    for row in evaluation.rows:
        if row.breakdowns:
            found.setdefault(row.point, {})[row.fold] = row.breakdowns
    return found


def _shown(number: Number) -> str:
    return "none" if number is None else f"{number:.4g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in HTML; nothing without a row."""
    if not rows:
        return ""
    first = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    others = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{first}</tr>{others}</table>"


def versions() -> dict[str, str]:
    """Return versions of the packages that make the numbers."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return found | {"python": platform.python_version()}


def schema() -> str:
    """Return the JSON schema of a summary; a program that checks by it also takes keys that are added later."""
    content = Summary.model_json_schema(mode="serialization")
    for section in (content, *content["$defs"].values()):
        section.pop("additionalProperties", None)
    return json.dumps(content, indent=1) + "\n"


def _values(config: Config, row: EvaluatedPoint) -> Values:
    def value(kind: EvaluatedKind) -> SummaryValue:
        number = row.of(kind)
        return SummaryValue(value=number, reason=None if number is not None else _reason(config, row, kind))

    return Values(relaxed=value("relaxed"), exact=value("exact"), pyhf=value("pyhf"))


def _reason(config: Config, row: EvaluatedPoint, kind: EvaluatedKind) -> str:
    """Return why there is no number."""
    failed = [missing.reason for missing in row.missing if missing.kind == kind and missing.model is None]
    if failed:
        return failed[0]
    of_sums = sorted({part.kind for part in config.objective.parts if part.of_sums})
    return (
        beyond_pyhf(config)
        or f"{', '.join(of_sums)}: no number of a fit, but a function of sums over the events"
    )
