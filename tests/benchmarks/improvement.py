"""What cuts, free bin edges and a network gain on held-out events, on the embedded data set made five times as large.

Run from the repository: `.venv/bin/python tests/benchmarks/improvement.py`. Missing files of the data set are simulated
first, into the folder that the workflow uses; columns go to a temporary folder, as the three runs have the same.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

from pipeline.runtime import environment

os.environ.update(environment())

import jax
import numpy as np

from pipeline import cluster, config, optimise
from pipeline.columns.make import make_columns
from pipeline.data import column_file, datasets
from pipeline.data.jobs import ColumnsJob, SourceFile
from pipeline.evaluate.stage import all_points
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.simulate.pythia import simulate

ROOT = Path(__file__).parent.parent.parent
RUNS = ("agc_ttbar", "agc_edges", "agc_network")
LARGER = 5
Files = list[tuple[str, Path]]


def settings_of(run: str, bootstrap: int) -> config.Config:
    """A shipped run with more files of every sample."""
    plain = config.load(ROOT / "config" / f"{run}.yaml")
    more = [f"simulate.samples.{n}.files={LARGER * s.files}" for n, s in plain.simulate.samples.items()]
    overrides = [*more, f"evaluate.bootstrap={bootstrap}", "cluster.group_events=8192"]
    return config.load(ROOT / "config" / f"{run}.yaml", overrides)


def prepare(task: tuple[config.Config, ColumnsJob, Path]) -> None:
    """Simulate files where they are missing, and write their columns."""
    settings, job, target = task
    for file in job.files:
        _simulated(settings, file)
    column_file.write(target, *make_columns(settings, job))


def _simulated(settings: config.Config, file: SourceFile) -> None:
    path, index = Path(file.path), int(Path(file.path).stem.rpartition("_")[2])
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = datasets.file_seed(settings.simulate.seed, file.sample, index)
        events = settings.simulate.samples[file.sample].events_per_file
        simulate(file.sample, path, events=events, seed=seed)


def prepared(settings: config.Config, folder: Path, workers: int) -> Files:
    """Column files of the data set, [(sample, path)]."""
    jobs = datasets.columns_jobs(settings)
    tasks = [(settings, job, folder / f"{job.name}.parquet") for job in jobs]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(prepare, tasks, chunksize=1)
    return [(job.sample, target) for _, job, target in tasks]


def improve(run: str, settings: config.Config, files: Files, workers: int) -> None:
    """Optimise, evaluate and print one run."""
    work, start = prepare_work(settings, files, datasets.TRAIN), initial_parameters(settings)
    with cluster.executor(settings.cluster, workers, ROOT / "results" / settings.run) as executor:
        state, seconds = optimise.initial_state(settings, start), []
        until = settings.optimise.epochs
        for after, record in optimise.each_epoch(settings, executor, work, state, until=until):
            state, seconds = after, [*seconds, record.seconds]
        points = {"initial": start, "optimised": state.parameters}
        found = all_points(settings, executor, files, points).evaluation
    numbers = {(row.point, row.fold): row.pyhf for row in found.rows}
    before, after = (np.array(found.bootstrap.values[point]) for point in points)
    change = numbers["optimised", "held_out"] / numbers["initial", "held_out"] - 1
    parameters = ", ".join(
        f"{name} {value:.4g}" for name, value in found.points["optimised"].parameters.items()
    )
    folds = "".join(
        f"{numbers['initial', f]:10.4f} -> {numbers['optimised', f]:.4f}" for f in datasets.folds(settings)
    )
    print(
        f"{run:12}{folds}{100 * change:8.1f} % +- {100 * np.std(after / before, ddof=1):.1f} %   "
        f"{work.events} events, {until} epochs of {np.median(seconds):.2f} s after {seconds[0]:.0f} s; {parameters}",
        flush=True,
    )


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", type=int, default=40, help="replicas (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    print(
        "uncertainty of ttbar_norm by pyhf, hard cuts: training events, held-out events, change on held-out events"
    )
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        files = prepared(settings_of(RUNS[0], arguments.bootstrap), Path(scratch), arguments.workers)
        for run in RUNS:
            improve(run, settings_of(run, arguments.bootstrap), files, arguments.workers)
    print(f"in {(time.perf_counter() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
