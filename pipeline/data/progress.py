"""What the records of a run say of its starts: what was checked, which epoch is kept, how far each start came."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pipeline.config import Optimise
from pipeline.data.record import Check, EpochRecord
from pipeline.data.written import Written

EndOfStart = Literal["all_epochs", "patience", "no_objective"]


class Moment(NamedTuple):
    """A point of a run: after so many updates of a start, and the epoch of the run at which that start began."""

    start: int
    epoch: int
    begun: int

    @property
    def of_run(self) -> int:
        """The epoch in the numbering that goes through all starts."""
        return self.begun + self.epoch


class Reached(Written):
    """What a start reached: the objective with exact cuts on training events, at its own start and at its best.

    ``kept_epoch`` is the epoch of the best, counted within the start.
    """

    epochs: int
    ended: EndOfStart
    initial: float | None
    best: float | None
    kept_epoch: int


def checks(records: Sequence[EpochRecord]) -> dict[Moment, Check]:
    """Return the checks of a run, each of the parameters before its epoch's update or after the last of a start."""
    found = {}
    for record in records:
        here = Moment(record.start, record.epoch - record.begun, record.begun)
        if record.check is not None:
            found[here] = record.check
        if record.last_check is not None:
            found[here._replace(epoch=here.epoch + 1)] = record.last_check
    return found


def kept(records: Sequence[EpochRecord]) -> Moment:
    """Return the moment whose parameters are the result: the first of the best that were checked, else the last."""
    found, last = checks(records), records[-1]
    end = Moment(last.start, last.epoch + 1 - last.begun, last.begun)
    return min(found, key=lambda moment: (found[moment].minimised, moment), default=end)


def without_better(records: Sequence[EpochRecord]) -> int:
    """Return the checks after the best of some records of one start, itself not counted."""
    values = [check.minimised for check in checks(records).values()]
    return len(values) - 1 - values.index(min(values)) if values else 0


def is_patient(settings: Optimise, checks_without_better: int) -> bool:
    """Return whether a start goes on after so many checks that were not better."""
    return settings.patience is None or checks_without_better < settings.patience


def reached(settings: Optimise, records: Sequence[EpochRecord]) -> tuple[Reached, ...]:
    """Return what each start reached; the first alone where it has no exact objective, as no other was run then."""
    starts = range(settings.starts if checks(records) else 1)
    return tuple(_reached(settings, [record for record in records if record.start == n]) for n in starts)


def is_whole(settings: Optimise, records: Sequence[EpochRecord], end: int) -> bool:
    """Return whether records are those of a whole run that ended before an epoch.

    A start without an objective ends, and the next one begins; the first one then ends the run with an error.
    """
    if not records or [record.epoch for record in records] != list(range(end)):
        return False
    return reached(settings, records)[0].ended != "no_objective"


def _reached(settings: Optimise, records: Sequence[EpochRecord]) -> Reached:
    ended: EndOfStart = "no_objective"
    if len(records) == settings.epochs:
        ended = "all_epochs"
    elif not is_patient(settings, without_better(records)):
        ended = "patience"
    found = checks(records)
    first = records[0].check if records else None
    best = kept(records) if found else None
    return Reached(
        epochs=len(records),
        ended=ended,
        initial=None if first is None else first.objective,
        best=None if best is None else found[best].objective,
        kept_epoch=len(records) if best is None else best.epoch,
    )
