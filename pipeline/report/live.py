"""A figure of a run that grows with its epochs, for a notebook."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.data.progress import checks
from pipeline.data.record import EpochRecord
from pipeline.report.figures import AFTER, STYLE, panels_of


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
        figure = self.figure()
        if self._handle is None:
            self._handle = self._display(figure, display_id=True)
        else:
            self._handle.update(figure)

    def figure(self) -> Figure:
        """Return the figure of the epochs so far."""
        names = list(self.records[-1].parameters)
        with mpl.rc_context(STYLE):
            figure, panels = panels_of(1 + len(names))
            self._draw(panels[0], f"objective, {self.records[-1].values}", lambda record: record.objective)
            checked = {moment.of_run: check.objective for moment, check in checks(self.records).items()}
            if checked:
                panels[0].plot([*checked], [*checked.values()], "o", color="#E69F00", label="exact, checked")
                panels[0].legend()
            for axes, name in zip(panels[1:], names, strict=True):
                self._draw(axes, name, functools.partial(_parameter, name))
        return figure

    def _draw(self, axes: Axes, label: str, value: Callable[[EpochRecord], float]) -> None:
        """Draw a number over the epochs, a line for each start."""
        for _, own in itertools.groupby(self.records, key=lambda record: record.start):
            records = list(own)
            axes.plot([r.epoch for r in records], [value(r) for r in records], color=AFTER, marker=".")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)


def _parameter(name: str, record: EpochRecord) -> float:
    return record.parameters[name]
