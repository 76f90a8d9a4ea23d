"""Tables of a fit, a test and a limit for a terminal."""

import io
import math
from collections.abc import Iterable, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.evaluate.workspaces.results import OfWorkspace, WorkspaceFit, WorkspaceLimit, WorkspaceTest

WIDTH = 118  # columns, whatever the terminal: the text may go into a file
MOST_CORRELATIONS = 10
LEAST_CORRELATION = 0.1
BANDS = (
    "expected -2 sigma",
    "expected -1 sigma",
    "expected median",
    "expected +1 sigma",
    "expected +2 sigma",
)


def fit_table(found: WorkspaceFit) -> str:
    """Return minimum, parameters and the largest correlations of a fit."""
    columns = ["parameter", "value", "uncertainty", "start", "bounds", "held"]
    other = found.answer
    if other is not None:
        columns[3:3] = ["pyhf", "its uncertainty"]
    rows = []
    for own in found.parameters:
        low, high = own.bounds
        row = [
            own.name,
            _number(own.value),
            _number(own.uncertainty) if own.uncertainty else "",
            _number(own.start),
        ]
        if other is not None:
            row[3:3] = [_number(other.values[own.name]), _number(other.uncertainties[own.name])]
        rows.append([*row, f"[{low:g}, {high:g}]", own.held])
    data = "Asimov data" if found.is_asimov else "observed data"
    lines = [
        f"fit to {data}: {found.status}, {found.steps} steps, -2 ln L = {found.twice_nll:.10g}, EDM {found.edm:.2g}",
        _table(columns, rows),
        *_correlations(found),
        *_below_zero(found),
        *_seconds(found),
    ]
    if other is not None and other.twice_nll is not None:
        lines.append(f"-2 ln L of ours less that of pyhf: {found.twice_nll - other.twice_nll:.3g}")
    return "\n".join(lines)


def test_table(found: WorkspaceTest) -> str:
    """Return observed and expected CLs of a test."""
    labels = ("CLs", "CLs+b", "CLb", *(f"CLs, {band}" for band in BANDS))
    data = "Asimov data" if found.is_asimov else "observed data"
    return _of_numbers(f"test of {found.poi} = {found.mu:g} on {data}", labels, found)


def limit_table(found: WorkspaceLimit) -> str:
    """Return observed and expected upper limits."""
    labels = ("Asimov data" if found.is_asimov else "observed", *BANDS)
    return _of_numbers(f"upper limit on {found.poi} at CLs = {found.level:g}", labels, found)


def _of_numbers(title: str, labels: Sequence[str], found: WorkspaceTest | WorkspaceLimit) -> str:
    other = found.answer
    rows = [
        [label, _number(value), *([] if other is None else [_number(other.numbers[name])])]
        for label, (name, value) in zip(labels, found.numbers.items(), strict=True)
    ]
    columns = ["", "value", *([] if other is None else ["pyhf"])]
    return "\n".join([title, _table(columns, rows), *_seconds(found)])


def _below_zero(found: WorkspaceFit) -> list[str]:
    bins = ", ".join(map(str, found.bins_below_zero))
    return (
        [f"fewer than no events are expected in bins {bins}: such a minimum has no meaning"] if bins else []
    )


def _correlations(found: WorkspaceFit) -> list[str]:
    """Return the largest correlations, one line."""
    matrix = np.asarray(found.correlation).reshape((len(found.correlated),) * 2)
    rows, columns = np.triu_indices(len(found.correlated), 1)
    order = np.argsort(-np.abs(matrix[rows, columns]), kind="stable")[:MOST_CORRELATIONS]
    pairs = [
        f"{found.correlated[rows[k]]}, {found.correlated[columns[k]]}: {matrix[rows[k], columns[k]]:+.2f}"
        for k in order
        if abs(matrix[rows[k], columns[k]]) >= LEAST_CORRELATION
    ]
    return ["largest correlations: " + "; ".join(pairs)] if pairs else []


def _seconds(found: OfWorkspace) -> Iterable[str]:
    yield f"{found.seconds:.3g} s, and {found.seconds_compiling:.3g} s of compiling before"
    if other := found.pyhf:
        yield f"pyhf with Minuit: {other.seconds:.3g} s" + (f"; {other.error}" if other.error else "")


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else "none"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, column in enumerate(columns):
        numeric = 0 < place < len(columns) - 2 or (place and not columns[0])
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, markup=False, highlight=False)
    console.print(made)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())
