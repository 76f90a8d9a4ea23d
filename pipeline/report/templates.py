"""Figures of templates with hard cuts: stacked samples before and after, and what the leading variations change."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from pipeline.config import Config, NormPlusShapeSystematic
from pipeline.data.datasets import NOMINAL
from pipeline.data.names import INITIAL, OPTIMISED, POINTS, Fold
from pipeline.evaluate.evaluation import Evaluation, YieldTables
from pipeline.evaluate.yields.selected import scale
from pipeline.fit.impacts import Impact
from pipeline.report.drawn import Cell, Drawn
from pipeline.report.figures import AFTER, COLOURS, panels_of, settable
from pipeline.templates.axes import affecting
from pipeline.templates.varied import Bins

COUNTED = (0.0, 1.0)  # edges of a channel that only counts
HATCHES = ("", "..", r"\\", "xx", "--", "oo", "||", "++")  # of samples, beside their colours
LEADING = 6  # systematics whose variations are drawn: three rows of two
NEAREST, FARTHEST = 0.02, 1.5  # of a ratio from 1: what an axis shows at least, and at most
DOWN = "#B34700"


class _Heights(NamedTuple):
    """How contents of bins are drawn: per unit of the axis where bins are not of equal width, else as they are."""

    edges: tuple[float, ...]
    widths: Bins

    def of(self, contents: Bins) -> Bins:
        return np.asarray(contents / self.widths)


def templates(config: Config, channel: str, evaluation: Evaluation, fold: Fold) -> Drawn:
    """Draw stacked templates with exact cuts, before and after, with the total uncertainty before the fit.

    Where bins are not of equal width they are events per unit of the axis.
    """
    figure, panels = panels_of(2, sharey=True)
    settings = config.channels[channel]
    edges_of = {point: evaluation.points[point].edges[channel] or COUNTED for point in POINTS}
    by_unit = any(_is_uneven(edges) for edges in edges_of.values())
    rows: list[tuple[Cell, ...]] = []
    said = []
    for axes, point in zip(panels, POINTS, strict=True):
        edges, row = edges_of[point], evaluation.at(point, fold)
        contents = {name: _contents(config, channel, name, row.templates) for name in config.data.samples}
        before_fit = None if row.fit is None else np.array(row.fit.prefit_stdev[channel])
        _stack(config, axes, _heights(edges, by_unit), [own for own, _ in contents.values()], before_fit)
        rows += [(point, *own) for own in _numbers(edges, contents, before_fit)]
        total = sum(own.sum() for own, _ in contents.values())
        parts = ", ".join(f"{name} {own.sum():.4g}" for name, (own, _) in contents.items())
        said.append(f"{point}: {total:.4g} events ({parts})")
        axes.set_title(settable(f"{channel}, {point}, {fold.replace('_', '-')} events"), fontsize=11)
        axes.set_xlabel(settable(settings.label))
        if settings.edges is None:
            axes.set_xticks([])
    panels[0].set_ylabel(_per_bin(edges_of[INITIAL], settings.label, by_unit))
    panels[0].set_ylim(top=1.4 * panels[0].get_ylim()[1])
    panels[0].legend(ncols=2, reverse=True)
    columns = (
        "parameters",
        "sample",
        "bin",
        "low",
        "high",
        "events",
        "statistical_error",
        "uncertainty_before_fit",
    )
    alt = f"Stacked histograms of channel {channel} in {len(edges_of[INITIAL]) - 1} bins. {'; '.join(said)}."
    return Drawn(figure, columns, rows, alt, _note(by_unit, overflow=settings.overflow))


def variations(
    config: Config, channel: str, evaluation: Evaluation, fold: Fold, impacts: Sequence[Impact]
) -> Drawn | None:
    """Draw the ratio of varied and nominal templates at the optimised parameters, of the leading systematics.

    All samples of a systematic are added up, as the events give them, before smoothing and symmetrising. Band: the
    statistical error of the nominal template; bars: that of the change, by the bootstrap, where it has enough samples.
    """
    systematics = _leading(config, impacts, channel)
    if not systematics:
        return None
    tables = evaluation.at(OPTIMISED, fold).templates
    edges = evaluation.points[OPTIMISED].edges[channel] or COUNTED
    figure, panels = panels_of(len(systematics))
    rows: list[tuple[Cell, ...]] = []
    said = []
    for axes, systematic in zip(panels, systematics, strict=True):
        samples = [
            name for name in config.data.samples if systematic in affecting(config.model, name, channel)
        ]
        nominal, variance = _summed(tables, channel, samples, NOMINAL), _variance(tables, channel, samples)
        with np.errstate(divide="ignore", invalid="ignore"):
            band = np.where(nominal > 0, np.sqrt(variance) / nominal, np.nan)
        _band(axes, edges, 1 - band, 1 + band, "statistics of the nominal", "0.85")
        farthest = 0.0
        for name, style in zip((systematic.up, systematic.down), ("up", "down"), strict=True):
            if name is None:
                continue
            varied = _summed(tables, channel, samples, name)
            error = _error(evaluation, systematic.name, name, channel)
            ratio, bars = _ratio(varied, nominal), None if error is None else _ratio(error, nominal)
            _line(axes, edges, ratio, bars, style, name)
            finite = ratio[np.isfinite(ratio)]
            farthest = max(farthest, *np.abs(finite - 1), 0.0)
            if len(finite):
                said.append(f"{name} {finite.min():.3g} to {finite.max():.3g}")
            rows += _varied_numbers(systematic.name, name, edges, nominal, varied, (np.sqrt(variance), error))
        axes.axhline(1, color="black", linewidth=0.8)
        shown = 1.3 * min(max(farthest, NEAREST), FARTHEST)
        axes.set_ylim(1 - shown, 1 + 1.7 * shown)  # with room for the legend
        axes.set_title(settable(systematic.name), fontsize=11)
        axes.set_xlabel(settable(config.channels[channel].label))
        axes.set_ylabel("varied / nominal")
        axes.legend(loc="upper left", ncols=2, frameon=True, edgecolor="none", framealpha=0.85)
        if config.channels[channel].edges is None:
            axes.set_xticks([])
    columns = (
        "systematic",
        "variation",
        "bin",
        "low",
        "high",
        "nominal",
        "varied",
        "statistical_error",
        "error_of_change",
    )
    alt = f"Ratio of varied and nominal templates over the bins of channel {channel}: {'; '.join(said)}."
    return Drawn(figure, columns, rows, alt)


def _leading(config: Config, impacts: Sequence[Impact], channel: str) -> list[NormPlusShapeSystematic]:
    """Return the systematics with templates in a channel of largest impact, the largest first."""
    shaped = {
        own.name: own
        for own in config.model.systematics
        if isinstance(own, NormPlusShapeSystematic) and own.acts_in(channel)
    }
    return [shaped[impact.label] for impact in impacts if impact.label in shaped][:LEADING]


def _contents(config: Config, channel: str, sample: str, tables: YieldTables) -> tuple[Bins, Bins]:
    """Return yields and statistical errors of a sample, its norm factors at their nominal values."""
    factor = scale(config, sample, channel)
    yields, sumw2 = tables.yields[channel][sample][NOMINAL], tables.sumw2[channel][sample]
    return factor * np.array(yields), abs(factor) * np.sqrt(np.array(sumw2))


def _numbers(
    edges: Sequence[float], contents: dict[str, tuple[Bins, Bins]], before_fit: Bins | None
) -> list[tuple[Cell, ...]]:
    """Return a row for each bin of each sample and of all together."""
    total = np.sum([own for own, _ in contents.values()], axis=0)
    error = np.sqrt(np.sum([own**2 for _, own in contents.values()], axis=0))
    return [
        (
            name,
            number,
            low,
            high,
            float(events[number]),
            float(errors[number]),
            None if last is None else float(last[number]),
        )
        for name, (events, errors), last in (
            *((name, own, None) for name, own in contents.items()),
            ("total", (total, error), before_fit),
        )
        for number, (low, high) in enumerate(itertools.pairwise(edges))
    ]


def _varied_numbers(
    systematic: str,
    name: str,
    edges: Sequence[float],
    nominal: Bins,
    varied: Bins,
    errors: tuple[Bins, Bins | None],
) -> list[tuple[Cell, ...]]:
    statistical, of_change = errors
    return [
        (
            *(systematic, name, number, low, high, float(nominal[number]), float(varied[number])),
            *(float(statistical[number]), None if of_change is None else float(of_change[number])),
        )
        for number, (low, high) in enumerate(itertools.pairwise(edges))
    ]


def _summed(tables: YieldTables, channel: str, samples: Sequence[str], variation: str) -> Bins:
    """Return a variation of some samples together; one may be a sample of its own in the manifest."""
    found = tables.yields[channel]
    own = (
        found[f"{name}__{variation}"][NOMINAL] if f"{name}__{variation}" in found else found[name][variation]
        for name in samples
    )
    return np.asarray(np.sum([np.array(bins) for bins in own], axis=0))


def _variance(tables: YieldTables, channel: str, samples: Sequence[str]) -> Bins:
    return np.asarray(np.sum([np.array(tables.sumw2[channel][name]) for name in samples], axis=0))


def _error(evaluation: Evaluation, systematic: str, variation: str, channel: str) -> Bins | None:
    """Return the statistical error of what a variation changes, where the bootstrap knows it."""
    known = evaluation.bootstrap.variations if evaluation.bootstrap else ()
    found = (
        own.error
        for own in known
        if (own.systematic, own.variation, own.channel) == (systematic, variation, channel)
    )
    error = next(found, None)
    return None if error is None else np.array(error)


def _ratio(one: Bins, other: Bins) -> Bins:
    """Return a ratio, not a number where there is nothing to compare with."""
    return np.where(other > 0, one / np.where(other > 0, other, 1.0), np.nan)


def _stack(
    config: Config, axes: Axes, heights: _Heights, contents: Sequence[Bins], before_fit: Bins | None
) -> None:
    """Draw the samples one on another, and the band of the total uncertainty."""
    base = np.zeros(len(heights.edges) - 1)
    for number, ((name, sample), own) in enumerate(zip(config.data.samples.items(), contents, strict=True)):
        axes.stairs(
            heights.of(base + own), heights.edges, baseline=heights.of(base), fill=True, linewidth=0.6,
            facecolor=COLOURS[number % len(COLOURS)], hatch=HATCHES[number % len(HATCHES)], edgecolor="#555555",
            label=settable(sample.label or name),
        )  # fmt: skip
        base = base + own
    axes.set_xlim(heights.edges[0], heights.edges[-1])
    axes.set_ylim(bottom=min(0.0, float(heights.of(base).min())))
    if before_fit is not None:
        ends = (heights.of(base - before_fit), heights.of(base + before_fit))
        _band(axes, heights.edges, *ends, "uncertainty before the fit", "none", hatch="///////")


def _band(
    axes: Axes,
    edges: Sequence[float],
    low: Bins,
    high: Bins,
    label: str,
    colour: str,
    hatch: str | None = None,
) -> None:
    lower, upper = (np.append(end, end[-1]) for end in (low, high))
    axes.fill_between(
        edges,
        lower,
        upper,
        step="post",
        facecolor=colour,
        edgecolor="black",
        hatch=hatch,
        linewidth=0,
        label=label,
    )


def _line(axes: Axes, edges: Sequence[float], ratio: Bins, bars: Bins | None, style: str, name: str) -> None:
    """Draw a ratio: a line over the bins, and a triangle in each, with the error of the change where it is known."""
    marker, line, colour = {"up": ("^", "-", AFTER), "down": ("v", "--", DOWN)}[style]
    axes.stairs(ratio, edges, baseline=None, color=colour, linestyle=line)
    centres = (np.array(edges[1:]) + np.array(edges[:-1])) / 2
    axes.errorbar(
        centres, ratio, yerr=bars, fmt=marker, color=colour, markersize=5, label=settable(f"{style}: {name}")
    )


def _heights(edges: Sequence[float], by_unit: bool) -> _Heights:
    return _Heights(tuple(edges), np.diff(edges) if by_unit else np.ones(len(edges) - 1))


def _is_uneven(edges: Sequence[float]) -> bool:
    widths = np.diff(edges)
    return not np.allclose(widths, widths[0])


def _per_bin(edges: Sequence[float], label: str, by_unit: bool) -> str:
    unit = label.rpartition("[")[2].rstrip("] ") if "[" in label else ""
    if by_unit:
        return settable(f"events / {unit}") if unit else "events per unit of the axis"
    return settable(f"events / {edges[1] - edges[0]:g} {unit}") if unit else "events per bin"


def _note(by_unit: bool, *, overflow: bool) -> str:
    notes = ["The bins are not of equal width: contents are divided by it."] if by_unit else []
    return " ".join([*notes, *(["The outermost bins hold what lies outside too."] if overflow else [])])
