"""The record of an epoch: what the report shows of it."""

from typing import Literal

from pipeline.data.written import Written


class SweepSeconds(Written):
    """Seconds of the forward sweep, of the centre and of the pullback."""

    forward: float
    centre: float
    pullback: float


class Counts(Written):
    """Calls of a stage without a derivative, the events that they gave, and the calls that were learnt from."""

    calls: int
    draws: int
    learnt_from: int


class Leading(Written):
    """Systematics that are observed after an epoch, the most important first, of how many, and their share."""

    names: tuple[str, ...]
    of: int
    share: float


class Check(Written):
    """The objective with exact cuts on training events, and what is minimised there, penalties included."""

    objective: float
    minimised: float


class PrunedPart(Written):
    """A part of a systematic that is left out of a sample in a channel.

    ``size`` is its largest relative change at plus or minus one standard deviation, of the yield or of a bin.
    """

    systematic: str
    sample: str
    channel: str
    part: Literal["normalisation", "shape"]
    size: float
    threshold: float


class EpochRecord(Written):
    """An epoch: the objective and its gradient at the parameters before the update; arrays are in the norm only.

    ``check`` is of the same parameters, ``last_check`` of those after the update, at the end of a start. ``epoch``
    counts through all starts of the run, ``begun`` is that at which its own began. ``to_first_order`` is what the
    update changes of what is minimised, were it linear: the gradient times the step. ``pruned``, at the first epoch
    alone, is what all leave out.
    """

    epoch: int
    objective: float
    gradient_norm: float
    parameters: dict[str, float]
    gradient: dict[str, float]
    sweeps: SweepSeconds
    events: int
    seconds: float
    events_per_second: float
    surrogate: Counts | None = None
    halvings: int = 0
    leading: Leading | None = None
    values: Literal["relaxed", "exact"] = "relaxed"  # what the objective is of
    check: Check | None = None
    last_check: Check | None = None
    start: int = 0
    begun: int = 0
    to_first_order: float = 0.0
    pruned: tuple[PrunedPart, ...] = ()
