"""Epochs from 1e5 to 1e8 events: time, memory, bytes that travel, what is not XLA's.

Two analyses: ttbar columns of `config/agc_samples.yaml` with all its variations, replicated with smeared jets; and a
light one, the background of `config/neos.yaml` with a network of 8 x 8, for as many events as a disk has room for. The
peer is XLA itself: the time that workers spend inside compiled programs. Prints tables. From the repository:
`.venv/bin/python tests/benchmarks/scaling.py` (twenty minutes on two quiet cores; `--agc 1e5 1e6` is quicker).
"""

import argparse
import os
import pickle
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from pipeline.runtime import environment

os.environ.update(environment())

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

from pipeline import cluster, config
from pipeline.analysis import analysis_of
from pipeline.columns.make import make_columns
from pipeline.data import column_file, datasets
from pipeline.data.jobs import ColumnsJob, SourceFile
from pipeline.gradient import shares
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.simulate.generate import generate
from pipeline.simulate.pythia import simulate

ROOT = Path(__file__).parent.parent.parent
SMEAR = 0.02
LARGE = 5e6  # events from which on one epoch is measured
SMALL = (
    0.3  # of an epoch's seconds: the exponent is fitted to epochs from there on, below fixed costs are seen
)


class Scaled(NamedTuple):
    """An analysis of which one sample grows: its settings, a column file of that sample, those of the others."""

    settings: config.Config
    sample: str
    path: Path
    events: int  # of the file
    others: tuple[tuple[str, Path], ...] = ()


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


def with_cluster(run, memory_mb, **more):
    """The configuration with so much memory for a worker."""
    own = {"executor": "local", "memory_mb": memory_mb, **more}
    return run.model_copy(update={"cluster": run.cluster.model_copy(update=own)})


def agc(folder, memory_mb):
    """config/agc_samples.yaml on ttbar alone, with every variation that is not a sample."""
    run = config.load(
        ROOT / "config" / "agc_samples.yaml", ["data.held_out_fraction=0", "data.allow_repeated=true"]
    )
    ttbar = run.data.samples["ttbar"].model_copy(update={"variations": ()})
    own = analysis_of(run).variation_names
    kept = tuple(s for s in run.model.systematics if s.type != "NormPlusShape" or s.up in own)
    kept = tuple(s for s in kept if s.samples is None or "ttbar" in s.samples)
    model = run.model.model_copy(update={"systematics": kept})
    run = run.model_copy(
        update={"data": run.data.model_copy(update={"samples": {"ttbar": ttbar}}), "model": model}
    )
    settings, events = with_cluster(run, memory_mb), 25_000
    path = folder / "agc.parquet"
    if not path.exists():
        simulate("ttbar", folder / "ttbar.root", events=8000, seed=1)
        replicated(settings, SourceFile("ttbar", str(folder / "ttbar.root"), 8000), events, path)
    return Scaled(settings, "ttbar", path, events)


def light(folder, memory_mb):
    """config/neos.yaml with a small network; its background grows."""
    run = config.load(
        ROOT / "config" / "neos.yaml",
        ["analysis.options.hidden=[8, 8]", "data.held_out_fraction=0", "data.allow_repeated=true"],
    )
    settings, events = with_cluster(run, memory_mb, group_events=500_000), 500_000
    others = []
    for number, sample in enumerate(datasets.sample_names(settings)):
        root, path = folder / f"{sample}.root", folder / f"{sample}.parquet"
        if not path.exists():
            size = events if sample == "background" else 10_000
            generate(run.simulate.generator, sample, root, events=size, seed=number)
            file = SourceFile(sample, str(root), size)
            column_file.write(path, *make_columns(settings, ColumnsJob(sample, 0, (file,))))
        others.append((sample, path))
    return Scaled(settings, "background", folder / "background.parquet", events, tuple(others))


def replicated(settings, file, events, path):
    """Write a column file of so many events: those of a simulated file again and again, jets smeared."""
    folds, (provenance,) = make_columns(settings, ColumnsJob(file.sample, 0, (file,)))
    original = folds[datasets.TRAIN]
    rng = np.random.default_rng(1)
    chosen = rng.integers(0, len(original["weight"]), events)
    arrays = {name: array[chosen] for name, array in original.items()}
    factors = 1 + SMEAR * rng.standard_normal(arrays["jet_pt"].shape, dtype=np.float32)
    arrays["jet_pt"] = arrays["jet_pt"] * factors
    kept = {**provenance.entries_kept, datasets.TRAIN: events}
    column_file.write(path, {**folds, datasets.TRAIN: arrays}, [provenance.changed(entries_kept=kept)])


def work_of(scaled, events, folder):
    """Work of so many events: links to one file, each read and kept by itself."""
    files = [(sample, path) for sample, path in scaled.others if path != scaled.path]
    for number in range(max(1, round(events / scaled.events))):
        link = folder / f"link_{scaled.sample}_{number:05d}.parquet"
        if not link.exists():
            link.symlink_to(scaled.path)
        files.append((scaled.sample, link))
    return prepare_work(scaled.settings, files, datasets.TRAIN)


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


def ladder(scaled, sizes, workers, folder, repetitions):
    """Epochs of growing size; return seconds of a worker per event at the last."""
    settings = scaled.settings
    print(
        f"\n{settings.run}, {workers} workers with memory_mb {settings.cluster.memory_mb}, half of it for events"
    )
    print(f"{'events':>10}{'epoch s':>10}{'in XLA':>9}{'of busy':>9}{'uneven':>9}{'Dask':>9}{'centre':>9}"
          f"{'own MB':>9}{'kB sent':>9}{'groups':>8}")  # fmt: skip
    points = []
    for events in sizes:
        work = work_of(scaled, events, folder)
        with cluster.executor(settings.cluster, workers, folder) as executor:
            wall, xla, python, *parts, rss, sent = epoch(
                executor, settings, work, repetitions if events < LARGE else 1
            )
        points.append((events, wall))
        shares = "".join(
            f"{part:9.2%}" for part in (xla / wall, xla / (xla + python), *(p / wall for p in parts))
        )
        print(
            f"{events:10.0e}{wall:10.2f}{shares}{rss:9.0f}{sent / 1e3:9.0f}{len(work.groups):8}", flush=True
        )
    per_event = workers * points[-1][1] / points[-1][0]
    large = [(events, wall) for events, wall in points if wall >= SMALL]
    if len(large) > 1:
        slope, _ = np.polyfit(*np.log(large).T, 1)
        print(f"epoch time ~ events^{slope:.3f} where an epoch takes {SMALL} s and more; "
              f"{1e6 * per_event:.2f} microseconds of a worker per event at the last")  # fmt: skip
    return per_event


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agc", type=float, nargs="*", default=[1e5, 3e5, 1e6, 3e6, 1e7])
    parser.add_argument("--light", type=float, nargs="*", default=[1e6, 3e6, 1e7, 3e7, 1e8])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-mb", type=int, default=600)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__}; medians of "
          f"{options.repetitions} epochs, one from {LARGE:.0e} events on, after a first one")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder, rest = Path(name), (options.workers, Path(name), options.repetitions)
        if options.light:
            ladder(light(folder, options.memory_mb), options.light, *rest)
        if options.agc:
            ladder(agc(folder, options.memory_mb), options.agc, *rest)


if __name__ == "__main__":
    main()
