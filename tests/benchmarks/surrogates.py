"""Stages without a derivative: local surrogates against searches that need none, on the same budget of calls x draws.

The three-hump and the Rosenbrock problem of arXiv:2002.04632. Every method calls the stage with 3000 draws at a time;
what it has found after so many calls is judged by the true objective there, without noise.
Central differences step by 0.1
and go by Adam at 0.1, as in the paper's code; random search draws uniformly within the bounds; CMA-ES and Bayesian
optimisation are the packages cmaes and bayesian-optimization, in the group `benchmarks` of pyproject.toml. Prints a
table of medians; `--figure FILE` draws the curves. From the repository:
`.venv/bin/python tests/benchmarks/surrogates.py`.
"""

import argparse
import dataclasses
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

import bayes_opt
import cmaes
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import optax
import scipy.integrate
import scipy.special

from pipeline import config, optimise
from pipeline.analyses import rosenbrock, three_hump
from pipeline.cluster import InProcess
from pipeline.columns.make import make_columns
from pipeline.data import column_file, datasets
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.surrogate_calls import Calls
from pipeline.simulate import generate

ROOT = Path(__file__).parent.parent.parent
DRAWS = 3000
STEP, RATE = 0.1, 0.1  # of central differences
CMA_WIDTH = 0.5  # at the start
BAYESIAN_CALLS = 100  # more take it long: its model grows with the cube of the calls
COLOURS = {
    "local surrogates": "#4477aa",
    "central differences": "#ee6677",
    "CMA-ES": "#228833",
    "Bayesian optimisation": "#aa3377",
    "random search": "#bbbbbb",
}


class ThreeHump:
    """Its stage, and the truth by quadrature."""

    name, calls, best = "three_hump", 250, -0.858
    stage, events = three_hump.ThreeHump(), staticmethod(three_hump.events)

    @staticmethod
    def loss(drawn):
        return scipy.special.expit(drawn["y"] - 10) - scipy.special.expit(drawn["y"])

    @staticmethod
    def true(point):
        a, b = point
        h = three_hump.hump(a, b)
        smearing, weights = np.polynomial.hermite_e.hermegauss(40)
        weights = weights / weights.sum()

        def mean(x):
            return float(weights @ ThreeHump.loss({"y": x * h + np.sqrt(2) * smearing}))

        parts = [scipy.integrate.quad(mean, low, high)[0] / (high - low) for low, high in ((-2, 2), (0, 5))]
        share = abs(a) / (abs(a) + abs(b)) if a or b else 0.5
        return share * parts[0] + (1 - share) * parts[1]


class Rosenbrock:
    """Its stage, and the truth in closed form."""

    name, calls, best = "rosenbrock", 1500, 0.0
    stage, events = rosenbrock.Rosenbrock(), staticmethod(rosenbrock.events)

    @staticmethod
    def loss(drawn):
        return drawn["y"]

    @staticmethod
    def true(point):
        return rosenbrock.rosenbrock(np.asarray(point))


class Stage:
    """Calls with new draws each time, counted."""

    def __init__(self, task, seed):
        self.task, self.rng, self.calls = task, np.random.default_rng(seed), 0
        free = task.stage.parameters
        self.names = task.stage.simulated.parameters
        self.start = np.array([free[name].initial for name in self.names])
        self.low, self.high = np.array([free[name].bounds for name in self.names]).T

    def __call__(self, point):
        self.calls += 1
        events = self.task.events("", DRAWS, self.rng)
        drawn = self.task.stage.simulate(
            dict(zip(self.names, map(float, point), strict=True)), events, self.rng
        )
        return float(np.mean(self.task.loss(drawn)))

    @property
    def left(self):
        return self.task.calls - self.calls


def local_surrogates(task, seed):
    """The shipped configuration."""
    run = config.load(ROOT / "config" / f"{task.name}.yaml", [f"optimise.seed={seed}"])
    calls, found = 0, [(0, Stage(task, seed).start)]
    with tempfile.TemporaryDirectory() as folder:
        job = datasets.columns_jobs(run)[0]
        file = dataclasses.replace(job.files[0], path=f"{folder}/events.root")
        plan = run.simulate.samples["draws"]
        generate.generate(
            run.simulate.generator, "draws", Path(file.path), events=plan.events_per_file, seed=seed
        )
        path = Path(folder) / "draws.parquet"
        column_file.write(path, *make_columns(run, dataclasses.replace(job, files=(file,))))
        work = prepare_work(run, [("draws", path)], datasets.TRAIN)
        start = optimise.initial_state(run, initial_parameters(run))
        for state, record in optimise.each_epoch(
            run, InProcess(), work, start, until=run.optimise.epochs, calls=Calls(run)
        ):
            calls += record.surrogate.calls
            found.append(
                (calls, np.array([float(state.parameters[n]) for n in task.stage.simulated.parameters]))
            )
    return found


