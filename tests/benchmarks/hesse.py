"""Why iminuit's HESSE is not the Hessian on the AGC's workspace: second derivatives by steps of several sizes.

Prints the uncertainty on ttbar_norm from the exact Hessian, from central and from HESSE-like one-sided differences,
and from HESSE itself at each strategy. Run from the repository: `.venv/bin/python tests/benchmarks/hesse.py`.
"""

import os
import sys
from pathlib import Path

from pipeline.runtime import environment

os.environ.update(environment())

import jax

jax.config.update("jax_enable_x64", True)

import iminuit
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from workspaces import agc_workspace

from pipeline.fit import fisher_information, fit
from pipeline.likelihood import HistFactory


def second_derivatives(function, point, steps, *, one_sided):
    """By differences; the mixed ones central, or from three values on one side as HESSE takes them."""
    here, moves = function(point), np.diag(steps)
    alone = [(function(point + m), function(point - m)) for m in moves]
    hessian = np.diag([(up - 2 * here + down) / s**2 for (up, down), s in zip(alone, steps, strict=True)])
    for i in range(len(point)):
        for j in range(i):
            a, b = moves[i], moves[j]
            if one_sided:
                mixed = function(point + a + b) + here - alone[i][0] - alone[j][0]
            else:
                corners = [s * t * function(point + s * a + t * b) for s in (1, -1) for t in (1, -1)]
                mixed = sum(corners) / 4
            hessian[i, j] = hessian[j, i] = mixed / (steps[i] * steps[j])
    return hessian


def hesse(function, point, bounds, strategy):
    minuit = iminuit.Minuit(function, point)
    minuit.errordef, minuit.strategy, minuit.limits = 1, strategy, [tuple(b) for b in bounds]
    minuit.migrad()
    minuit.hesse()
    return np.asarray(minuit.errors)


def main():
    model = HistFactory.from_workspace(agc_workspace())
    data, dense, poi = model.data(), model.dense(), model.poi_index
    best = np.asarray(jax.jit(lambda d: fit(model, d))(data).parameters)
    compiled = jax.jit(lambda p: -2 * model.logpdf(p, data, dense))
    exact = np.linalg.inv(np.asarray(fisher_information(model, jnp.asarray(best), data)))
    sigma = np.sqrt(np.diag(exact))

    def function(p):
        return float(compiled(jnp.asarray(p)))

    def uncertainty(second):
        return np.sqrt(np.linalg.inv(second / 2)[poi, poi])

    print(f"exact Hessian                      {sigma[poi]:.5f}\n")
    print("step in sigma      central      one-sided")
    for step in (1e-3, 1e-2, 1e-1, 0.3):
        both = [
            uncertainty(second_derivatives(function, best, step * sigma, one_sided=side))
            for side in (False, True)
        ]
        print(f"{step:13.3f}{both[0]:13.5f}{both[1]:15.5f}")
    print()
    for strategy in (0, 1, 2):
        errors = hesse(function, best, np.asarray(model.bounds), strategy)
        print(f"HESSE, strategy {strategy}             {errors[poi]:13.5f}")


if __name__ == "__main__":
    main()
