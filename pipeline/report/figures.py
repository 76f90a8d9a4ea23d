"""The report's figures, one function each: data in, a matplotlib figure out."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser

from pipeline.analysis import Free
from pipeline.config import Config
from pipeline.data.datasets import NOMINAL
from pipeline.data.names import INITIAL, OPTIMISED, POINTS, POLISHED, TRAIN, Fold, Point
from pipeline.data.progress import checks, kept
from pipeline.data.record import EpochRecord
from pipeline.evaluate.evaluation import Evaluation
from pipeline.fit.impacts import Impact

# Okabe and Ito's palette, distinguishable with every kind of colour vision.
COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#999999")
BEFORE, AFTER = "#999999", "#0072B2"
THIN = 0.6  # points
COLOUR_OF: Mapping[Point, str] = {INITIAL: BEFORE, OPTIMISED: "#D55E00", POLISHED: "#009E73"}
STYLE = {
    **{key: value for key, value in mplhep.style.ATLAS.items() if key in mpl.rcParams and "font" not in key},
    "font.size": 11.0,
    "axes.labelsize": 12.0,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "figure.dpi": 100.0,
    "svg.hashsalt": "thalweg",  # the same figure for the same data, byte for byte
}


def objective(
    records: Sequence[EpochRecord], *others: Sequence[EpochRecord], evaluation: Evaluation
) -> Figure:
    """Draw the objective over the epochs, its checks, and the values of exact cuts before and after on every fold.

    Args:
        others: the records of further optimisations, outside of other folds, as thin lines.
    """
    figure, (axes,) = panels_of(1)
    checked = checks(records)
    axes.plot(
        [r.epoch for r in records],
        [r.objective for r in records],
        color=AFTER,
        label=f"{records[0].values}, training",
    )
    for own in others:
        axes.plot([r.epoch for r in own], [r.objective for r in own], color=AFTER, linewidth=THIN)
    if checked:
        values = [found.objective for found in checked.values()]
        places = [moment.of_run for moment in checked]
        axes.plot(places, values, ".", color="#E69F00", label="exact, training, checked")
    last = len(records) if others else kept(records).of_run
    for row in evaluation.rows:
        fill = "full" if row.fold == TRAIN else "none"
        colour = COLOUR_OF[row.point]
        x = 0 if row.point == INITIAL else last
        label = f"exact, {row.point}, {row.fold.replace('_', '-')}"
        exact = math.nan if row.exact is None else row.exact
        axes.plot([x], [exact], "o", color=colour, fillstyle=fill, label=label, clip_on=False)
    axes.set_xlabel("epoch")
    axes.set_ylabel(with_unit(evaluation.objective.label, evaluation.objective.unit))
    axes.legend()
    return figure


def parameters(
    records: Sequence[EpochRecord],
    *others: Sequence[EpochRecord],
    evaluation: Evaluation,
    free: Mapping[str, Free],
) -> Figure:
    """Draw every free parameter over the epochs, a point at the result, lines at the ends of its allowed range.

    Args:
        others: the records of further optimisations, outside of other folds, as thin lines.
    """
    names = list(records[0].parameters)
    figure, panels = panels_of(len(names))
    epochs, last = [r.epoch for r in records], len(records) if others else kept(records).of_run
    for axes, name in zip(panels, names, strict=True):
        axes.plot(epochs, [r.parameters[name] for r in records], color=AFTER)
        for own in others:
            axes.plot([r.epoch for r in own], [r.parameters[name] for r in own], color=AFTER, linewidth=THIN)
        axes.plot([last], [evaluation.points[OPTIMISED].parameters[name]], "o", color="#D55E00")
        if name in free:
            for bound in free[name].bounds:
                axes.axhline(bound, color=BEFORE, linestyle="--", linewidth=1)
        axes.set_xlabel("epoch")
        axes.set_ylabel(with_unit(name, free[name].unit if name in free else ""))
        axes.margins(y=0.08)
    return figure


def templates(config: Config, channel: str, evaluation: Evaluation, fold: Fold) -> Figure:
    """Draw stacked templates with exact cuts, before and after, with the total uncertainty before the fit."""
    figure, panels = panels_of(2, sharey=True)
    edges_of = {point: found.edges[channel] or (0.0, 1.0) for point, found in evaluation.points.items()}
    for axes, point in zip(panels, POINTS, strict=True):
        edges = edges_of[point]
        row = evaluation.at(point, fold)
        stacks = [
            _scale(config, sample) * np.array(row.templates.yields[channel][sample][NOMINAL])
            for sample in config.data.samples
        ]
        labels = [settable(sample.label or name) for name, sample in config.data.samples.items()]
        mplhep.histplot(
            stacks, edges, stack=True, histtype="fill", label=labels, color=COLOURS[: len(stacks)], ax=axes
        )
        if row.fit is not None:
            _band(axes, edges, np.sum(stacks, axis=0), np.array(row.fit.prefit_stdev[channel]))
        axes.set_title(settable(f"{channel}, {point}, {fold.replace('_', '-')} events"), fontsize=11)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(settable(config.channels[channel].label))
        if config.channels[channel].edges is None:
            axes.set_xticks([])
    panels[0].set_ylabel(_per_bin(edges_of[INITIAL], config.channels[channel].label))
    panels[0].set_ylim(top=1.35 * panels[0].get_ylim()[1])
    panels[0].legend(ncols=2)
    return figure


def pulls(evaluation: Evaluation, fold: Fold) -> Figure:
    """Draw nuisance parameters after the fit, before and after the optimisation (Asimov data: all centred)."""
    fits = {point: evaluation.at(point, fold).fit for point in POINTS}
    found = {point: {i.label: i for i in fit.impacts} for point, fit in fits.items() if fit is not None}
    labels = list(found[OPTIMISED])
    figure, axes = _rows(labels)
    axes.axvspan(-2, 2, color="#FFF3B0")
    axes.axvspan(-1, 1, color="#D8F0C8")
    rows = np.arange(len(labels))[::-1]
    styles = {INITIAL: (BEFORE, 0.15), OPTIMISED: (AFTER, -0.15)}
    for point, impacts in found.items():
        colour, offset = styles[point]
        centres = [impacts[label].pull for label in labels]
        errors = [impacts[label].constraint for label in labels]
        axes.errorbar(
            centres, rows + offset, xerr=errors, fmt="o", color=colour, markersize=4, capsize=2, label=point
        )
    axes.set_xlim(-2.5, 2.5)
    axes.set_xlabel(r"$(\hat{\theta} - \theta_0) / \Delta\theta$")
    axes.legend(loc="upper right", ncols=2)
    return figure


def ranking(config: Config, impacts: Sequence[Impact]) -> Figure:
    """Shift of the parameter of interest for each nuisance parameter at +-1 sigma after the fit."""
    figure, axes = _rows([impact.label for impact in impacts])
    rows = np.arange(len(impacts))[::-1]
    up = [math.nan if impact.up is None else impact.up for impact in impacts]
    down = [math.nan if impact.down is None else impact.down for impact in impacts]
    axes.barh(rows, up, height=0.6, color=AFTER, label=r"$+1\sigma$")
    axes.barh(rows, down, height=0.6, color="#E69F00", alpha=0.8, label=r"$-1\sigma$")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.ticklabel_format(axis="x", style="plain")
    axes.set_xlabel(settable(f"shift of {config.model.poi}"))
    axes.legend(loc="upper right", ncols=2)
    return figure


def _rows(labels: Sequence[str]) -> tuple[Figure, Axes]:
    """Return one row per label, from the top, and room for a legend above."""
    figure = Figure(figsize=(7, 1.6 + 0.36 * len(labels)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(np.arange(len(labels))[::-1], [settable(label) for label in labels])
    axes.set_ylim(-0.7, len(labels) + 0.3)
    axes.tick_params(axis="y", which="both", left=False, right=False)
    return figure, axes


def panels_of(count: int, *, sharey: bool = False, most: int = 4) -> tuple[Figure, list[Axes]]:
    """Return panels of equal size, so many beside each other at most; places that are left over stay empty."""
    columns, rows = min(count, most), -(-count // most)
    figure = Figure(figsize=(4.6 * max(columns, 1.5), 3.8 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
    for empty in panels[count:]:
        empty.remove()
    return figure, panels[:count]


def _scale(config: Config, sample: str) -> float:
    """Return the normalisation factors of a sample at their nominal values, as in Asimov data."""
    factors = [factor.nominal for factor in config.model.normfactors if sample in factor.samples]
    return math.prod(factors, start=1.0)


def _band(axes: Axes, edges: Sequence[float], total: np.ndarray, stdev: np.ndarray) -> None:
    low, high = np.append(total - stdev, (total - stdev)[-1]), np.append(total + stdev, (total + stdev)[-1])
    axes.fill_between(
        edges, low, high, step="post", facecolor="none", edgecolor="black", hatch="////", linewidth=0,
        label="uncertainty before the fit",
    )  # fmt: skip


def _per_bin(edges: Sequence[float], label: str) -> str:
    widths = {round(b - a, 9) for a, b in itertools.pairwise(edges)}
    unit = label.partition("[")[2].rstrip("]")
    return settable(f"events / {widths.pop():g} {unit}") if unit and len(widths) == 1 else "events per bin"


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
