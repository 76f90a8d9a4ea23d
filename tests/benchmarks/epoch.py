"""Events per second of `columns` and of one epoch, and where an epoch's time goes.

The peers: plain uproot reading the same branches of the same file; the same epoch without Dask, in one process.
Prints a table; medians of several repetitions. Run from the repository: `.venv/bin/python tests/benchmarks/epoch.py`.
"""

import argparse
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

import uproot

from pipeline import cluster, columns, config, datasets, problem, store
from pipeline.cluster import InProcess
from pipeline.gradient import value_and_grad
from pipeline.optimise import centre
from pipeline.simulate import simulate

ROOT = Path(__file__).parent.parent.parent


class Timed:
    """An executor that also notes how long each worker was busy."""

    def __init__(self, executor):
        self.executor = executor
        self.busy = 0.0

    @property
    def workers(self):
        return self.executor.workers

    def map(self, function, items, *broadcast):
        results = self.executor.map(timed, [(function, item) for item in items], *broadcast)
        workers = self.workers
        shares = [
            results[len(items) * i // workers : len(items) * (i + 1) // workers] for i in range(workers)
        ]
        self.busy += max(sum(seconds for _, seconds in share) for share in shares)
        return [result for result, _ in results]


def timed(item, *broadcast):
    function, argument = item
    started = time.perf_counter()
    result = function(argument, *broadcast)
    return result, time.perf_counter() - started


def median_seconds(function, repetitions):
    function()
    seconds = []
    for _ in range(repetitions):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def columns_rate(settings, folder, events, repetitions):
    """Events/s of the stage and of plain uproot on the same file; the column file for the epochs."""
    path = folder / "ttbar.root"
    simulate("ttbar", path, events=events, seed=1)
    file = datasets.SourceFile("ttbar", 0, str(path), events)
    branches = problem.analysis(settings).reads.branches
    stage = median_seconds(lambda: columns.make(settings, file, print), repetitions)
    plain = median_seconds(lambda: uproot.open(f"{path}:Events").arrays(branches), repetitions)
    target = folder / "ttbar.parquet"
    store.write_columns(target, *columns.make(settings, file, print))
    return target, events / stage, events / plain


def epoch_seconds(executor, settings, work, repetitions):
    """Median seconds of an epoch's parts, compilation left out."""
    timed_executor = Timed(executor)
    evaluate, start, widths = (
        centre(settings, work.axes),
        problem.initial_parameters(settings),
        problem.widths(settings, 0),
    )
    rows = []
    for _ in range(repetitions + 1):
        timed_executor.busy = 0.0
        started = time.perf_counter()
        step = value_and_grad(timed_executor, work, start, widths, evaluate)
        total = time.perf_counter() - started
        sweeps = step.seconds["forward"] + step.seconds["pullback"]
        rows.append(
            (
                step.seconds["forward"],
                step.seconds["pullback"],
                step.seconds["centre"],
                sweeps - timed_executor.busy,
                total,
            )
        )
    return [statistics.median(values) for values in zip(*rows[1:], strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=4000, help="simulated events for the columns stage")
    parser.add_argument("--files", type=int, default=40, help="times the column file counts in an epoch")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__}")
    print(f"medians of {options.repetitions} repetitions")
    settings = config.load(ROOT / "config" / "agc_ttbar.yaml", ["data.held_out_fraction=0"])
    with tempfile.TemporaryDirectory() as folder:
        target, stage, plain = columns_rate(settings, Path(folder), options.events, options.repetitions)
        print(
            f"{'columns':28}{stage:12.0f} events/s   {stage / plain:.2f} x plain uproot ({plain:.0f} events/s)"
        )
        only = settings.data.model_copy(update={"samples": {"ttbar": settings.data.samples["ttbar"]}})
        model = settings.model.model_copy(update={"systematics": settings.model.systematics[:5]})
        settings = settings.model_copy(update={"data": only, "model": model})
        work = problem.work(settings, [("ttbar", target)] * options.files, datasets.TRAIN)
        local = settings.cluster.model_copy(update={"executor": "local"})
        alone = epoch_seconds(InProcess(), settings, work, options.repetitions)
        with cluster.executor(local, options.workers) as executor:
            shared = epoch_seconds(executor, settings, work, options.repetitions)
    print(
        f"epoch of {work.events} preselected events, {len(work.groups)} groups, {len(work.axes.variations)} variations"
    )
    print(f"{'':28}{'in process':>14}{f'{options.workers} workers':>14}{'share':>9}")
    for name, a, b in zip(
        ("forward sweep", "pullback sweep", "centre", "of the sweeps: Dask", "epoch"),
        alone,
        shared,
        strict=True,
    ):
        print(f"{name:28}{a * 1e3:11.1f} ms{b * 1e3:11.1f} ms{b / shared[-1]:9.1%}")
    rates = [work.events / seconds[-1] for seconds in (alone, shared)]
    print(f"{'events/s':28}{rates[0]:14.0f}{rates[1]:14.0f}   {rates[1] / rates[0]:.2f} x in process")


if __name__ == "__main__":
    main()
