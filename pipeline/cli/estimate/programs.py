"""Seconds of the compiled programs, of the likelihood and of the fits, measured in this process."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import psutil

from pipeline.cli.estimate.shapes import ChunkShape, Seen
from pipeline.cli.estimate.traffic import Weighing
from pipeline.cluster import InProcess
from pipeline.config import Config
from pipeline.data import datasets
from pipeline.data.names import POINTS, TRAIN
from pipeline.errors import FitError
from pipeline.evaluate.at_point import objectives_of, verdict
from pipeline.evaluate.robustness.toys import first_block
from pipeline.fit.toys import blocks_of
from pipeline.gradient.halves import of_optimisation
from pipeline.gradient.held import everything
from pipeline.gradient.loss import centre_of, judge
from pipeline.gradient.resident import Resident, Share
from pipeline.gradient.shares import even_templates, forward_share, pullback_share
from pipeline.gradient.sweeps import FreeValues, forward, pullback
from pipeline.gradient.work import Group, Problem, Work
from pipeline.likelihood.workspace import Workspace
from pipeline.optimise import checkpoints
from pipeline.optimise.schedule import widths_at
from pipeline.optimise.update import initial_state, update_of
from pipeline.templates.fill import EXACT

REPEATS = 3  # calls of a warm program, at least
MOST_REPEATS = 15


class Timed(NamedTuple):
    """Seconds of the first call, in which it is compiled, beyond those of a later one; and the median of those."""

    compiling: float
    warm: float


class ChunkSeconds(NamedTuple):
    """Of a chunk of one shape: both sweeps of an epoch, and the exact one of a bootstrap sample."""

    forward: Timed
    pullback: Timed
    exact: Timed


class ToySeconds(NamedTuple):
    """Of a block of toys: compiling what fits them, and drawing and fitting so many."""

    compiling: float
    block: float
    toys: int


class OfModel(NamedTuple):
    """What does not grow with the events; the centre is absent where it gave no number, for a reason."""

    centre: Timed | None
    reason: str
    update: float
    state_bytes: int
    fits: float
    traffic: tuple[Weighing, Weighing]
    toys: ToySeconds | None = None  # none are asked for, or there is no workspace to draw them of


class _OneShare(Resident):
    """Events of which a sweep sees one share alone."""

    def __init__(self, share: Share) -> None:
        super().__init__()
        self._share = share

    def shares(self, groups: Iterable[Group], problem: Problem) -> Iterator[Share]:
        """Yield the share."""
        del groups, problem
        yield self._share


def chunk_seconds(
    config: Config, work: Work, found: Seen, parameters: FreeValues, seconds: float
) -> dict[ChunkShape, ChunkSeconds]:
    """Return the seconds of a chunk of each shape, by sweeps over chunks of that shape alone.

    Args:
        seconds: for all of them, about, besides compiling.
    """
    widths, watched = widths_at(config, 0), everything(work.axes)
    slopes = even_templates(work, 1.0)  # what a pullback costs does not depend on them
    each = seconds / (3 * len(found.shares))

    def measured(shape: ChunkShape, share: Share) -> ChunkSeconds:
        only = InProcess(_OneShare(share))
        own = work._replace(groups=tuple(g for g in work.groups if g.variations == shape.variations))
        sweeps: list[Callable[[], object]] = [
            lambda: only.total(forward_share, own, parameters, widths, None, watched),
            lambda: only.total(pullback_share, own, parameters, widths, slopes, watched),
            lambda: only.total(forward_share, own, parameters, EXACT, 0, watched),
        ]
        timed = [_timed(sweep, each) for sweep in sweeps]
        return ChunkSeconds(*(t._replace(warm=t.warm / len(share.places)) for t in timed))

    return {shape: measured(shape, share) for shape, share in found.shares.items()}


def of_model(
    config: Config, resident: Resident, work: Work, parameters: FreeValues, folder: Path, seconds: float
) -> OfModel:
    """Return what the centre, an update and the fits of ``evaluate`` take, on the templates of a few files."""
    sweeping, undivided = Weighing(resident), work
    work, judge_of_epochs = of_optimisation(config, work, judge(config, work.axes))
    templates = forward(sweeping, work, parameters, widths_at(config, 0))
    evaluate = centre_of(judge_of_epochs)
    found, reason = None, ""
    try:
        found = _timed(lambda: evaluate(templates, parameters), seconds)
    except FitError as error:
        reason = str(error)
    back = Weighing(resident)
    gradient = pullback(back, work, parameters, widths_at(config, 0), even_templates(work, 1.0))
    state, update = initial_state(config, parameters), update_of(config, work.problem.analysis.parameters)
    path = folder / "state.npz"
    moved = _timed(lambda: checkpoints.save(path, update(state, gradient), {}), 0.0)
    fits, toys = (0.0, None) if found is None else _fits(config, resident, undivided, parameters, found)
    return OfModel(found, reason, moved.warm, path.stat().st_size, fits, (sweeping, back), toys)


def own_memory() -> int:
    """Return the bytes of memory that are this process's own, without pages that it shares with files."""
    return int(psutil.Process().memory_full_info().uss)


def _fits(
    config: Config, resident: Resident, work: Work, parameters: FreeValues, known: Timed
) -> tuple[float, ToySeconds | None]:
    """Return seconds of the fits of ``evaluate``, at all points and folds, without its sweeps; and those of toys."""
    sweeping = Weighing(resident)
    objectives = objectives_of(config, work.axes)
    started = time.perf_counter()
    found = verdict(config, sweeping, work, parameters, objectives, needed=False)
    once = time.perf_counter() - started - sweeping.seconds - known.compiling
    toys = None
    if config.evaluate.toys and found.workspace is not None:
        toys = _toys(found.workspace, blocks_of(config.evaluate.toys)[0])
    return max(0.0, once) * len(POINTS) * len(judged(config)), toys


def _toys(spec: Workspace, toys: int) -> ToySeconds:
    """Return the seconds of a block of toys: the first one compiles."""
    one = first_block(spec, toys)
    first, later = seconds_of(one), seconds_of(one)
    return ToySeconds(max(0.0, first - later), later, toys)


def judged(config: Config) -> list[str]:
    """Return the events of every verdict of ``evaluate``."""
    own = [] if config.data.folds is None else [TRAIN] * config.data.folds
    return [*own, *datasets.folds(config)]


def _timed(call: Callable[[], object], seconds: float) -> Timed:
    first, *later = _repeated(call, seconds)
    warm = statistics.median(later)
    return Timed(max(0.0, first - warm), warm)


def _repeated(call: Callable[[], object], seconds: float) -> list[float]:
    """Return the seconds of calls: the first, and some later ones, as many as the time is enough for."""
    found: list[float] = []
    while len(found) <= REPEATS or (len(found) <= MOST_REPEATS and sum(found[1:]) < seconds):
        found.append(seconds_of(call))
    return found


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds of a call, until what it returns is there."""
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started
