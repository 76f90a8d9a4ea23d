"""A page that follows a run: objective and parameters by epoch, drawn anew when there are new epochs.

It has no script and asks for nothing but itself: the browser loads it again, which works from a file too.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import matplotlib as mpl

from pipeline.analysis import Free, analysis_of
from pipeline.config import Config
from pipeline.data import datasets
from pipeline.data.fingerprint import fingerprint_of, of_optimisation
from pipeline.data.names import fold_name
from pipeline.data.record import EpochRecord
from pipeline.data.run_files import column_files, folder_of, records_of_all
from pipeline.data.store import Folder, write_text
from pipeline.errors import InputError
from pipeline.gradient.loss import Described, described
from pipeline.optimise.checkpoints import Checkpoints
from pipeline.report.drawn import Cell, Drawn, image
from pipeline.report.figures import STYLE, with_unit
from pipeline.report.live import over_epochs

LEISURE = 10.0  # times what drawing took, at least, between two looks: the run needs the machine


class Followed(NamedTuple):
    """What is there of a run: the records of each optimisation so far, and whether all have ended.

    ``others`` says that instead there are records of another configuration in its folder.
    """

    records: list[list[EpochRecord]]
    ended: bool
    others: bool = False


def page_of(config: Config) -> Path:
    """Return where the page is: beside what the run writes."""
    return Folder(config.run).root / "watch.html"


def follow(config: Config, every: int, *, told: Callable[[Followed], None] = lambda seen: None) -> None:
    """Keep the page up to date until the run has ended; then, and when interrupted, it says that it is not any more.

    Args:
        every: seconds between two looks at the run.
        told: called with what is new on the page.
    """
    seen = None
    try:
        while seen is None or not seen.ended:
            began = time.monotonic()
            found = look(config)
            if found != seen:
                seen = found
                write(config, seen, every=None if seen.ended else every)
                told(seen)
            if not seen.ended:
                time.sleep(max(every, LEISURE * (time.monotonic() - began)))
    finally:
        if seen is not None and not seen.ended:
            write(config, seen, every=None)


def look(config: Config) -> Followed:
    """Return the records of this very run, none before its columns are there."""
    folds = datasets.optimisations(config)
    try:
        fingerprint = fingerprint_of(config, column_files(config))
    except InputError:
        others = [Checkpoints(folder_of(config, fold).checkpoints, "").are_of_another_run() for fold in folds]
        return Followed([[] for _ in folds], ended=False, others=any(others))
    try:
        return Followed(records_of_all(config, fingerprint), ended=True)
    except InputError:
        saved = [
            Checkpoints(folder_of(config, fold).checkpoints, of_optimisation(fingerprint, fold))
            for fold in folds
        ]
        replaced = any(checkpoints.are_of_another_run() for checkpoints in saved)
        return Followed([checkpoints.so_far() for checkpoints in saved], ended=False, others=replaced)


def write(config: Config, seen: Followed, *, every: int | None) -> None:
    """Write the page.

    Args:
        every: seconds after which the browser loads it again; None: it stays as it is.
    """
    free, objective = analysis_of(config).parameters, described(config)
    names = ["" if fold is None else fold_name(fold) for fold in datasets.optimisations(config)]
    with mpl.rc_context(STYLE):
        optimisations = [
            (name, own, image(drawn(own, objective, free)) if own else None)
            for name, own in zip(names, seen.records, strict=True)
        ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("watch.html.j2").render(
        config=config, every=every, seen=seen, optimisations=optimisations, label=objective.label
    )
    write_text(page_of(config), page)


def drawn(records: Sequence[EpochRecord], objective: Described, free: Mapping[str, Free]) -> Drawn:
    """Draw the objective, with its checks, and every scalar parameter over the epochs so far."""
    names = [*records[0].parameters]
    figure = over_epochs(records, with_unit(objective.label, objective.unit), free)
    rows: list[tuple[Cell, ...]] = [
        (record.epoch, record.objective, *(record.parameters[name] for name in names)) for record in records
    ]
    last = records[-1]
    now = ", ".join(f"{name} {last.parameters[name]:.4g}" for name in names)
    alt = (
        f"Lines over {len(records)} epochs: {objective.label} from {records[0].objective:.4g} to {last.objective:.4g}; "
        f"parameters now: {now or 'none that is a number'}."
    )
    return Drawn(figure, ("epoch", "objective", *names), rows, alt)
