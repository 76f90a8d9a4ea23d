"""What small batches do to a loss that is a fitted uncertainty: what it claims, and what held-out events say.

INFERNO's problem, benchmark 2 (`config/inferno.yaml`): each step sees so many events of each class, drawn from 100 000
for training; "claimed" is the loss on the last batches, "true" the exact number on 400 000 held-out events. Prints a
table. From the repository: `.venv/bin/python tests/benchmarks/batches.py` (`--help` for the settings).
"""

import argparse
import math
import os
import platform
import statistics
import time
from pathlib import Path

from pipeline.runtime import environment

os.environ.update(environment())

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
import optax

from pipeline import config, problem, workspace
from pipeline.analyses import inferno
from pipeline.containers import Columns, Templates
from pipeline.likelihood import HistFactory
from pipeline.objective import Term, total
from pipeline.templates import Recipe, fill

ROOT = Path(__file__).parent.parent.parent
SAMPLES = {"background": 1000.0, "signal": 1.0}
TRAINING, HELD_OUT = 100_000, 400_000
LAST = 20  # batches that the claim is a mean of


def events(sample, number, seed):
    """Columns of generated events in single precision."""
    made = inferno.events(sample, number, np.random.default_rng((seed, sample == "signal")))
    label = np.full(number, float(sample == "signal"))
    return {name: np.asarray(a, dtype=np.float32) for name, a in {**made, "label": label}.items()}


def objective_of(run, linear):
    """(parameters, columns of both samples, widths) -> the uncertainty on s; traced as one program."""
    axes = workspace.axes(run, problem.analysis(run).variation_names)
    binnings = problem.binnings(run)
    varied = Recipe(problem.analysis(run), binnings, axes.variations[1:], linear)
    shape = len(axes.samples), len(axes.variations)
    ones = Templates(
        {b.channel: np.ones((*shape, b.bins)) for b in binnings},
        {b.channel: np.ones((shape[0], b.bins)) for b in binnings},
    )
    model = HistFactory.from_workspace(
        workspace.structure(ones, axes, run), constraint_widths=run.model.constraint_widths, check=False
    )

    def templates(parameters, columns, widths):
        rows = []
        for sample, yields in SAMPLES.items():
            own = columns[sample]
            weight = jnp.full_like(own["x0"], yields / len(own["x0"]))
            recipe = varied if sample == "background" else varied._replace(variations=())
            rows.append(fill(recipe, parameters, Columns({**own, "weight": weight}), widths))
        missing = len(axes.variations) - 1
        padded = {
            name: jnp.stack([rows[0].yields[name], jnp.pad(rows[1].yields[name], ((0, missing), (0, 0)))])
            for name in rows[0].yields
        }
        sumw2 = {name: jnp.stack([row.sumw2[name] for row in rows]) for name in padded}
        return Templates(padded, sumw2)

    def value(parameters, columns, widths):
        found = templates(parameters, columns, widths)
        spec = workspace.specification(found, axes, run)
        return total(model, spec, objective=Term(run.objective.kind))[0]

    return value


def train(run, batch, seconds, seed, rate):
    """Claimed and true uncertainty after so many seconds of steps; steps, those without a fit, seconds."""
    data = {sample: events(sample, TRAINING, seed) for sample in SAMPLES}
    judge = {sample: events(sample, HELD_OUT, 10_000 + seed) for sample in SAMPLES}
    widths = jax.tree.map(lambda a: jnp.asarray(a, dtype=jnp.float32), problem.widths(run, 0))
    loss = jax.jit(jax.value_and_grad(objective_of(run, linear=run.optimise.shifts == "derivatives")))
    by_templates = objective_of(run, linear=False)
    exact = jax.jit(lambda p, c: by_templates(p, c, None))
    found = problem.analysis(run)
    parameters = {n: jnp.asarray(a, jnp.float32) for n, a in found.init(jax.random.key(seed)).items()}
    rng = np.random.default_rng(seed)

    def drawn():
        if batch >= TRAINING:
            return data
        chosen = {sample: rng.integers(0, TRAINING, batch) for sample in SAMPLES}
        return {s: {n: a[chosen[s]] for n, a in columns.items()} for s, columns in data.items()}

    jax.block_until_ready(loss(parameters, drawn(), widths))
    started = time.perf_counter()
    jax.block_until_ready(loss(parameters, drawn(), widths))
    steps = max(LAST, int(seconds / (time.perf_counter() - started)))
    optimiser = optax.adam(optax.cosine_decay_schedule(rate, steps, alpha=0.01))
    state, claims = optimiser.init(parameters), []
    started = time.perf_counter()
    for _ in range(steps):
        value, gradient = loss(parameters, drawn(), widths)
        if not np.isfinite(value) or not all(np.all(np.isfinite(g)) for g in gradient.values()):
            continue  # a small batch may leave a bin without any background
        change, state = optimiser.update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, change)
        claims.append(float(value))
    spent = time.perf_counter() - started
    claimed = statistics.mean(claims[-LAST:]) if claims else math.nan
    return claimed, float(exact(parameters, judge)), steps, steps - len(claims), spent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=["inferno", "inferno_summary"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1000, 2000, 20_000, TRAINING])
    parser.add_argument("--seconds", type=float, default=60, help="of training, for each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=0.003)
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__}")
    print(f"medians of {options.seeds} seeds; Adam, learning rate {options.learning_rate:g}, cosine decay")
    print(
        f"{'run':<18}{'events per class':>22}{'steps':>8}{'no fit':>8}{'s':>6}{'claimed':>10}{'true':>10}{'worst':>10}"
    )
    for name in options.configs:
        run = config.load(ROOT / "config" / f"{name}.yaml")
        for batch in options.batches:
            rows = [
                train(run, batch, options.seconds, seed, options.learning_rate)
                for seed in range(1, options.seeds + 1)
            ]
            claimed, true, steps, failed, spent = (statistics.median(v) for v in zip(*rows, strict=True))
            worst = max(row[1] for row in rows)
            print(
                f"{name:<18}{batch:>22}{steps:>8.0f}{failed:>8.0f}{spent:>6.0f}{claimed:>10.2f}{true:>10.2f}{worst:>10.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
