"""A short look at real workers of this machine: seconds to start, what a sweep costs besides, memory."""

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from pipeline import cluster
from pipeline.cli.estimate.programs import ChunkSeconds, ones, own_memory
from pipeline.cli.estimate.shapes import ChunkShape, Seen, chunks_in
from pipeline.cluster.assignment import assign
from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.gradient.accumulator import empty as empty_sum
from pipeline.gradient.held import Watched, everything
from pipeline.gradient.resident import Resident
from pipeline.gradient.shares import forward_share, pullback_share
from pipeline.gradient.sweeps import Executor, FreeValues, Sums
from pipeline.gradient.work import Group, Work
from pipeline.optimise.schedule import widths_at
from pipeline.templates.fill import Widths

EMPTY_SWEEPS = 15
SWEEPS = 3
LONG = 1.0  # seconds of work that workers are given at once: what a task costs besides must not matter
# What an epoch's process imports: most of the time until it begins.
IMPORTS = "import pipeline.cluster, pipeline.columns.make, pipeline.evaluate.stage"


class Together(NamedTuple):
    """What workers of this machine do: seconds to start, seconds of a sweep of nothing, and bytes without events.

    ``slowdown`` is how much longer a chunk takes when all of them work: cores share memory, caches and their clock.
    """

    workers: int
    starting: float
    empty_sweep: float
    slowdown: float
    memory: float


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def together(
    config: Config,
    workers: int,
    work: Work,
    parameters: FreeValues,
    found: Seen,
    seconds: Mapping[ChunkShape, ChunkSeconds],
    folder: Path,
) -> Together:
    """Return what workers of this machine take for the sweeps over a few files.

    Args:
        folder: with the compiled programs, for those that are wanted again.
    """
    here = config.cluster.model_copy(update={"executor": "local", "port": 0})
    each = {shape: own.forward.warm + own.pullback.warm for shape, own in seconds.items()}
    alone = busiest(work.groups, workers, found, each)
    times = math.ceil(LONG / alone)
    sent = parameters, widths_at(config, 0), ones(work), everything(work.axes)
    started = time.perf_counter()
    with cluster.executor(here, workers, folder) as executor:
        starting = time.perf_counter() - started
        executor.total(_epochs, work, 1, *sent)
        busy = _median(lambda: executor.total(_epochs, work, times, *sent), SWEEPS)
        empty = _median(lambda: executor.total(_nothing, work), EMPTY_SWEEPS)
        memory = _memory(executor, work)
    return Together(workers, starting, empty, max(1.0, (busy - empty) / (times * alone)), memory)


def busiest(groups: Sequence[Group], workers: int, found: Seen, seconds: Mapping[ChunkShape, float]) -> float:
    """Return the seconds of the worker that has most to do in a sweep, by its chunks."""
    return max(shares(groups, workers, found, seconds))


def shares(
    groups: Sequence[Group], workers: int, found: Seen, each: Mapping[ChunkShape, float]
) -> list[float]:
    """Return the sums over the chunks of each worker, who gets its groups as in a run."""
    names = [str(number) for number in range(workers)]
    owners = assign([group.events for group in groups], names, {})
    own: dict[str, list[Group]] = {name: [] for name in names}
    for group, owner in owners.items():
        own[owner].append(groups[group])
    return [
        sum(number * each[shape] for shape, number in chunks_in(groups_of_one, found).items())
        for groups_of_one in own.values()
    ]


def process_start() -> float:
    """Return the seconds until a job's process has imported what it needs."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True)
    return time.perf_counter() - started


def _median(call: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _memory(executor: Executor, work: Work) -> float:
    """Return the bytes of the largest worker, without its events."""
    found: list[tuple[int, int]] = executor.sweep(_own, work)
    return float(max(whole - events for whole, events in found))


def _epochs(
    resident: Resident,
    groups: Sequence[Group],
    work: Work,
    times: int,
    parameters: FreeValues,
    widths: Widths,
    slopes: Templates,
    watched: Watched,
) -> Sums:
    """Return a worker's sum of a pullback, after both sweeps of an epoch so many times."""
    for _ in range(times):
        jax.block_until_ready(forward_share(resident, groups, work, parameters, widths, None, watched))
        found = pullback_share(resident, groups, work, parameters, widths, slopes, watched)
        jax.block_until_ready(found)
    return {**found}


def _nothing(resident: Resident, groups: Sequence[Group], work: Work, *broadcast: Any) -> Sums:
    """Return a sum of nothing: what a sweep costs when chunks cost nothing."""
    del resident, groups, work, broadcast
    return {"nothing": empty_sum((1,))}


def _own(resident: Resident, group: Group, work: Work, *broadcast: Any) -> tuple[int, int]:
    del group, work, broadcast
    return own_memory(), resident.used
