"""What fits and their derivatives cost: against pyhf with iminuit on the same workspaces, and what compiling takes.

Prints a table; medians of several repetitions, pyhf's of fewer. The AGC's workspace is made from the reference
histograms in ../shared/data and left out where they are not. Run from the repository:
`.venv/bin/python tests/benchmarks/inference.py`.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from pathlib import Path

from pipeline.runtime import environment

os.environ.update(environment())

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
import pyhf

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from workspaces import AGC, agc_workspace, modifier, workspace_of

from pipeline.fit import fit, fit_with_covariance
from pipeline.fit.hypotest import q_tilde
from pipeline.likelihood import HistFactory
from pipeline.objective import OBJECTIVES, Inputs, value_of


def median(function, repetitions):
    seconds = []
    for _ in range(repetitions):
        started = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def shapes(samples, systematics, bins, *, staterror):
    """A falling background in several samples, each with shape systematics of its own, and a peaking signal."""
    rng = np.random.default_rng(1)
    place = (np.arange(bins) + 0.5) / bins
    content = [("s", 30 * np.exp(-0.5 * ((place - 0.6) / 0.1) ** 2))]
    content += [(f"b{i}", 400 / samples * np.exp(-(1 + i) * place)) for i in range(samples - 1)]
    entries = []
    for name, data in content:
        modifiers = [modifier("mu", "normfactor")] if name == "s" else []
        for k in range(systematics if name == "b0" else 0):
            tilt = 0.05 * rng.normal() * (place - 0.5) + 0.02 * rng.normal() * np.sin(5 * (k + 1) * place)
            sides = {"hi_data": (data * (1 + tilt)).tolist(), "lo_data": (data * (1 - tilt)).tolist()}
            modifiers.append(modifier(f"shape{k}", "histosys", sides))
        if staterror:
            modifiers.append(modifier("stat", "staterror", (0.05 * data).tolist()))
        entries.append({"name": name, "data": data.tolist(), "modifiers": modifiers})
    total = np.sum([data for _, data in content], axis=0)
    return workspace_of([{"name": "c", "samples": entries}], {"c": np.round(total).tolist()})


def q_mu(model):
    """Value and gradient in all templates of q~_mu on the observed data: a free and a conditional fit."""
    data = model.data()
    return jax.jit(jax.value_and_grad(lambda templates: q_tilde(model, data, 1.5, model.dense(templates))[0]))


def of_test_statistic(name, workspace, repetitions):
    model = HistFactory.from_workspace(workspace)
    function = q_mu(model)
    started = time.perf_counter()
    compiled = function.lower(model.templates).compile()
    compiling = time.perf_counter() - started
    seconds = median(lambda: compiled(model.templates), repetitions)
    number = len(model.parameter_names)
    print(f"{name:34}{number:7}{sum(model.bins):6}{compiling:9.1f} s{seconds * 1e3:10.2f} ms")


def of_objectives(name, workspace, repetitions):
    model = HistFactory.from_workspace(workspace)
    for kind, objective in OBJECTIVES.items():
        if objective.of_sums or kind == "weighted_sum":
            continue
        function = jax.jit(
            jax.value_and_grad(lambda t, kind=objective: value_of(kind(), Inputs(model, t)).value)
        )
        started = time.perf_counter()
        compiled = function.lower(model.templates).compile()
        compiling = time.perf_counter() - started
        seconds = median(lambda c=compiled: c(model.templates), repetitions)
        print(f"{kind:34}{name:>13}{compiling:9.1f} s{seconds * 1e3:10.2f} ms")


def of_fits(name, workspace, repetitions):
    model = HistFactory.from_workspace(workspace)
    data = model.data()
    ours = jax.jit(lambda d: fit_with_covariance(model, d, [model.poi_index]))
    jax.block_until_ready(ours(data))
    seconds = median(lambda: ours(data), repetitions)
    content = pyhf.Workspace(workspace)
    theirs, observed = content.model(), content.data(content.model())
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer())
    peer = median(lambda: pyhf.infer.mle.fit(observed, theirs, return_uncertainties=True), 3)
    print(f"{name:34}{seconds * 1e3:10.2f} ms{peer * 1e3:12.1f} ms{peer / seconds:9.0f}x")


def of_toys(name, workspace, toys, repetitions):
    model = HistFactory.from_workspace(workspace)
    truth, bins = model.initial, sum(model.bins)
    expected = np.asarray(model.expected_data(truth))
    rng = np.random.default_rng(3)
    drawn = np.tile(expected, (toys, 1))
    drawn[:, :bins] = rng.poisson(expected[:bins], (toys, bins))
    data = jnp.asarray(drawn)
    one = jax.jit(lambda d: fit(model, d))
    ways = {
        "vmap": jax.jit(jax.vmap(lambda d: fit(model, d))),
        "lax.map": jax.jit(lambda ds: jax.lax.map(lambda d: fit(model, d), ds)),
    }
    jax.block_until_ready(one(data[0]))
    looped = toys / median(lambda: [one(d) for d in data], 3)
    print(f"{name:34}{'loop':>10}{looped:10.0f} fits/s")
    for way, batch in ways.items():
        good = int(jnp.sum(jax.block_until_ready(batch(data)).converged))
        together = toys / median(lambda batch=batch: batch(data), max(3, repetitions // 5))
        print(
            f"{name:34}{way:>10}{together:10.0f} fits/s{together / looped:8.2f}x   {good} of {toys} converged"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--toys", type=int, default=1000)
    options = parser.parse_args()
    print(
        f"machine: {platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__}, one thread, float64"
    )
    print(f"medians of {options.repetitions} repetitions\n")
    workspaces = {
        "2 samples, 5 histosys": shapes(2, 5, 10, staterror=False),
        "5 samples, 9 histosys, staterror": shapes(5, 9, 50, staterror=True),
    }
    if AGC.is_dir():
        workspaces["AGC"] = agc_workspace()
    print(f"{'q_mu, value and gradient':34}{'params':>7}{'bins':>6}{'compile':>11}{'warm':>13}")
    for name, workspace in workspaces.items():
        of_test_statistic(name, workspace, options.repetitions)
    print(f"\n{'free fit and Hessian':34}{'ours':>13}{'pyhf+iminuit':>15}{'ratio':>10}")
    for name, workspace in workspaces.items():
        of_fits(name, workspace, options.repetitions)
    print(f"\n{'objective, value and gradient':34}{'':13}{'compile':>11}{'warm':>13}")
    of_objectives(name, workspace, options.repetitions)
    print(f"\nfits of {options.toys} toys")
    of_toys(name, workspace, options.toys, options.repetitions)


if __name__ == "__main__":
    main()
