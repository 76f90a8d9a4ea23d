"""How many bins with free edges? The exact objective on training and on held-out events, for numbers of bins.

The analysis is that of `thalweg init`, its invented events divided by `--fewer` so that bins can be too many: equal
bins at the start, four free cuts, all inner edges free. `rel. error` is the largest relative statistical error of a
bin's total on training events. From the repository: `.venv/bin/python tests/benchmarks/bins.py` (minutes on two cores).
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from widths import epochs

from pipeline import Run
from pipeline import config as configuration
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.data.run_files import column_files
from pipeline.gradient.loss import judge
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.templates.fill import EXACT

LOW, HIGH, SMALLEST = 300, 1000, 10  # GeV
PENALTY = "objective.penalties=[{kind: mc_statistics, most: 0.15, weight: 100}]"


def analysis(folder, fewer):
    """The configuration of `thalweg init`, with its events made in a folder."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (folder / "bins", *sys.path)))}
    run = [sys.executable, "-m", "pipeline", "init", "bins", "--folder", str(folder)]
    subprocess.run(run, check=True, capture_output=True)
    maker = folder / "bins/make_events.py"
    text = re.sub(r"(\d+)_000\b", lambda number: str(int(number[1]) * 1000 // fewer), maker.read_text())
    maker.write_text(text)
    subprocess.run([sys.executable, str(maker)], check=True, capture_output=True, env=environment)
    return folder / "bins/bins.yaml"


def overrides(bins, penalty):
    """Free edges, equal bins at the start."""
    edges = [round(edge, 3) for edge in np.linspace(LOW, HIGH, bins + 1).tolist()]
    channel = [f"channels.four_jets.edges={edges}", f"channels.four_jets.free_edges={{smallest: {SMALLEST}}}"]
    return [*channel, "optimise.epochs=60", "optimise.epochs_per_job=60", *([PENALTY] if penalty else [])]


def judged(config, columns, parameters, fold):
    """The objective with exact cuts on a fold, and the largest relative statistical error of a bin's total."""
    with jax.enable_x64(True):
        work = prepare_work(config, columns, fold)
        templates = forward(InProcess(), work, parameters, EXACT)
        value = judge(config, work.axes)(templates, parameters).objective
    nominal = [work.axes.row(process, datasets.NOMINAL) for process in work.axes.processes]
    total = sum(np.asarray(templates.yields["four_jets"])[row] for row in nominal)
    squares = np.asarray(templates.sumw2["four_jets"]).sum(axis=0)
    return float(value), float(np.max(np.sqrt(squares) / np.maximum(total, 1e-300)))


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--bins", nargs="*", type=int, default=[3, 5, 8, 12, 20])
    options.add_argument("--penalty", nargs="*", type=int, default=[12, 20], help="with the penalty too")
    options.add_argument("--fewer", type=int, default=20)
    given = options.parse_args()
    print("| bins | penalty | training | held-out | rel. error |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        path = analysis(Path(folder), given.fewer)
        first = Run(path, folder=folder)
        first.columns()
        columns = column_files(first.config)
        for bins, penalty in [*((n, False) for n in given.bins), *((n, True) for n in given.penalty)]:
            config = configuration.load(path, overrides(bins, penalty))
            points = initial_parameters(config), epochs(config, columns)
            cells = [[judged(config, columns, p, fold) for p in points] for fold in ("train", "held_out")]
            text = " | ".join(f"{before[0]:.3f} → {after[0]:.3f}" for before, after in cells)
            print(f"| {bins} | {'yes' if penalty else 'no'} | {text} | {cells[0][1][1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
