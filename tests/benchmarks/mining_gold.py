"""How many simulated events a likelihood ratio needs: the Galton board's estimators against its exact truth.

Networks of one size are trained on more and more balls by L-BFGS on the pipeline's own sweeps (``Loss``), all balls in
every gradient, and those parameters are kept that are best on a held-out fifth, which counts among the balls. The error
is the mean squared error of ``ln r(x|-0.8, -0.6)`` over ``x ~ p(x|-0.6)``, exact. Of several seeds it has the median.
From the repository: `.venv/bin/python tests/benchmarks/mining_gold.py --estimator carl` (`--help`).
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
import numpy as np
import scipy.optimize

from pipeline import config
from pipeline.analyses import galton
from pipeline.analysis import analysis_of
from pipeline.columns.make import make_columns
from pipeline.containers import Parameters
from pipeline.data import column_file, datasets, store
from pipeline.gradient.work import prepare_work
from pipeline.objective.likelihood_ratio import ESTIMATORS
from pipeline.optimise.own_loop import Loss
from pipeline.simulate.in_memory import as_files

CONFIG = Path(__file__).parent.parent.parent / "config/galton.yaml"
NUMERATOR = -0.8  # theta_0 at which the error is taken, as published
HELD_OUT = 0.2
OVERRIDES = (
    "simulate=null",
    "model={}",
    "evaluate={}",
    "channels={loss: {in_fit: false}, balls: {in_fit: false}}",
    f"data.held_out_fraction={HELD_OUT}",
    "cluster={precision: float64, executor: in_process, chunk_events: 8192, group_events: 32768}",
)


def samples_of(estimator, balls):
    """How many balls of each sample: a score is learned at the reference alone."""
    if ESTIMATORS[estimator].ratio is None:
        return {"reference": balls}
    return {"numerator": balls // 2, "reference": balls // 2}


def losses(estimator, balls, seed, folder):
    """The losses of training and of held-out balls."""
    sizes = samples_of(estimator, balls)
    rngs = np.random.SeedSequence((seed, balls)).spawn(2)
    made = {
        sample: galton.events(sample, size, np.random.default_rng(rng))
        for (sample, size), rng in zip(sizes.items(), rngs, strict=False)
    }
    manifest = as_files(made, folder, "Events")
    samples = ", ".join(f"{sample}: {{cross_section_pb: 1}}" for sample in sizes)
    run = config.load(
        CONFIG,
        [
            *OVERRIDES,
            f"analysis.options={{estimator: {estimator}}}",
            f"data.manifest={manifest}",
            f"data.samples={{{samples}}}",
            f"optimise.seed={seed}",
        ],
    )
    files = []
    for job in datasets.columns_jobs(run):
        path = folder / f"{job.name}.parquet"
        column_file.write(path, *make_columns(run, job))
        files.append((job.sample, path))
    train = Loss.of(run, files)
    with jax.enable_x64(True):
        return run, train, train._replace(work=prepare_work(run, files, datasets.HELD_OUT))


def trained(train, held_out, evaluations, every):
    """Parameters that are best on held-out balls, on the way that L-BFGS takes."""
    names = list(train.initial)
    shapes = {name: np.shape(train.initial[name]) for name in names}
    ends = np.cumsum([int(np.prod(shapes[name])) for name in names])

    def named(vector):
        parts = zip(names, np.split(vector, ends[:-1]), strict=True)
        return {name: part.reshape(shapes[name]) for name, part in parts}

    def loss(vector):
        value, gradient = train.value_and_grad(named(vector))
        return value, np.concatenate([np.ravel(gradient[name]) for name in names])

    start = np.concatenate([np.ravel(train.initial[name]) for name in names])
    best, steps = [held_out.exact(named(start)), start], [0]

    def look(vector):
        steps[0] += 1
        if steps[0] % every == 0 and (found := held_out.exact(named(vector))) < best[0]:
            best[:] = [found, vector.copy()]

    scipy.optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", callback=look,
        options={"maxfun": evaluations, "maxiter": evaluations, "maxcor": 30},
    )  # fmt: skip
    return named(best[1])


def estimated(run, parameters):
    """The estimated ``ln r(x|NUMERATOR, REFERENCE)`` of every nail; of a score the local model's, normalised.

    The normalisation is the mean of ``exp(s difference)`` at the reference, which takes the true distribution of x.
    """
    analysis = analysis_of(run)
    with jax.enable_x64(True):
        x = 2 * np.arange(galton.NAILS) / (galton.NAILS - 1) - 1
        found = analysis.estimate(Parameters(parameters), x, np.full(galton.NAILS, NUMERATOR)).log_ratio
        p = np.asarray(galton.distribution(galton.REFERENCE))
    found = np.asarray(found)
    return found - np.log(np.sum(p * np.exp(found))) if analysis.of_score else found


def error(found):
    """Mean squared error over x at the reference."""
    with jax.enable_x64(True):
        p = np.asarray(galton.distribution(galton.REFERENCE))
    there = p > 0
    return float(np.sum(p[there] * (found - galton.log_ratio(NUMERATOR))[there] ** 2))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--estimator", choices=ESTIMATORS, default="carl")
    parser.add_argument("--balls", type=int, nargs="+", default=[500, 2000, 8000, 32000])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=150, help="of the training loss, at most")
    parser.add_argument(
        "--every", type=int, default=5, help="steps from one look at held-out balls to the next"
    )
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__}")
    print(f"{options.estimator}: medians of {options.seeds} seeds")
    print(f"{'balls':>8}{'error':>12}{'lowest':>12}{'highest':>12}{'CPU s':>9}")
    numbers = {}
    for balls in options.balls:
        found, started = [], time.process_time()
        for seed in range(1, options.seeds + 1):
            with tempfile.TemporaryDirectory() as folder:
                run, train, held_out = losses(options.estimator, balls, seed, Path(folder))
                found.append(estimated(run, trained(train, held_out, options.evaluations, options.every)))
        errors, spent = [error(each) for each in found], time.process_time() - started
        middle = statistics.median(errors)
        print(f"{balls:>8}{middle:>12.3g}{min(errors):>12.3g}{max(errors):>12.3g}{spent:>9.1f}", flush=True)
        numbers |= {f"{balls}": middle, f"{balls}.lowest": min(errors), f"{balls}.highest": max(errors)}
        of_median = found[errors.index(statistics.median_low(errors))]
        there = np.isfinite(galton.log_ratio(NUMERATOR))
        numbers |= {f"{balls}.log_ratio.{n}": float(of_median[n]) for n in np.flatnonzero(there)}
    if options.output:
        store.write_json(options.output, numbers)


if __name__ == "__main__":
    main()
