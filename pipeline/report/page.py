"""Figures and tables onto one HTML page that needs nothing else."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import matplotlib as mpl
import numpy as np

from pipeline.analysis import analysis_of
from pipeline.config import Config, written
from pipeline.data import datasets, normalisation
from pipeline.data.column_file import Provenance
from pipeline.data.names import INITIAL, OPTIMISED, POLISHED, Point
from pipeline.data.progress import checks, kept, reached
from pipeline.data.record import EpochRecord
from pipeline.data.store import write_text
from pipeline.evaluate.change import change
from pipeline.evaluate.evaluation import EvaluatedPoint, Evaluation, PyhfFit
from pipeline.evaluate.flags import flags_of_all
from pipeline.evaluate.summary import versions
from pipeline.evaluate.yields.selected import (
    WHOLE,
    ChannelYields,
    EventsOfYields,
    SelectedYields,
    yields_of,
)
from pipeline.fit.interval import Method
from pipeline.report import contours, robustness, templates, toys
from pipeline.report import figures as draw
from pipeline.report.drawn import Drawn, embedded, save
from pipeline.templates import cautions


class _Parameter(NamedTuple):
    """A row of the table of parameters."""

    name: str
    initial: float
    optimised: float
    bounds: tuple[float, float] | None
    unit: str


class _Interval(NamedTuple):
    """The ends of the POI's interval, and how each was found."""

    down: float
    up: float
    found: Mapping[str, str]


class _Sample(NamedTuple):
    """A row of the table of samples: files, events read, kept and lost."""

    name: str
    files: int
    read: int
    kept: int
    lost: int
    cross_section_pb: float | None
    sum_of_weights: float
    normalised_by: tuple[float, str] | None