def central_differences(task, seed):
    stage = Stage(task, seed)
    point, found = stage.start, [(0, stage.start)]
    adam = optax.adam(RATE)
    memory = adam.init(point)
    units = STEP * np.eye(len(point))
    while stage.left >= 2 * len(point):
        slope = np.array([stage(point + unit) - stage(point - unit) for unit in units]) / (2 * STEP)
        step, memory = adam.update(slope, memory)
        point = np.clip(point + np.asarray(step), stage.low, stage.high)
        found.append((stage.calls, point))
    return found


def random_search(task, seed):
    stage = Stage(task, seed)
    best, found = stage(stage.start), [(1, stage.start)]
    while stage.left:
        point = stage.rng.uniform(stage.low, stage.high)
        value = stage(point)
        best, kept = min((best, 0), (value, 1))
        found.append((stage.calls, point if kept else found[-1][1]))
    return found


def cma_es(task, seed):
    stage = Stage(task, seed)
    bounds = np.stack([stage.low, stage.high], axis=1)
    search = cmaes.CMA(mean=stage.start, sigma=CMA_WIDTH, bounds=bounds, seed=seed)
    found = [(0, stage.start)]
    while stage.left >= search.population_size:
        asked = [search.ask() for _ in range(search.population_size)]
        search.tell([(point, stage(point)) for point in asked])
        found.append((stage.calls, search.mean.copy()))
    return found


def bayesian(task, seed):
    stage = Stage(task, seed)
    limits = dict(zip(stage.names, zip(stage.low, stage.high, strict=True), strict=True))
    search = bayes_opt.BayesianOptimization(f=None, pbounds=limits, random_state=seed, verbose=0)
    search.set_gp_params(alpha=1e-2)
    found = []
    for _ in range(min(task.calls, BAYESIAN_CALLS)):
        asked = search.suggest() if found else dict(zip(stage.names, stage.start, strict=True))
        search.register(params=asked, target=-stage([asked[name] for name in stage.names]))
        best = search.max["params"]
        found.append((stage.calls, np.array([best[name] for name in stage.names])))
    return found


METHODS = {
    "local surrogates": local_surrogates,
    "central differences": central_differences,
    "CMA-ES": cma_es,
    "Bayesian optimisation": bayesian,
    "random search": random_search,
}


def after(found, calls):
    """What was found with so many calls."""
    return [point for number, point in found if number <= calls][-1:]


def measured(task, seeds):
    """By method and seed: seconds, and (calls, true objective)."""
    curves = {}
    for name, method in METHODS.items():
        for seed in range(1, seeds + 1):
            started = time.perf_counter()
            found = method(task, seed)
            seconds = time.perf_counter() - started
            curves.setdefault(name, []).append((seconds, [(n, task.true(point)) for n, point in found]))
    return curves


def table(task, curves):
    budgets = [task.calls // 5, task.calls // 2, task.calls]
    print(f"\n{task.name}: true objective after so many calls of {DRAWS} draws; best is {task.best}")
    print(f"{'':24}" + "".join(f"{calls:>10}" for calls in budgets) + f"{'seconds':>10}")
    for name, runs in curves.items():
        cells = []
        for calls in budgets:
            there = [after(curve, calls) for _, curve in runs if curve[-1][0] >= 0.9 * calls]
            cells.append(f"{statistics.median(v[0] for v in there):10.3f}" if there else f"{'-':>10}")
        seconds = statistics.median(seconds for seconds, _ in runs)
        print(f"{name:24}" + "".join(cells) + f"{seconds:10.1f}")


def draw(results, path):
    mpl.rcParams.update({"svg.hashsalt": "thalweg", "font.size": 9, "svg.fonttype": "none"})
    figure, panels = plt.subplots(1, len(results), figsize=(8.4, 3.4), layout="constrained")
    for axes, (task, curves) in zip(panels, results, strict=True):
        for name, runs in curves.items():
            for number, (_, curve) in enumerate(runs):
                calls, values = zip(*curve, strict=True)
                axes.step(calls, values, where="post", color=COLOURS[name], linewidth=1, alpha=0.8,
                          label=name if not number else None)  # fmt: skip
        if task.best < 0:
            axes.axhline(task.best, color="black", linewidth=0.8)
        axes.set(title=task.name.replace("_", "-"), xlabel=f"calls of {DRAWS} draws", ylabel="true objective")
    panels[1].set(yscale="log", ylim=(0.005, 100))
    panels[1].legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    versions = (
        f"jax {jax.__version__}, cmaes {cmaes.__version__}, bayesian-optimization {bayes_opt.__version__}"
    )
    print(
        f"machine: {platform.machine()}, {os.cpu_count()} cores; {versions}; medians of {options.seeds} seeds"
    )
    results = [(task, measured(task, options.seeds)) for task in (ThreeHump, Rosenbrock)]
    for task, curves in results:
        table(task, curves)
    if options.figure:
        draw(results, options.figure)


if __name__ == "__main__":
    main()
