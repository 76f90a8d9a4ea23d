"""Toys a second, for the AGC's workspace: in lanes, one after the other, and pyhf's own fits of the same data.

Free fits on one core; seconds are CPU seconds, so that other programs on the machine count little. Also: how many fits
converged, how many have a lower minimum that the usual fit finds, and the floor, what the derivatives alone take.
Prints a table. From the repository: `.venv/bin/python tests/benchmarks/toys.py`.
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

from pipeline.runtime import environment

os.environ.update(environment())

import jax

jax.config.update("jax_enable_x64", True)

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pyhf

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from workspaces import AGC, agc_workspace, two_channels

from pipeline.evaluate.by_pyhf.state import minuit, pyhf_with
from pipeline.fit import fit
from pipeline.fit.many_fits import fits_of, fitting_at, saturated, starts
from pipeline.fit.newton import DEFAULTS, FitProblem, at_minimum, descend
from pipeline.fit.pool import LANES, FitQueue
from pipeline.fit.toys import drawn
from pipeline.likelihood import HistFactory
from pipeline.likelihood.lane_templates import lane_templates
from pipeline.likelihood.lanes import lanes_at

SAME = 1e-3  # in -2 ln L
TIMES = 300  # that derivatives are taken


def seconds_of(function, repetitions=3):
    """CPU seconds, the least of some repetitions, after one that compiles; and what it returns."""
    result, least = jax.block_until_ready(function()), np.inf
    for _ in range(repetitions):
        started = time.process_time()
        result = jax.block_until_ready(function())
        least = min(least, time.process_time() - started)
    return least, result


@eqx.filter_jit
def in_lanes(model, data):
    begin = starts(model, fitting_at(model, model.initial), data)
    number = jnp.arange(data.shape[0])
    return fits_of(model, FitQueue(data, number, begin, number < 0))


@eqx.filter_jit
def one_by_one(model, data):
    """What lanes were compared with before: a bounded Newton descent from the truth of each."""
    dense, fixed = model.dense(), model.fixed_parameters()

    def one(own):
        state = descend(FitProblem(model, dense, own, model.initial, fixed), DEFAULTS)
        return state.point.nll + saturated(model, own, dense), at_minimum(state, DEFAULTS)

    return jax.lax.map(one, data)


@eqx.filter_jit
def usual(model, data):
    """The usual fit, which looks for the lowest of several minima."""

    def one(own):
        found = fit(model, own)
        return 0.5 * found.twice_nll + saturated(model, own, model.dense()), found.converged

    return jax.lax.map(one, data)


@eqx.filter_jit
def derivatives(templates, points, data, times):
    """Gradient and Hessian of all lanes, so many times: the work of steps that no other method spares."""
    held, no = jnp.zeros(points.shape, dtype=bool), jnp.zeros(points.shape[1], dtype=bool)

    def again(at, _):
        found = lanes_at(templates, at, data, held, no)
        return points + 1e-9 * found.gradient[:1] + 1e-12 * found.hessian[:, 0, 0][None], None

    return jax.lax.scan(again, points, None, length=times)[0]


def by_pyhf(model, theirs, data, optimiser):
    """Seconds a fit, and -ln L above the saturated model; NaN where pyhf raised."""
    started, found = time.process_time(), []
    for own in data:
        try:
            with pyhf_with(optimiser):
                _, twice_nll = pyhf.infer.mle.fit(own.tolist(), theirs, return_fitted_val=True)
            found.append(float(twice_nll))
        except pyhf.exceptions.FailedMinimization:
            found.append(np.nan)
    seconds = (time.process_time() - started) / len(data)
    largest = np.asarray(jax.vmap(lambda own: saturated(model, own, model.dense()))(jnp.asarray(data)))
    return seconds, 0.5 * np.asarray(found) + largest


def row(name, seconds, fits, converged, reference, ours, lowest):
    """Print a line; the last column: fits that ended higher than the lowest that any of these found."""
    higher = "" if lowest is None else f"{int(np.sum(2 * (ours - lowest) > SAME)):6} of {lowest.size}"
    ratio = "" if reference is None else f"{reference / (seconds / fits):9.0f}x"
    print(f"{name:38}{fits / seconds:12.1f}{ratio:>10}{converged:>14}{higher:>14}")


def measured(name, workspace, options):
    model = HistFactory.from_workspace(workspace)
    theirs = pyhf.Workspace(workspace).model()
    data = drawn(model, np.asarray(model.initial), options.toys, (options.seed,))
    few, some = data[: options.pyhf], data[: options.usual]
    order = [theirs.config.par_names.index(n) for n in model.parameter_names] == [*range(model.initial.size)]
    assert order, "pyhf has the parameters in another order"
    lanes, found = seconds_of(lambda: in_lanes(model, jnp.asarray(data)))
    alone, descents = seconds_of(lambda: one_by_one(model, jnp.asarray(some)), 1)
    whole, searched = seconds_of(lambda: usual(model, jnp.asarray(some)), 1)
    peers = {
        "pyhf, numpy, minuit": by_pyhf(model, theirs, few, minuit()),
        "pyhf, numpy, scipy": by_pyhf(model, theirs, few, pyhf.optimize.scipy_optimizer()),
    }
    ours = np.asarray(found.nll)
    lowest = np.minimum(ours[: options.usual], np.asarray(searched[0]))
    lowest = np.minimum(lowest, np.asarray(descents[0]))
    reference = peers["pyhf, numpy, minuit"][0]
    print(f"\n{name}: {model.initial.size} parameters, {sum(model.bins)} bins, {options.toys} toys")
    print(f"{'':38}{'fits/s':>12}{'to pyhf':>10}{'converged':>14}{'not lowest':>14}")
    good = f"{int(found.converged.sum())} of {options.toys}"
    row("in lanes", lanes, options.toys, good, reference, ours[: options.usual], lowest)
    for label, spent, (nll, converged) in (
        ("one by one", alone, descents),
        ("with a search", whole, searched),
    ):
        good = f"{int(converged.sum())} of {options.usual}"
        row(label, spent, options.usual, good, reference, np.asarray(nll), lowest)
    for label, (spent, nll) in peers.items():
        good = f"{int(np.isfinite(nll).sum())} of {options.pyhf}"
        row(label, spent, 1, good, reference, nll, lowest[: options.pyhf])
    of_floor(model, data, lanes / options.toys, float(found.steps.mean()))


def of_floor(model, data, each, steps):
    """Print what the steps' derivatives alone take, at the truth and in lanes that are never idle."""
    templates = lane_templates(model, model.dense())
    points = jnp.tile(model.initial[:, None], (1, LANES))
    own = jnp.asarray(data[:LANES].T)
    many = seconds_of(lambda: derivatives(templates, points, own, TIMES))[0] / TIMES / LANES
    print(
        f"{steps:.2f} steps a fit, gradient and Hessian of one {1e6 * many:.1f} us: floor {1e6 * many * steps:.0f} of "
        f"{1e6 * each:.0f} us a fit, {1 / (many * steps):.0f} fits/s"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toys", type=int, default=2000)
    parser.add_argument("--usual", type=int, default=300, help="toys that are also fitted one by one")
    parser.add_argument("--pyhf", type=int, default=20, help="toys that pyhf fits, too")
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    print(
        f"machine: {platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__}, one thread, float64"
    )
    measured("two channels", two_channels(), options)
    if AGC.is_dir():
        measured("AGC", agc_workspace(), options)


if __name__ == "__main__":
    main()