def write(
    config: Config,
    records: Sequence[EpochRecord],
    evaluation: Evaluation,
    provenances: Sequence[Provenance],
    *,
    page: Path,
    figures: Path,
    others: Sequence[Sequence[EpochRecord]] = (),
) -> None:
    """Write the page, and into a folder every figure as SVG and PDF, and its numbers as CSV.

    Args:
        others: the records of the further optimisations, outside of the second fold and so on.
    """
    optimisations = [records, *others]
    shutil.rmtree(figures, ignore_errors=True)
    beside = Path(os.path.relpath(figures, page.parent)).as_posix()
    with mpl.rc_context(draw.STYLE):
        drawn = _figures(config, optimisations, evaluation)
        embeddings = {
            name: embedded(own, save(own, figures, name), beside, name) for name, own in drawn.items()
        }
    content = {
        "config": config,
        "config_yaml": written(config.model_dump(mode="json")),
        "records": records,
        "evaluation": evaluation,
        "further": any(row.also for row in evaluation.rows),
        "fitted": any(row.fit is not None for row in evaluation.rows),
        "figures": embeddings,
        "yields": _yields(config, evaluation),
        "polished": evaluation.points.get(POLISHED),
        "parameters": _parameter_rows(config, evaluation),
        "moved_edges": _moved_edges(evaluation),
        "change": change(evaluation),
        "flags": flags_of_all(config, evaluation, optimisations),
        "kept": kept(records) if checks(records) and not others else None,
        "starts": () if others else reached(config.optimise, records),
        "kept_of_folds": [kept(own) for own in optimisations],
        "spreads": _spreads(evaluation),
        "edges_of_folds": _edges_of_folds(evaluation),
        "noise": evaluation.bootstrap.variations if evaluation.bootstrap else (),
        "cautions": _cautions(evaluation),
        **_pruning(records, evaluation, is_folded=bool(others)),
        "interval": _interval(evaluation),
        "samples": _sample_rows(config, provenances),
        "files": provenances,
        "left_out": [p for p in provenances if p.left_out is not None],
        "notes": normalisation.notes(config, provenances),
        "versions": versions(),
        "seconds": sum(record.seconds for own in optimisations for record in own),
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    write_text(page, environment.get_template("page.html.j2").render(content))


def _figures(
    config: Config, optimisations: Sequence[Sequence[EpochRecord]], evaluation: Evaluation
) -> dict[str, Drawn]:
    fold = evaluation.last_fold
    free = analysis_of(config).parameters
    drawn = {"objective": draw.objective(*optimisations, evaluation=evaluation)}
    if evaluation.points[OPTIMISED].parameters:
        drawn["parameters"] = draw.parameters(*optimisations, evaluation=evaluation, free=free)
    for name in config.regions:
        drawn[f"templates_{name}"] = templates.templates(config, name, evaluation, fold)
    fit = _final_fit(evaluation)
    for name in config.regions:
        varied = templates.variations(config, name, evaluation, fold, () if fit is None else fit.impacts)
        if varied is not None:
            drawn[f"variations_{name}"] = varied
    if fit is not None and fit.impacts:
        drawn["pulls"] = draw.pulls(evaluation, fold)
        drawn["ranking"] = draw.ranking(config, fit.impacts)
    tested = robustness.figures(config, evaluation) | toys.figures(config, evaluation)
    return drawn | contours.figures(evaluation) | tested


def _yields(
    config: Config, evaluation: Evaluation
) -> dict[EventsOfYields, dict[str, dict[Point, ChannelYields]]]:
    """Return the yields of what is judged and of all events, by events, channel and point; "" is all channels."""
    found = yields_of(config, evaluation)
    return {
        events: {
            channel: {point: _of_channel(own[events], channel) for point, own in found.items()}
            for channel in ("", *(config.regions if len(config.regions) > 1 else ()))
        }
        for events in (evaluation.last_fold, WHOLE)
        if events in found[INITIAL] and config.regions
    }


def _of_channel(found: SelectedYields, channel: str) -> ChannelYields:
    return found.channels[channel] if channel else found.total


def _final(evaluation: Evaluation) -> EvaluatedPoint:
    """Return the evaluation at the optimised parameters on the last fold."""
    return evaluation.at(OPTIMISED, evaluation.last_fold)


def _final_fit(evaluation: Evaluation) -> PyhfFit | None:
    return _final(evaluation).fit


def _parameter_rows(config: Config, evaluation: Evaluation) -> list[_Parameter]:
    free, optimised = analysis_of(config).parameters, evaluation.points[OPTIMISED].parameters
    return [
        _Parameter(
            name,
            initial,
            optimised[name],
            free[name].bounds if name in free else None,
            free[name].unit if name in free else "",
        )
        for name, initial in evaluation.points[INITIAL].parameters.items()
    ]


def _moved_edges(evaluation: Evaluation) -> dict[str, dict[str, str]]:
    """Bin edges before and after of the channels whose edges moved."""
    points = evaluation.points
    return {
        channel: {
            point: ", ".join(f"{edge:.4g}" for edge in found.edges[channel] or ())
            for point, found in points.items()
        }
        for channel, edges in points[INITIAL].edges.items()
        if edges != points[OPTIMISED].edges[channel]
    }


def _spreads(evaluation: Evaluation) -> dict[str, float]:
    """Return the standard deviation of each parameter over the folds."""
    found = [own.optimised.parameters for own in evaluation.folds]
    return {name: float(np.std([own[name] for own in found], ddof=1)) for name in found[0]} if found else {}


def _edges_of_folds(evaluation: Evaluation) -> dict[str, list[str]]:
    """Bin edges of each fold, of the channels in which they are not the same."""
    found = {
        channel: [own.optimised.edges[channel] for own in evaluation.folds]
        for channel in evaluation.points[OPTIMISED].edges
    }
    return {
        channel: [", ".join(f"{edge:.4g}" for edge in edges or ()) for edges in own]
        for channel, own in found.items()
        if len(set(own)) > 1
    }


def _cautions(evaluation: Evaluation, *, most: int = 30) -> list[str]:
    """Return cautions at the optimised parameters on the last fold, at most so many of each kind."""
    return cautions.summary(_final(evaluation).cautions, most)


def _pruning(
    records: Sequence[EpochRecord], evaluation: Evaluation, *, is_folded: bool, most: int = 500
) -> dict[str, object]:
    """Return the pruned parts of the final model, and how many of them are not those of the optimisation."""
    final, first = _final(evaluation).pruned, records[0].pruned if records and not is_folded else None
    if final is None:
        return {"pruned": (), "pruned_at_start": None, "kept_since": 0, "pruned_since": 0}
    before, now = (
        {(part.systematic, part.sample, part.channel, part.part) for part in parts}
        for parts in (first or (), final.parts)
    )
    return {
        "pruned": sorted(final.parts, key=lambda part: -part.size)[:most],
        "pruned_at_start": first,
        "kept_since": len(before - now),
        "pruned_since": len(now - before),
    }


HOW_FOUND: dict[Method, str] = {
    "minos": "MINOS",
    "profile": "profile fits of pyhf (MINOS found no end)",
    "bound": "none, a bin would expect less than no events beyond",
}


def _interval(evaluation: Evaluation) -> _Interval | None:
    """Return the POI's interval by pyhf at the optimised parameters, on the last fold."""
    fit = _final_fit(evaluation)
    if fit is None or fit.interval is None or fit.interval_method is None:
        return None
    return _Interval(*fit.interval, {side: HOW_FOUND[method] for side, method in fit.interval_method.items()})


def _sample_rows(config: Config, provenances: Sequence[Provenance]) -> list[_Sample]:
    rows = []
    for name in datasets.sample_names(config):
        files = [p for p in provenances if p.sample == name]
        read = sum(sum(file.entries_read.values()) for file in files)
        promised = sum(file.entries_promised or 0 for file in files)
        rows.append(
            _Sample(
                name,
                files=len({file.file for file in files}),
                read=read,
                kept=sum(sum(file.entries_kept.values()) for file in files),
                lost=max(promised - read, 0),
                cross_section_pb=config.data.samples[name.partition("__")[0]].cross_section_pb,
                sum_of_weights=sum(sum(file.sum_of_weights.values()) for file in files),
                normalised_by=normalisation.normalised_by(config, name, files),
            )
        )
    return rows
