"""The report's figures, one function each: data in, a figure out with its numbers and what it shows in words.

Nothing is said by colour alone: points, lines and bars differ in shape, style or hatching too.
"""

import math
import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.mathtext import MathTextParser

from pipeline.analysis import Free
from pipeline.config import Config
from pipeline.data.names import INITIAL, OPTIMISED, POINTS, POLISHED, TRAIN, Fold, Point
from pipeline.data.progress import checks, kept
from pipeline.data.record import EpochRecord
from pipeline.evaluate.evaluation import Evaluation
from pipeline.fit.impacts import Impact
from pipeline.report.drawn import Cell, Drawn

# Okabe and Ito's palette, distinguishable with every kind of colour vision.
COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#999999")
BEFORE, AFTER = "#6E6E6E", "#0072B2"  # on white of a contrast above 4.5 to 1
CHECKED = "#8A5A00"
THIN = 0.6  # points
COLOUR_OF: Mapping[Point, str] = {INITIAL: BEFORE, OPTIMISED: "#C04A00", POLISHED: "#00785A"}
MARKER_OF: Mapping[Point, str] = {INITIAL: "o", OPTIMISED: "s", POLISHED: "^"}
STYLE = {
    **{key: value for key, value in mplhep.style.ATLAS.items() if key in mpl.rcParams and "font" not in key},
    "font.size": 11.0,
    "axes.labelsize": 12.0,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "figure.dpi": 100.0,
    "axes.formatter.use_mathtext": False,  # of every number on an axis: a third of the time of a page
    "hatch.linewidth": 0.8,
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "svg.hashsalt": "thalweg",  # the same figure for the same data, byte for byte
}


def objective(
    records: Sequence[EpochRecord], *others: Sequence[EpochRecord], evaluation: Evaluation
) -> Drawn:
    """Draw the objective over the epochs, its checks, and the values of exact cuts before and after on every fold.

    Args:
        others: the records of further optimisations, outside of other folds, as thin lines.
    """
    figure, (axes,) = panels_of(1)
    lines = [(records, f"{records[0].values}, training"), *((own, "") for own in others)]
    rows: list[tuple[Cell, ...]] = []
    for number, (own, label) in enumerate(lines, start=1):
        (line,) = axes.plot(
            [r.epoch for r in own], [r.objective for r in own], color=AFTER, label=label or None
        )
        if number > 1:
            line.set_linewidth(THIN)
        rows += [(f"{own[0].values}, training", number, r.epoch, r.objective) for r in own]
    found = {moment.of_run: check.objective for moment, check in checks(records).items()}
    if found:
        axes.plot([*found], [*found.values()], "x", color=CHECKED, label="exact, training, checked")
        rows += [("exact, training, checked", 1, *own) for own in found.items()]
    last = len(records) if others else kept(records).of_run
    for row in evaluation.rows:
        x, label = 0 if row.point == INITIAL else last, f"exact, {row.point}, {row.fold.replace('_', '-')}"
        exact, fill = math.nan if row.exact is None else row.exact, "full" if row.fold == TRAIN else "none"
        axes.plot(
            [x],
            [exact],
            MARKER_OF[row.point],
            color=COLOUR_OF[row.point],
            fillstyle=fill,
            label=label,
            clip_on=False,
        )
        rows.append((label, None, x, row.exact))
    axes.set_xlabel("epoch")
    axes.set_ylabel(with_unit(evaluation.objective.label, evaluation.objective.unit))
    axes.legend()
    points = "; ".join(
        f"{row.point}, {row.fold.replace('_', '-')} {_said(row.exact)}" for row in evaluation.rows
    )
    alt = (
        f"Line: {evaluation.objective.label} over {len(records)} epochs, {_said(records[0].objective)} at the first "
        f"and {_said(records[-1].objective)} at the last. Points, exact cuts: {points}."
    )
    return Drawn(figure, ("series", "optimisation", "epoch", "value"), rows, alt)


def parameters(
    records: Sequence[EpochRecord],
    *others: Sequence[EpochRecord],
    evaluation: Evaluation,
    free: Mapping[str, Free],
) -> Drawn:
    """Draw every free parameter over the epochs, a point at the result, lines at the ends of its allowed range.

    Args:
        others: the records of further optimisations, outside of other folds, as thin lines.
    """
    names = list(records[0].parameters)
    figure, panels = panels_of(len(names))
    epochs, last = [r.epoch for r in records], len(records) if others else kept(records).of_run
    result = evaluation.points[OPTIMISED].parameters
    for axes, name in zip(panels, names, strict=True):
        axes.plot(epochs, [r.parameters[name] for r in records], color=AFTER)
        for own in others:
            axes.plot([r.epoch for r in own], [r.parameters[name] for r in own], color=AFTER, linewidth=THIN)
        axes.plot([last], [result[name]], MARKER_OF[OPTIMISED], color=COLOUR_OF[OPTIMISED])
        if name in free:
            for bound in free[name].bounds:
                axes.axhline(bound, color=BEFORE, linestyle="--", linewidth=1)
        axes.set_xlabel("epoch")
        axes.set_ylabel(with_unit(name, free[name].unit if name in free else ""))
        axes.margins(y=0.08)
    rows: list[tuple[Cell, ...]] = [
        (number, record.epoch, *(record.parameters[name] for name in names))
        for number, own in enumerate((records, *others), start=1)
        for record in own
    ]
    rows.append(("result", last, *(result[name] for name in names)))
    moves = (f"{name} from {_said(records[0].parameters[name])} to {_said(result[name])}" for name in names)
    alt = f"A line for each parameter over {len(records)} epochs, a square at the result: {', '.join(moves)}."
    return Drawn(figure, ("optimisation", "epoch", *names), rows, alt)


