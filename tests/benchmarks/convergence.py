"""Relaxed yields against exact ones as all widths shrink together: the largest relative difference of a bin.

Run from the repository once the run's columns are there: `.venv/bin/python tests/benchmarks/convergence.py
config/agc_samples.yaml`.
"""

import argparse
import os
from pathlib import Path

from pipeline.runtime import environment

os.environ.update(environment())

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from pipeline import config
from pipeline.cluster import InProcess
from pipeline.data import datasets, store
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.templates.fill import EXACT, Widths

FACTORS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    settings = config.load(parser.parse_args().config)
    folder = store.Folder(settings.run)
    files = [(job.sample, folder.columns(job.name)) for job in datasets.columns_jobs(settings)]
    work = prepare_work(settings, files, datasets.ALL)
    nominal = [work.axes.samples.index(process) for process in settings.data.samples]
    start, final = initial_parameters(settings), widths_at(settings, settings.optimise.epochs)
    executor = InProcess()
    exact = forward(executor, work, start, EXACT).yields
    print(f"{settings.run}: {work.events} preselected events at the initial parameters")
    print(
        "widths / final ones"
        + "".join(f"{f'{channel} nominal':>16}{'any variation':>16}" for channel in exact)
    )
    for factor in FACTORS:
        widths = Widths(
            {name: factor * width for name, width in final.operations.items()},
            {name: factor * width for name, width in final.bandwidths.items()},
        )
        relaxed = forward(executor, work, start, widths).yields
        row = ""
        for channel, yields in exact.items():
            apart = np.abs(relaxed[channel][nominal].sum(axis=0) / yields[nominal].sum(axis=0) - 1)
            row += f"{apart[0].max():16.5f}{apart.max():16.5f}"
        print(f"{factor:19g}{row}")


if __name__ == "__main__":
    main()
