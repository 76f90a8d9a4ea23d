"""Our minimum against those of Minuit from several starts, on random workspaces of many kinds.

Both minimise the same function, ours, whose equality with pyhf's is tested elsewhere. A kind is one structure, compiled
once, with random numbers. Prints for each kind how many converged, what the others said ("-": with yields below zero),
steps, and how often and by how much Minuit found less. From the repository:
`.venv/bin/python tests/benchmarks/lowest_minimum.py`.
"""

import argparse
import collections
import os
import sys
import time
from pathlib import Path

from pipeline.runtime import environment

os.environ.update(environment())

import iminuit
import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from workspaces import modifier, workspace_of

from pipeline.fit import FitStatus, fit
from pipeline.likelihood import HistFactory

HIGHER = 1e-4  # in -2 ln L


def shape(name, data, high, low):
    return modifier(
        name, "histosys", {"hi_data": (data * (1 + high)).tolist(), "lo_data": (data * (1 + low)).tolist()}
    )


def built(rng, background, signal, modifiers, *, held=None, pull=1.0):
    """One channel; Poisson data of a background that its shape systematics have moved."""
    entries = [
        {"name": "s", "data": signal.tolist(), "modifiers": [modifier("mu", "normfactor")]},
        {"name": "b", "data": background.tolist(), "modifiers": modifiers},
    ]
    truth = np.maximum(
        background * (1 + pull * 0.2 * rng.normal(size=background.size)) + rng.uniform(0, 2) * signal, 0.01
    )
    return workspace_of([{"name": "c", "samples": entries}], {"c": rng.poisson(truth).astype(float).tolist()})


def parts(rng, bins=4, scale=60.0):
    place = np.linspace(0, 1, bins)
    return scale * rng.uniform(0.3, 1.5, bins), 0.2 * scale * np.exp(
        -0.5 * ((place - rng.uniform()) / 0.2) ** 2
    )


def stat(background, relative=0.1):
    return modifier("stat", "staterror", (relative * background).tolist())


def one_sided(rng):
    b, s = parts(rng)
    up = 0.3 * rng.normal(size=b.size)
    return built(rng, b, s, [shape("h", b, up, up)])


def one_sided_with_gammas(rng):
    b, s = parts(rng)
    up = 0.3 * rng.normal(size=b.size)
    return built(rng, b, s, [shape("h", b, up, up), shape("k", b, -up, 0.1 * up), stat(b)])


def nearly_degenerate(rng):
    b, s = parts(rng)
    up = 0.3 * rng.normal(size=b.size)
    other = up + 1e-4 * rng.normal(size=b.size)
    return built(rng, b, s, [shape("h", b, up, -up), shape("k", b, other, -other)])


def degenerate_and_bent(rng):
    b, s = parts(rng)
    up, down = 0.4 * rng.normal(size=(2, b.size))
    return built(rng, b, s, [shape("h", b, up, down), shape("k", b, up, down), stat(b)])


def empty_below(rng):
    b, s = parts(rng)
    return built(rng, b, s, [shape("h", b, rng.uniform(0, 1, b.size), np.full(b.size, -1.0)), stat(b)])


def norm_both_up(rng):
    b, s = parts(rng)
    sides = {"hi": 1 + rng.uniform(0.05, 0.5), "lo": 1 + rng.uniform(0.05, 0.5)}
    return built(rng, b, s, [modifier("n", "normsys", sides), stat(b, 0.03)])


def empty_bins(rng):
    b, s = parts(rng, scale=4.0)
    b[rng.integers(b.size)] = 0.0
    up = 0.3 * rng.normal(size=b.size)
    return built(rng, b, s, [shape("h", b, up, -0.7 * up), stat(b, 0.3)])


def tiny_yields(rng):
    b, s = parts(rng, scale=0.3)
    up, down = 0.5 * rng.normal(size=(2, b.size))
    return built(
        rng, b, s, [shape("h", b, up, down), modifier("n", "normsys", {"hi": 1.4, "lo": 0.7}), stat(b, 0.5)]
    )


def huge_yields(rng):
    b, s = parts(rng, scale=1e8)
    up, down = 1e-3 * rng.normal(size=(2, b.size))
    return built(rng, b, s, [shape("h", b, up, down), stat(b, 1e-4)], pull=1e-3)


def strong_shapes(rng):
    b, s = parts(rng)
    modifiers = [shape(f"h{k}", b, *(0.6 * rng.normal(size=(2, b.size)))) for k in range(4)]
    return built(rng, b, s, [*modifiers, stat(b)], pull=2.0)


