"""What an empty sweep costs each worker of the tree in which they ask one another, and what follows for a thousand.

Real processes on this machine's cores; processor time of each place is what is added up, for here they share what in
a cluster each has for itself. Prints tables. From the repository: `.venv/bin/python tests/benchmarks/tree.py`.
"""

import argparse
import functools
import math
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

from pipeline.runtime import environment

os.environ.update(environment())

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from distributed import Client, LocalCluster

from pipeline.cluster import Distributed
from pipeline.cluster.tree import FAN_IN, Portion, divided, plan_of
from pipeline.cluster.workers import Worker, set_up
from pipeline.gradient.accumulator import empty
from pipeline.gradient.work import FileColumns, Group, Work

SWEEPS = 60
GROUPS = 1024
TEMPLATES, PARAMETERS = 180, 3000  # numbers of what is answered, and of what is sent out


def nothing(resident, groups, work, broadcast):
    """What a sweep costs when groups cost nothing: its sums are of one array."""
    return {"all": empty((TEMPLATES,))}


def empty_work():
    """Work of groups that nobody reads."""
    files = (
        FileColumns("s", f"{number:06d}.parquet", "c" * 64, 0, "d" * 64, 32_000) for number in range(GROUPS)
    )
    return Work(None, tuple(Group((file,), ("train",), 1.0, ()) for file in files), None)


def overhead(counts, folder, per_event):
    """Processor seconds of an empty sweep at each place of the tree, and what follows for 1024 workers."""
    work, payload = empty_work(), np.zeros(PARAMETERS)
    print(f"\nan empty sweep of {GROUPS} groups: milliseconds, and of processor time (means of {SWEEPS})")
    print(
        f"{'workers':>10}{'sweep':>10}{'of this process':>17}{'of the first worker':>21}{'of each other':>15}"
    )
    found = []
    for count in counts:
        options = {"n_workers": count, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
        with LocalCluster(silence_logs="CRITICAL", **options) as made, Client(made) as client:
            set_up(client, Worker(math.inf, None, folder / "programs"))
            sweep = functools.partial(Distributed(client, 60.0).total, nothing, work, payload)
            sweep()
            first, *_ = plan_of(sorted((address, ()) for address in client.nthreads()))
            spent = [(client.run(time.process_time), time.process_time(), time.perf_counter())]
            for _ in range(SWEEPS):
                sweep()
            spent.append((client.run(time.process_time), time.process_time(), time.perf_counter()))
        (before, own, started), (after, own_after, ended) = spent
        each = {address: 1e3 * (after[address] - before[address]) / SWEEPS for address in after}
        head = each.pop(first.address)
        wall, here = (1e3 * seconds / SWEEPS for seconds in (ended - started, own_after - own))
        leaf = statistics.mean(each.values()) if each else math.nan
        found.append((count - 1, wall, head, leaf))
        print(f"{count:10}{wall:10.1f}{here:17.1f}{head:21.1f}{leaf:15.1f}", flush=True)
    asked, walls, heads, leaves = np.array(found).T
    predicted(walls[0], np.polyfit(asked, heads, 1)[0], leaves[-1], per_event)


def predicted(alone, ask, leaf, per_event):
    """Epochs of 1024 workers: the longest way through the tree, and a worker's events.

    Args:
        alone: milliseconds of an empty sweep with one worker.
        ask: processor milliseconds of a worker for each other that it asks.
        leaf: processor milliseconds of one that asks nobody.
    """
    asked = longest_way(1024)
    sweep = alone + ask * sum(asked) + leaf
    print(
        f"model: {alone:.1f} + {ask:.2f} x {sum(asked)} + {leaf:.1f} = {sweep:.0f} ms for the longest way of 1024"
    )
    print(
        f"workers, which ask {asked}; two sweeps an epoch, {1e6 * per_event:.1f} microseconds of a worker per event"
    )
    print(f"{'workers':>10}{'events':>10}{'latency ms':>12}{'epoch s':>10}{'efficiency':>12}")
    for events in (1e8, 1e9):
        for latency in (1.0, 10.0):
            busy = per_event * events / 1024
            seconds = busy + 2e-3 * (sweep + 2 * (1 + len(asked)) * latency)
            print(f"{1024:10}{events:10.0e}{latency:12.0f}{seconds:10.2f}{busy / seconds:12.1%}")


def longest_way(workers):
    """How many others each worker asks, on the longest way through the tree."""
    plan, asked = [Portion(str(number), ()) for number in range(workers)], []
    while len(plan) > 1:
        branches = divided(plan[1:], FAN_IN)
        asked.append(len(branches))
        plan = max(branches, key=len)
    return asked


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 5, 9, 17])
    parser.add_argument(
        "--per-event", type=float, default=22e-6, help="seconds of a worker; scaling.py measures it"
    )
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__}")
    with tempfile.TemporaryDirectory() as name:
        overhead(options.workers, Path(name), options.per_event)


if __name__ == "__main__":
    main()
