"""The estimate as a table for a terminal."""

import io
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from pipeline.cli.estimate.numbers import Estimate, ForWorkers

WIDTH = 118  # columns, whatever the terminal: the text may go into a file
ROWS: Sequence[tuple[str, Callable[[ForWorkers], float]]] = (
    ("columns that are left, s", lambda of: of.seconds.columns),
    ("compiling, once, s", lambda of: of.compiling),
    ("an epoch, s", lambda of: of.epoch.whole),
    ("  forward sweep", lambda of: of.epoch.forward),
    ("  centre", lambda of: of.epoch.centre),
    ("  pullback sweep", lambda of: of.epoch.pullback),
    ("  between them", lambda of: of.epoch.between),
    ("optimise, all epochs, s", lambda of: of.seconds.optimise),
    ("evaluate, s", lambda of: of.seconds.evaluate),
    ("all of it, s", lambda of: of.seconds.run),
    ("core hours", lambda of: of.core_hours),
    ("memory of a worker, optimise, MB", lambda of: of.memory_mb.optimise),
    ("  of which events", lambda of: of.memory_mb.optimise_events),
    ("memory of a worker, evaluate, MB", lambda of: of.memory_mb.evaluate),
    ("scratch of a worker, MB", lambda of: of.memory_mb.scratch),
    ("an epoch to each worker, kB", lambda of: of.traffic_kb.to_worker),
    ("an epoch from each worker, kB", lambda of: of.traffic_kb.from_worker),
    ("an epoch to the optimiser, kB", lambda of: of.traffic_kb.to_centre),
)


def table(found: Estimate) -> str:
    """Return all of an estimate as text."""
    events, disk = found.events, found.disk_mb
    kept = ", ".join(f"{number} {fold}" for fold, number in events.preselected.items())
    lines = [
        f"run {found.run}, executor {found.executor}, {found.epochs} epochs",
        f"{events.files} files, {events.jobs} columns jobs ({events.jobs_left} of them left), {events.entries} events",
        f"preselected: {kept}; {events.groups} groups",
        f"disk: columns {_number(disk.columns)} MB, compiled programs {_number(disk.programs)} MB, "
        f"states {_number(disk.states)} MB",
        "",
        _rows(found.by_workers),
    ]
    for title, said in (
        ("measured", found.measured),
        ("extrapolated", found.extrapolated),
        ("not known", found.unknown),
    ):
        lines += ["", f"{title}:", *(f"- {line}" for line in said)]
    return "\n".join(lines)


def _rows(found: Sequence[ForWorkers]) -> str:
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column("workers")
    for own in found:
        made.add_column(str(own.workers), justify="right")
    for name, value in ROWS:
        made.add_row(name, *(_number(value(own)) for own in found))
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, markup=False, highlight=False)
    console.print(made)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