def shapesys(rng):
    b, s = parts(rng)
    up = 0.3 * rng.normal(size=b.size)
    modifiers = [shape("h", b, up, 0.5 * up), modifier("own", "shapesys", (0.3 * b).tolist()), stat(b, 0.2)]
    return built(rng, b, s, modifiers)


def without_signal(rng):
    b, s = parts(rng)
    up, down = 0.3 * rng.normal(size=(2, b.size))
    return built(rng, b, 0.0 * s, [shape("h", b, up, down), stat(b)])


def free_norms(rng):
    b, s = parts(rng)
    up, down = 0.3 * rng.normal(size=(2, b.size))
    return built(rng, b, s, [modifier("k", "normfactor"), modifier("n", "normsys", {"hi": 1.2, "lo": 0.8}),
                             shape("h", b, up, down)])  # fmt: skip


def negative_templates(rng):
    b, s = parts(rng, scale=5.0)
    up, down = 1.2 * rng.normal(size=(2, b.size))
    return built(rng, b, s, [shape("h", b, up, down), stat(b, 0.3)])


KINDS = (one_sided, one_sided_with_gammas, nearly_degenerate, degenerate_and_bent, empty_below, norm_both_up,
         empty_bins, tiny_yields, huge_yields, strong_shapes, shapesys, without_signal, free_norms,
         negative_templates)  # fmt: skip


def minuit(function, slope, model, rng, starts):
    """The lowest of Minuit's minima from the initial parameters and from random ones."""
    bounds, initial, fixed = (np.asarray(v) for v in (model.bounds, model.initial, model.fixed))
    lowest, where = np.inf, initial
    for number in range(starts):
        start = np.clip(initial + (number > 0) * rng.normal(size=initial.size), bounds[:, 0], bounds[:, 1])
        start = np.where(fixed, initial, start)
        fitted = iminuit.Minuit(lambda p: np.nan_to_num(float(function(p)), nan=1e15, posinf=1e15), start,
                                grad=lambda p: np.nan_to_num(np.asarray(slope(p))))  # fmt: skip
        fitted.limits, fitted.tol, fitted.strategy = bounds.tolist(), 1e-3, 1
        for place in np.flatnonzero(fixed):
            fitted.fixed[int(place)] = True
        fitted.migrad(ncall=5000)
        if fitted.fval < lowest:
            lowest, where = fitted.fval, np.asarray(fitted.values)
    return lowest, where


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=22)
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--kinds", nargs="*", default=[])
    options = parser.parse_args()
    ours = jax.jit(lambda m: fit(m, m.data()))
    function = jax.jit(lambda p, m: -2 * m.logpdf(p, m.data()))
    slope = jax.jit(lambda p, m: jax.grad(lambda q: -2 * m.logpdf(q, m.data()))(p))
    rates = jax.jit(lambda p, m: m.expected_data(p, include_auxdata=False))
    print(
        f"{'':24}{'converged':>10}{'steps, most':>12}{'higher':>8}{'by':>10}{'of these converged':>19}   others"
    )
    for kind in KINDS:
        if options.kinds and kind.__name__ not in options.kinds:
            continue
        said, gaps, steps, wrong = collections.Counter(), [], [], 0
        started = time.process_time()
        for number in range(options.each):
            rng = np.random.default_rng([options.seed, number])
            model = HistFactory.from_workspace(kind(rng), check=False)
            found = ours(model)
            said[FitStatus(int(found.status)).name + ("-" if bool(found.negative.any()) else "")] += 1
            steps.append(int(found.steps))
            lowest, where = minuit(lambda p, m=model: function(p, m), lambda p, m=model: slope(p, m), model, rng,
                                   options.starts)  # fmt: skip
            if float(found.twice_nll) > lowest + HIGHER and rates(where, model).min() >= 0:
                gaps.append(float(found.twice_nll) - lowest)
                wrong += bool(found.converged)
                print(
                    f"   {number}: ours {float(found.twice_nll):.6f}, Minuit {lowest:.6f}, "
                    f"{found.describe(model.parameter_names)}"
                    f"\n      {np.round(found.parameters, 3)}\n      {np.round(where, 3)}"
                )
        good = said.pop("CONVERGED", 0)
        print(f"{kind.__name__:24}{good:4} of {options.each:2}{max(steps):12}{len(gaps):8}{max(gaps, default=0):10.2g}"
              f"{wrong:19}   {dict(said)} {time.process_time() - started:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
