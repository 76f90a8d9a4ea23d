"""Objective and parameters over the epochs of a run that goes on: the figure, and one that grows in a notebook."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.analysis import Free
from pipeline.data.progress import checks
from pipeline.data.record import EpochRecord
from pipeline.report.figures import AFTER, BEFORE, CHECKED, STYLE, panels_of, with_unit


class LivePlot:
    """Draws objective and free parameters over the epochs: ``run.optimise(callback=LivePlot(display))``.

    Args:
        display: IPython's function of that name; or any that shows a figure, called with ``display_id=True`` and
            returning what has a method ``update``.
    """

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._handle: Any = None
        self.records: list[EpochRecord] = []

    def __call__(self, record: EpochRecord) -> None:
        """Draw one more epoch."""
        self.records.append(record)
        with mpl.rc_context(STYLE):
            figure = over_epochs(self.records, "objective", {})
        if self._handle is None:
            self._handle = self._display(figure, display_id=True)
        else:
            self._handle.update(figure)


def over_epochs(records: Sequence[EpochRecord], objective: str, free: Mapping[str, Free]) -> Figure:
    """Return the objective, with its checks, and every scalar parameter by epoch, a line for each start.

    Args:
        objective: its label.
        free: what is known of parameters: their units and bounds.
    """
    starts = [list(own) for _, own in itertools.groupby(records, key=lambda record: record.start)]
    names = [*records[0].parameters]
    figure, (first, *panels) = panels_of(1 + len(names))
    _draw(first, starts)
    first.lines[0].set_label(f"{records[0].values}, training")
    found = {moment.of_run: check.objective for moment, check in checks(records).items()}
    if found:
        first.plot([*found], [*found.values()], "x", color=CHECKED, label="exact, training, checked")
    first.set_ylabel(objective)
    first.legend()
    for axes, name in zip(panels, names, strict=True):
        _draw(axes, starts, name)
        axes.set_ylabel(with_unit(name, free[name].unit if name in free else ""))
        for bound in free[name].bounds if name in free else ():
            axes.axhline(bound, color=BEFORE, linestyle="--", linewidth=1)
    return figure


def _draw(axes: Axes, starts: Sequence[Sequence[EpochRecord]], name: str | None = None) -> None:
    """Draw a parameter over the epochs; without a name the objective."""
    for records in starts:
        values = [r.objective if name is None else r.parameters[name] for r in records]
        axes.plot([r.epoch for r in records], values, ".-", color=AFTER)
    axes.set_xlabel("epoch")
