"""What small batches do to a loss that is a fitted uncertainty: what it claims, and what held-out events say.

INFERNO's problem, benchmark 2 (`config/inferno.yaml`): each step sees so many events of each class, drawn from 100 000
for training; "claimed" is the loss on the last batches, "true" the exact number on 400 000 held-out events. `--paper`
is the recipe of the paper instead: plain gradient descent on the variance, 200 passes in batches of 1000. Prints a
table, and writes it as named numbers. From the repository: `.venv/bin/python tests/benchmarks/batches.py` (`--help`).
"""

import argparse
import math
import os
import platform
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from pipeline.config import Objective
from pipeline.runtime import environment

os.environ.update(environment())

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
import optax

from pipeline import config
from pipeline.analyses import inferno
from pipeline.analysis import analysis_of
from pipeline.containers import Columns, Templates
from pipeline.data import store
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.objective import Inputs, total
from pipeline.optimise.schedule import widths_at
from pipeline.templates.axes import axes_of
from pipeline.templates.binning import binnings_of
from pipeline.templates.fill import EXACT, Recipe, fill

ROOT = Path(__file__).parent.parent.parent
SAMPLES = {"background": 1000.0, "signal": 1.0}
TRAINING, HELD_OUT = 100_000, 400_000
LAST = 20  # batches that the claim is a mean of
SETTINGS = {  # configuration and overrides
    "softmax, templates": ("inferno", []),
    "softmax, derivatives": ("inferno", ["optimise.shifts=derivatives"]),
    "one output, derivatives": ("inferno_summary", ["optimise.shifts=derivatives"]),
    "narrow kernel, derivatives": (
        "inferno_summary",
        ["optimise.shifts=derivatives", "channels.output.bandwidth={initial: 0.02, final: 0.02}"],
    ),
}


class Training(NamedTuple):
    """How the steps are made: Adam with a falling rate on the uncertainty; or as in the paper, see `--paper`."""

    batch: int
    rate: float
    passes: int
    paper: bool = False

    @property
    def steps(self):
        """Number of updates."""
        return self.passes * TRAINING // self.batch

    @property
    def objective(self):
        """What is minimised."""
        return "inferno" if self.paper else "poi_uncertainty"

    @property
    def optimiser(self):
        """The optimiser for all steps."""
        if self.paper:
            return optax.sgd(self.rate)
        return optax.adam(optax.cosine_decay_schedule(self.rate, self.steps, alpha=0.01))


PAPER = Training(batch=1000, rate=1e-6, passes=200, paper=True)


def events(sample, number, seed):
    """Columns of generated events in single precision."""
    made = inferno.events(sample, number, np.random.default_rng((seed, sample == "signal")))
    label = np.full(number, float(sample == "signal"))
    return {name: np.asarray(a, dtype=np.float32) for name, a in {**made, "label": label}.items()}


def objective_of(run, kind, *, linear):
    """(parameters, columns of both samples, widths) -> the uncertainty on s, or its square; traced as one program."""
    axes = axes_of(run, analysis_of(run).variation_names)
    binnings = binnings_of(run)
    varied = Recipe(analysis_of(run), binnings, axes.variations[1:], linear)
    specifier = Specifier(run, axes, {binning.channel: binning.bins for binning in binnings})

    def templates(parameters, columns, mode):
        rows = []
        for sample, yields in SAMPLES.items():
            own = columns[sample]
            weight = jnp.full_like(own["x0"], yields / len(own["x0"]))
            recipe = varied if sample == "background" else varied._replace(variations=())
            rows.append(fill(recipe, parameters, Columns({**own, "weight": weight}), mode))
        missing = len(axes.variations) - 1
        padded = {
            name: jnp.stack([rows[0].yields[name], jnp.pad(rows[1].yields[name], ((0, missing), (0, 0)))])
            for name in rows[0].yields
        }
        sumw2 = {name: jnp.stack([row.sumw2[name] for row in rows]) for name in padded}
        return Templates(padded, sumw2)

    def value(parameters, columns, mode):
        found = templates(parameters, columns, mode)
        stacked = specifier.stacked(specifier.side_by_side(found))
        return total(Objective(kind=kind), Inputs(specifier.model, stacked))[0]

    return value


def train(run, training, seed):
    """Claimed and true uncertainty after training; steps, those without a fit, seconds."""
    data = {sample: events(sample, TRAINING, seed) for sample in SAMPLES}
    judge = {sample: events(sample, HELD_OUT, 10_000 + seed) for sample in SAMPLES}
    widths = jax.tree.map(lambda a: jnp.asarray(a, dtype=jnp.float32), widths_at(run, 0))
    linear = run.optimise.shifts == "derivatives"
    loss = jax.jit(jax.value_and_grad(objective_of(run, training.objective, linear=linear)))
    by_templates = objective_of(run, "poi_uncertainty", linear=False)
    exact = jax.jit(lambda p, c: by_templates(p, c, EXACT))
    found = analysis_of(run)
    parameters = {n: jnp.asarray(a, jnp.float32) for n, a in found.init(jax.random.key(seed)).items()}
    rng = np.random.default_rng(seed)

    def drawn():
        chosen = {sample: rng.integers(0, TRAINING, training.batch) for sample in SAMPLES}
        return {s: {n: a[chosen[s]] for n, a in columns.items()} for s, columns in data.items()}

    jax.block_until_ready(loss(parameters, drawn(), widths))  # compiles
    optimiser = training.optimiser
    state, claims = optimiser.init(parameters), []
    started = time.perf_counter()
    for _ in range(training.steps):
        value, gradient = loss(parameters, drawn(), widths)
        if not np.isfinite(value) or not all(np.all(np.isfinite(g)) for g in gradient.values()):
            continue  # a small batch may leave a bin without any background
        change, state = optimiser.update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, change)
        claims.append(float(value))
    spent = time.perf_counter() - started
    claimed = statistics.mean(claims[-LAST:]) if claims else math.nan
    if training.paper:
        claimed = math.sqrt(claimed)
    true = float(exact(parameters, judge))
    failed = training.steps - len(claims)
    return {"claimed": claimed, "true": true, "steps": training.steps, "no_fit": failed, "seconds": spent}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1000, 2000, 20_000])
    parser.add_argument("--passes", type=int, default=60, help="through the training events, for each")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=0.001)
    parser.add_argument("--paper", action="store_true", help="the recipe of the paper alone, with a softmax")
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__}")
    print(f"medians of {options.seeds} seeds")
    columns = ("steps", "no_fit", "seconds", "claimed", "true")
    print(f"{'setting':<26}{'events per class':>18}" + "".join(f"{name:>10}" for name in columns))
    trainings = [Training(n, options.learning_rate, options.passes) for n in options.batches]
    numbers = {}
    for setting in options.settings[: 1 if options.paper else None]:
        name, overrides = SETTINGS[setting]
        run = config.load(ROOT / "config" / f"{name}.yaml", overrides)
        for training in [PAPER] if options.paper else trainings:
            rows = [train(run, training, seed) for seed in range(1, options.seeds + 1)]
            medians = {column: statistics.median(row[column] for row in rows) for column in columns}
            shown = "".join(f"{medians[column]:>10.4g}" for column in columns)
            print(f"{setting:<26}{training.batch:>18}{shown}", flush=True)
            numbers |= {f"{setting}.{training.batch}.{column}": v for column, v in medians.items()}
    if options.output:
        store.write_json(options.output, numbers)


if __name__ == "__main__":
    main()
