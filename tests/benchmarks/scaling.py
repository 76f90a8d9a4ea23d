"""Epochs from 1e5 to 3e7 events: time, memory, bytes that travel, what is not XLA's; and the cost of a worker.

`config/agc_samples.yaml`'s ttbar columns with all its variations, replicated with smeared jets. The peer is XLA itself:
the time that workers spend inside compiled programs. Prints tables. From the repository:
`.venv/bin/python tests/benchmarks/scaling.py` (about 45 minutes; `--events 1e5 1e6` is quicker).
"""

import argparse
import math
import os
import pickle
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

from pipeline import cluster, config
from pipeline.analysis import analysis_of
from pipeline.cluster import Distributed
from pipeline.cluster.workers import Worker, set_up
from pipeline.columns.make import make_columns
from pipeline.data import column_file, datasets
from pipeline.data.jobs import ColumnsJob, SourceFile
from pipeline.gradient import shares
from pipeline.gradient.accumulator import added, empty
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.simulate.pythia import simulate

ROOT = Path(__file__).parent.parent.parent
FILE_EVENTS = 25_000
SMEAR = 0.02


class Timed:
    """An executor that also notes what its workers did: seconds busy, seconds in XLA, memory; and counts bytes."""

    def __init__(self, executor):
        self.executor, self.tasks, self.bytes = executor, [], 0

    @property
    def workers(self):
        return self.executor.workers

    def total(self, function, work, *broadcast, precision="float64"):
        started = time.perf_counter()
        found = self.executor.total(timed, work, function, *broadcast, precision=precision)
        wall = time.perf_counter() - started
        self.tasks.append((wall, list(self.executor._client.run(spent).values())))
        self.bytes += self.executor.workers * len(pickle.dumps(broadcast)) + len(pickle.dumps(found))
        return found


def timed(resident, groups, work, function, *broadcast):
    """The groups of a worker, with its compiled programs under a clock."""
    if not hasattr(shares, "_uncounted"):
        shares._uncounted = shares.compiled
        shares.compiled = lambda *key: tuple(counted(f) for f in shares._uncounted(*key))
    shares._in_xla = 0.0
    started = time.perf_counter()
    result = jax.device_get(function(resident, groups, work, *broadcast))
    shares._busy = time.perf_counter() - started
    return result


def counted(compiled):
    def call(*arguments):
        started = time.perf_counter()
        result = jax.block_until_ready(compiled(*arguments))
        shares._in_xla += time.perf_counter() - started
        return result

    return call


def spent():
    """Seconds busy and in XLA in the last sweep of a worker, and its memory."""
    return shares._busy, shares._in_xla, resident_mb()