def pulls(evaluation: Evaluation, fold: Fold) -> Drawn:
    """Draw nuisance parameters after the fit, before and after the optimisation (Asimov data: all centred)."""
    fits = {point: evaluation.at(point, fold).fit for point in POINTS}
    found = {point: {i.label: i for i in fit.impacts} for point, fit in fits.items() if fit is not None}
    labels = list(found[OPTIMISED])
    figure, axes = _rows(labels)
    axes.axvspan(-2, 2, color="#FFF3B0")
    axes.axvspan(-1, 1, color="#D8F0C8")
    places = np.arange(len(labels))[::-1]
    styles = {INITIAL: (BEFORE, 0.15, "none"), OPTIMISED: (AFTER, -0.15, "full")}
    for point, impacts in found.items():
        colour, offset, fill = styles[point]
        centres = [impacts[label].pull for label in labels]
        errors = [impacts[label].constraint for label in labels]
        axes.errorbar(
            centres, places + offset, xerr=errors, fmt=MARKER_OF[point], color=colour, fillstyle=fill,
            markersize=5, capsize=2, label=point,
        )  # fmt: skip
    axes.set_xlim(-2.5, 2.5)
    axes.set_xlabel(r"$(\hat{\theta} - \theta_0) / \Delta\theta$")
    axes.legend(loc="upper right", ncols=2)
    rows = [(p, label, i.pull, i.constraint) for p, own in found.items() for label, i in own.items()]
    width = ", ".join(f"{label} {own.constraint:.2f}" for label, own in found[OPTIMISED].items())
    alt = f"A row for each nuisance parameter: value and error after the fit. Errors, optimised parameters: {width}."
    return Drawn(figure, ("parameters", "nuisance_parameter", "pull", "constraint"), rows, alt)


def ranking(config: Config, impacts: Sequence[Impact]) -> Drawn:
    """Shift of the parameter of interest for each nuisance parameter at +-1 sigma after the fit."""
    figure, axes = _rows([impact.label for impact in impacts])
    places = np.arange(len(impacts))[::-1]
    up = [math.nan if impact.up is None else impact.up for impact in impacts]
    down = [math.nan if impact.down is None else impact.down for impact in impacts]
    axes.barh(places, up, height=0.6, color=AFTER, label=r"$+1\sigma$", edgecolor="black", linewidth=0.5)
    axes.barh(
        places,
        down,
        height=0.6,
        color="#F3C260",
        hatch="////",
        label=r"$-1\sigma$",
        edgecolor="black",
        linewidth=0.5,
    )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.ticklabel_format(axis="x", style="plain")
    axes.set_xlabel(settable(f"shift of {config.model.poi}"))
    axes.legend(loc="upper right", ncols=2)
    rows = [(impact.label, impact.up, impact.down) for impact in impacts]
    shifts = "; ".join(f"{label} {_said(u)} and {_said(d)}" for label, u, d in rows)
    alt = f"Bars: shift of {config.model.poi} by each nuisance parameter up and down, the largest first: {shifts}."
    return Drawn(figure, ("nuisance_parameter", "up", "down"), rows, alt)


def _said(number: float | None) -> str:
    return "none" if number is None else f"{number:.4g}"


def _rows(labels: Sequence[str]) -> tuple[Figure, Axes]:
    """Return one row per label, from the top, and room for a legend above."""
    figure = Figure(figsize=(8, 1.6 + 0.4 * len(labels)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(np.arange(len(labels))[::-1], [settable(label) for label in labels])
    axes.set_ylim(-0.7, len(labels) + 0.3)
    axes.tick_params(axis="y", which="both", left=False, right=False)
    return figure, axes


def panels_of(count: int, *, sharey: bool = False, most: int = 2) -> tuple[Figure, list[Axes]]:
    """Return panels of equal size, so many beside each other at most; places that are left over stay empty."""
    columns, rows = min(count, most), -(-count // most)
    figure = Figure(figsize=(5.0 * max(columns, 1.5), 3.9 * rows), layout=ConstrainedLayoutEngine(h_pad=0.1))
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
    for empty in panels[count:]:
        empty.remove()
    return figure, panels[:count]


def with_unit(name: str, unit: str) -> str:
    """Return a name with its unit, as matplotlib can draw it."""
    return settable(f"{name} [{unit}]" if unit else name)


def settable(text: str) -> str:
    """Return a text as matplotlib can draw it.

    Where its mathtext does not know what is between the dollars, the text is drawn as it is, dollars and all.
    """
    try:
        for line in text.splitlines() if "$" in text else ():
            MathTextParser("path").parse(line)
    except Exception:  # of many kinds: the parser's own, ValueError, KeyError, RuntimeError
        return re.sub(r"(?<!\\)\$", r"\\$", text)
    return text
