"""A short look at real workers of this machine: seconds to start, what a sweep costs besides, memory."""

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from pipeline import cluster
from pipeline.cli.estimate.programs import ChunkSeconds, own_memory, seconds_of
from pipeline.cli.estimate.shapes import ChunkShape, Seen, chunks_in
from pipeline.cluster.assignment import assign
from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.gradient.accumulator import empty as empty_sum
from pipeline.gradient.held import Watched, everything
from pipeline.gradient.resident import Resident
from pipeline.gradient.shares import even_templates, forward_share, pullback_share
from pipeline.gradient.sweeps import Executor, FreeValues, NamedSums
from pipeline.gradient.work import Group, Work
from pipeline.optimise.schedule import widths_at
from pipeline.templates.fill import EXACT, Widths

EMPTY_SWEEPS = 15
ROUNDS = 3
LONG = 1.0  # seconds of work that workers are given at once: what a task costs besides must not matter
# What the processes of the stages import, which is most of the time until they begin.
OF_COLUMNS = "pipeline.columns.make, pipeline.gradient.work"
OF_SWEEPS = "pipeline.cluster, pipeline.evaluate.stage"


class Together(NamedTuple):
    """What workers of this machine do: seconds to start, and of a sweep of nothing.

    ``slowdown`` is how much longer a chunk takes when all of them work: cores share memory, caches and their clock.
    ``memory`` is the bytes of one without its events, after the sweeps of an epoch; ``judging`` after those of
    ``evaluate``, which has no pullback.
    """

    workers: int
    starting: float
    empty_sweep: float
    slowdown: float
    memory: float
    judging: float


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
    costs = [
        math.fsum(n * each[shape] for shape, n in chunks_in([group], found).items()) for group in work.groups
    ]
    largest = work.groups[costs.index(max(costs))]
    # Copies are different groups, so that each worker has one.
    copies = tuple(largest._replace(scale=largest.scale * (1 + number)) for number in range(workers))
    times = math.ceil(LONG / max(costs))
    sent = parameters, widths_at(config, 0), even_templates(work, 1.0), everything(work.axes)
    started = time.perf_counter()
    with cluster.executor(here, workers, folder) as executor:
        starting = time.perf_counter() - started
        for mode in (sent[1], EXACT):
            executor.total(forward_share, work, parameters, mode, None, sent[3])
        judging = _memory(executor, work)
        executor.total(_epochs, work, 1, *sent)
        descending = _memory(executor, work)
        empty = statistics.median(
            seconds_of(lambda: executor.total(_nothing, work)) for _ in range(EMPTY_SWEEPS)
        )
        all_of_them, one = work._replace(groups=copies), work._replace(groups=copies[:1])
        executor.total(_epochs, all_of_them, 1, *sent)
        ratios = []
        for _ in range(ROUNDS if workers > 1 else 0):  # in turn: what else the machine does comes and goes
            alone = seconds_of(lambda: executor.total(_epochs, one, times, *sent))
            beside = seconds_of(lambda: executor.total(_epochs, all_of_them, times, *sent))
            ratios.append((beside - empty) / (alone - empty))
    slowdown = max(1.0, statistics.median(ratios)) if ratios else 1.0
    return Together(workers, starting, empty, slowdown, descending, judging)


def shares(
    groups: Sequence[Group], workers: int, found: Seen, each: Mapping[ChunkShape, float]
) -> list[float]:
    """Return the sums over the chunks of each worker, who gets its groups as in a run."""
    return [
        math.fsum(number * each[shape] for shape, number in chunks_in(own, found).items())
        for own in _assigned(groups, workers)
    ]


def shares_of_programs(
    groups: Sequence[Group], workers: int, found: Seen, each: Mapping[ChunkShape, float]
) -> list[float]:
    """Return the sums over the shapes of chunks of each worker, which compiles what its own groups need."""
    return [
        math.fsum(min(1.0, number) * each[shape] for shape, number in chunks_in(own, found).items())
        for own in _assigned(groups, workers)
    ]


def slowdown(pool: Together | None, busy: int, machine_cores: int | None) -> float:
    """Return how much longer a chunk takes while so many workers work.

    Between one, and what was measured for some, in proportion; more than there are cores take turns.
    """
    at_once = busy if machine_cores is None else min(busy, machine_cores)
    share = min(1.0, (at_once - 1) / max(1, pool.workers - 1)) if pool else 0.0
    return (1.0 + ((pool.slowdown if pool else 1.0) - 1.0) * share) * busy / at_once


def until_all_are_done(loads: Sequence[float], pool: Together | None, machine_cores: int | None) -> float:
    """Return the seconds until the last worker is done, of the seconds that each would take alone.

    While the first ones still work, all are slow; the last one has the machine for itself.
    """
    total, before = 0.0, 0.0
    for done, load in enumerate(sorted(loads)):
        total += (load - before) * slowdown(pool, len(loads) - done, machine_cores)
        before = load
    return total


def process_start(modules: str) -> float:
    """Return the seconds until a process has imported what it needs."""
    command = [sys.executable, "-c", f"import {modules}"]
    return seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))


def _assigned(groups: Sequence[Group], workers: int) -> list[list[Group]]:
    """Return the groups of each worker."""
    names = [str(number) for number in range(workers)]
    owners = assign([group.events for group in groups], names, {})
    own: dict[str, list[Group]] = {name: [] for name in names}
    for group, owner in owners.items():
        own[owner].append(groups[group])
    return list(own.values())


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
) -> NamedSums:
    """Return a worker's sum of a pullback, after both sweeps of an epoch so many times."""
    for _ in range(times):
        jax.block_until_ready(forward_share(resident, groups, work, parameters, widths, None, watched))
        found = pullback_share(resident, groups, work, parameters, widths, slopes, watched)
        jax.block_until_ready(found)
    return {**found}


def _nothing(resident: Resident, groups: Sequence[Group], work: Work, *broadcast: Any) -> NamedSums:
    """Return a sum of nothing: what a sweep costs when chunks cost nothing."""
    del resident, groups, work, broadcast
    return {"nothing": empty_sum((1,))}


def _own(resident: Resident, group: Group, work: Work, *broadcast: Any) -> tuple[int, int]:
    del group, work, broadcast
    return own_memory(), resident.used