def resident_mb():
    """Memory of this process that is its own, without pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def settings_of(memory_mb):
    """config/agc_samples.yaml on ttbar alone, with every variation that is not a sample."""
    run = config.load(
        ROOT / "config" / "agc_samples.yaml", ["data.held_out_fraction=0", "data.allow_repeated=true"]
    )
    ttbar = run.data.samples["ttbar"].model_copy(update={"variations": ()})
    own = analysis_of(run).variation_names
    kept = tuple(s for s in run.model.systematics if s.type != "NormPlusShape" or s.up in own)
    kept = tuple(s for s in kept if s.samples is None or "ttbar" in s.samples)
    return run.model_copy(
        update={
            "data": run.data.model_copy(update={"samples": {"ttbar": ttbar}}),
            "model": run.model.model_copy(update={"systematics": kept}),
            "cluster": run.cluster.model_copy(update={"executor": "local", "memory_mb": memory_mb}),
        }
    )


def replicated(settings, folder):
    """A column file of FILE_EVENTS events: those of a simulated file again and again, jets smeared."""
    simulate("ttbar", folder / "ttbar.root", events=8000, seed=1)
    file = SourceFile("ttbar", str(folder / "ttbar.root"), 8000)
    folds, (provenance,) = make_columns(settings, ColumnsJob("ttbar", 0, (file,)))
    original = folds[datasets.TRAIN]
    rng = np.random.default_rng(1)
    chosen = rng.integers(0, len(original["weight"]), FILE_EVENTS)
    arrays = {name: array[chosen] for name, array in original.items()}
    factors = 1 + SMEAR * rng.standard_normal(arrays["jet_pt"].shape, dtype=np.float32)
    arrays["jet_pt"] = arrays["jet_pt"] * factors
    kept = {**provenance.entries_kept, datasets.TRAIN: FILE_EVENTS}
    path = folder / "columns.parquet"
    column_file.write(path, {**folds, datasets.TRAIN: arrays}, [provenance.changed(entries_kept=kept)])
    return path


def work_of(settings, path, events, folder):
    """Work of so many events: links to one file, each read and kept by itself."""
    files = []
    for number in range(round(events / FILE_EVENTS)):
        link = folder / f"link_{number:05d}.parquet"
        if not link.exists():
            link.symlink_to(path)
        files.append(("ttbar", link))
    return prepare_work(settings, files, datasets.TRAIN)


def epoch(executor, settings, work, repetitions):
    """Medians: wall seconds, seconds in XLA and in Python per worker, uneven, Dask, centre; memory, bytes."""
    evaluate = centre(settings, work.axes)
    arguments = (work, initial_parameters(settings), widths_at(settings, 0), evaluate)
    rows = []
    for repetition in range(repetitions + 1):
        clock = Timed(executor)
        started = time.perf_counter()
        step = value_and_grad(clock, *arguments)
        wall = time.perf_counter() - started
        workers = [entry for _, entries in clock.tasks for entry in entries]
        if repetition:
            xla = sum(x for _, x, _ in workers) / executor.workers
            busy = sum(b for b, _, _ in workers) / executor.workers
            slowest = sum(max(b for b, _, _ in entries) for _, entries in clock.tasks)
            sweeps = sum(seconds for seconds, _ in clock.tasks)
            rss = max(r for _, _, r in workers)
            rows.append(
                (
                    wall,
                    xla,
                    busy - xla,
                    slowest - busy,
                    sweeps - slowest,
                    step.seconds["centre"],
                    rss,
                    clock.bytes,
                )
            )
    return [statistics.median(values) for values in zip(*rows, strict=True)]


def ladder(options, folder):
    """Epochs of growing size on the same workers."""
    settings = settings_of(options.memory_mb)
    path = replicated(settings, folder)
    print(
        f"\nevents in all, {options.workers} workers with memory_mb {options.memory_mb}, half of it for events"
    )
    print(f"{'events':>10}{'epoch s':>10}{'in XLA':>9}{'Python':>9}{'uneven':>9}{'Dask':>9}{'centre':>9}"
          f"{'own MB':>9}{'kB sent':>9}{'groups':>8}")  # fmt: skip
    points = []
    for events in options.events:
        work = work_of(settings, path, events, folder)
        with cluster.executor(settings.cluster, options.workers, folder) as executor:
            wall, *parts, rss, sent = epoch(
                executor, settings, work, options.repetitions if events < 5e6 else 1
            )
        points.append((events, wall))
        shares = "".join(f"{part / wall:9.1%}" for part in parts)
        print(
            f"{events:10.0e}{wall:10.2f}{shares}{rss:9.0f}{sent / 1e3:9.0f}{len(work.groups):8}", flush=True
        )
    if len(points) > 1:
        slope, _ = np.polyfit(*np.log(points).T, 1)
        events, wall = points[-1]
        per_event = f"{1e6 * wall / events:.1f} microseconds per event at the last"
        print(f"epoch time ~ events^{slope:.3f}; {per_event}")
    if options.resident_mb:
        resident = settings_of(options.resident_mb)
        work = work_of(resident, path, options.compare, folder)
        with cluster.executor(resident.cluster, options.workers, folder) as executor:
            wall, *_, rss, _ = epoch(executor, resident, work, 1)
        print(
            f"{options.compare:10.0e}{wall:10.2f} s with memory_mb {options.resident_mb}: {rss:.0f} MB each"
        )
    return points[-1][1] / points[-1][0]


def by_workers(options, folder):
    """The same epoch on more and more workers; beyond the cores they only show what each adds."""
    settings = settings_of(options.memory_mb)
    work = work_of(settings, folder / "columns.parquet", options.shared, folder)
    print(f"\n{options.shared:.0e} events on more workers")
    print(f"{'workers':>10}{'epoch s':>10}")
    for count in (1, 2, 4, 8):
        with cluster.executor(settings.cluster, count, folder) as executor:
            wall, *_ = epoch(executor, settings, work, options.repetitions)
        print(f"{count:10}{wall:10.2f}", flush=True)


def nothing(resident, groups, work, broadcast):
    """What a sweep costs when groups cost nothing: its sums are of one array."""
    return {"all": jax.device_get(added(empty((15 * 12,)), broadcast[: 15 * 12]))}


def overhead(folder, per_event):
    """Seconds of an empty sweep against the number of workers, and what follows for many."""
    settings = settings_of(None)
    work = work_of(settings, folder / "columns.parquet", FILE_EVENTS * 1024, folder)
    work = work._replace(groups=tuple(g._replace(files=g.files[:1]) for g in work.groups))
    payload = np.zeros(3000)  # about what parameters, widths and the cotangent are
    print("\nan empty sweep of 1024 groups, milliseconds (medians of 15)")
    found = []
    for kind, count in (
        *(("processes", n) for n in (1, 2, 4, 8)),
        *(("threads", n) for n in (8, 16, 32, 64)),
    ):
        options = {"n_workers": count, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
        with (
            LocalCluster(processes=kind == "processes", silence_logs="CRITICAL", **options) as made,
            Client(made) as client,
        ):
            set_up(client, Worker(math.inf, None, folder / "programs"))
            executor = Distributed(client, 60.0)
            seconds = []
            for _ in range(16):
                started = time.perf_counter()
                executor.total(nothing, work, payload)
                seconds.append(time.perf_counter() - started)
        found.append((kind, count, statistics.median(seconds[1:])))
        print(f"{kind:>10}{count:6}{1e3 * found[-1][2]:10.1f}", flush=True)
    slope, offset = np.polyfit(*np.array([(n, s) for kind, n, s in found if kind == "threads"]).T, 1)
    print(f"model: {1e3 * offset:.0f} ms + {1e3 * slope:.2f} ms per worker and sweep, two sweeps an epoch;")
    print(f"       {1e6 * per_event:.1f} microseconds of a worker per event; 4 network latencies a sweep")
    print(f"{'workers':>10}{'events':>10}{'latency ms':>12}{'epoch s':>10}{'efficiency':>12}")
    for workers in (64, 1024):
        for events in (1e8, 1e9):
            for latency in (1e-3, 1e-2):
                work_seconds = per_event * events / workers
                epoch_seconds = work_seconds + 2 * (offset + slope * workers + 4 * latency)
                share = work_seconds / epoch_seconds
                print(f"{workers:10}{events:10.0e}{1e3 * latency:12.0f}{epoch_seconds:10.2f}{share:12.1%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=float, nargs="+", default=[1e5, 3e5, 1e6, 3e6, 1e7, 3e7])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-mb", type=int, default=1000)
    parser.add_argument(
        "--resident-mb", type=int, default=8000, help="for one size with all events in memory; 0: none"
    )
    parser.add_argument("--compare", type=float, default=1e7)
    parser.add_argument("--shared", type=float, default=1e6, help="events for the table of 1 to 8 workers")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__}")
    print(
        f"medians of {options.repetitions} epochs, one from 1e7 events on; the first of each is not counted"
    )
    with tempfile.TemporaryDirectory() as folder:
        seconds_per_event = ladder(options, Path(folder)) * options.workers
        by_workers(options, Path(folder))
        overhead(Path(folder), seconds_per_event)


if __name__ == "__main__":
    main()
