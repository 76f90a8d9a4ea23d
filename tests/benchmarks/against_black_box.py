"""The main job's parameters by black-box searches with exact cuts: the same events, in passes over them.

CMA-ES (`cmaes`, of the group `benchmarks`) minimises the same, with exact cuts on training events, from the same start,
once with the penalties of the configuration and once without; an evaluation is one pass over the events, an epoch of
gradients two. Values are the objective of exact cuts by our likelihood, which is pyhf's. From the repository, after
`make`: `.venv/bin/python tests/benchmarks/against_black_box.py` (about 4 minutes).
"""

import argparse
import os
import time
from pathlib import Path

from pipeline.runtime import environment

os.environ.update(environment())

import jax

jax.config.update("jax_enable_x64", True)

import cmaes
import numpy as np

from pipeline import config
from pipeline.analysis import analysis_of
from pipeline.cluster import InProcess
from pipeline.errors import FitError
from pipeline.gradient.loss import judge
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.epochs import each_epoch
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.update import initial_state
from pipeline.templates.fill import EXACT

ROOT = Path(__file__).parent.parent.parent
LOGIT_RANGE = 3.0  # of free bin edges, to either side of their start


class Judge:
    """The exact objective of one fold, without and with penalties, as a function of the parameters."""

    def __init__(self, settings, columns, fold):
        self.work, self.executor = prepare_work(settings, columns, fold), InProcess()
        self.judge = judge(settings, self.work.axes)

    def __call__(self, parameters):
        """The number to publish, and what is minimised; infinity where there is none."""
        try:
            found = self.judge(forward(self.executor, self.work, parameters, EXACT), parameters)
        except FitError:
            return np.inf, np.inf
        return found.objective, found.minimised


class Unit:
    """Parameters as one vector in [0, 1]: cuts in their bounds, the logits of bin edges about their start."""

    def __init__(self, settings):
        self.free, self.start = analysis_of(settings).parameters, initial_parameters(settings)

    def bounds(self, name):
        if name in self.free:
            return self.free[name].bounds
        return self.start[name] - LOGIT_RANGE, self.start[name] + LOGIT_RANGE

    def vector(self, parameters):
        parts = []
        for name, value in sorted(parameters.items()):
            low, high = self.bounds(name)
            parts.append(np.ravel((value - low) / (np.asarray(high) - low)))
        return np.concatenate(parts)

    def parameters(self, vector):
        found, place = {}, 0
        for name, value in sorted(self.start.items()):
            low, high = (np.asarray(bound, dtype=float) for bound in self.bounds(name))
            size = np.size(value)
            part = np.clip(vector[place : place + size].reshape(np.shape(value)), 0, 1)
            found[name], place = low + part * (high - low), place + size
        return found


def by_gradient(settings, train, held_out, report):
    """Epochs as the run has them."""
    start = initial_state(settings, initial_parameters(settings))
    work, executor = train.work, train.executor
    for state, _ in each_epoch(settings, executor, work, start, until=settings.optimise.epochs):
        if state.epoch % report == 0:
            row("gradients", 2 * state.epoch, train(state.parameters)[0], held_out(state.parameters)[0])


def by_search(settings, train, held_out, passes, sigma, seed, penalised):
    """CMA-ES from the same start."""
    name = f"CMA-ES, seed {seed}, {'with' if penalised else 'without'} penalties"
    unit = Unit(settings)
    mean = unit.vector(unit.start)
    bounds = np.array([[0.0, 1.0]] * len(mean))
    search = cmaes.CMA(mean=mean, sigma=sigma, bounds=bounds, seed=seed)
    best, value, found, used, next_row = np.inf, np.inf, unit.start, 0, 100
    while used < passes:
        told = []
        for _ in range(search.population_size):
            vector = search.ask()
            objective, minimised = train(unit.parameters(vector))
            loss = minimised if penalised else objective
            used += 1
            told.append((vector, loss if np.isfinite(loss) else 1e6))
            if loss < best:
                best, value, found = loss, objective, unit.parameters(vector)
        search.tell(told)
        if used >= next_row:
            row(name, used, value, held_out(found)[0])
            next_row *= 2
    row(name, used, value, held_out(found)[0])


def row(name, passes, train, held_out):
    print(f"| {name} | {passes} | {train:.2f} | {held_out:.2f} |", flush=True)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--config", type=Path, default=ROOT / "config" / "resonance.yaml")
    options.add_argument("--passes", type=int, default=3000)
    options.add_argument("--seeds", type=int, nargs="*", default=[1, 2])
    options.add_argument("--sigma", type=float, default=0.15)
    options.add_argument("--set", nargs="*", default=[])
    given = options.parse_args()
    settings = config.load(given.config, given.set)
    folder = ROOT / "results" / settings.run / "columns"
    columns = [(path.parent.name, path) for path in sorted(folder.glob("*/*.parquet"))]
    if not columns:
        raise SystemExit(f"{folder} has no column files; run `make` first")
    train, held_out = (Judge(settings, columns, fold) for fold in ("train", "held_out"))
    print(
        "| search | passes over the events | exact, training | exact, held-out |\n| --- | --- | --- | --- |"
    )
    start = initial_parameters(settings)
    row("start", 0, train(start)[0], held_out(start)[0])
    began = time.perf_counter()
    by_gradient(settings, train, held_out, report=10)
    print(f"gradients: {time.perf_counter() - began:.0f} s", flush=True)
    for seed in given.seeds:
        for penalised in (True, False):
            began = time.perf_counter()
            by_search(settings, train, held_out, given.passes, given.sigma, seed, penalised)
            print(f"CMA-ES: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
