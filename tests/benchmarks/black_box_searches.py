"""Searches that a user would pick instead of gradients: each minimises a function of a point in the unit box.

A search is given the function, the start, how often it may call it, and a seed. The function ends the search by
``OverBudget`` at the first call beyond that. Optuna, pycma and SciPy, with their defaults unless said otherwise.
"""

import importlib
import itertools
import warnings

import numpy as np
import scipy.optimize
from scipy.stats import qmc

SIGMA = 0.25  # of the range: pycma's advice for an optimum that is somewhere in it
PER_PARAMETER, MOST = (
    15,
    60,
)  # SciPy's population for differential evolution, and what a small budget leaves of it
NEXT_SEED = 1000  # of a search that begins again


class OverBudget(Exception):
    """The search has made all calls that it may."""


def peer(name):
    """A package of the group `benchmarks`, which the tests' environment lacks."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"{name} is not installed; it is in the group `benchmarks` of pyproject.toml"
        ) from error


def grid(function, start, budget, seed):
    """Every combination of as many values of each parameter as the budget allows, its bounds among them."""
    del seed
    values = int(budget ** (1 / len(start)) + 1e-9)
    if values < 2:
        raise SystemExit(
            f"a grid of {len(start)} parameters has {2 ** len(start)} points at least, not {budget}"
        )
    for point in itertools.product(np.linspace(0, 1, values), repeat=len(start)):
        function(np.array(point))


def random(function, start, budget, seed):
    """The start, then uniform points."""
    rng = np.random.default_rng(seed)
    function(start)
    for _ in range(budget):
        function(rng.uniform(size=len(start)))


def tpe(function, start, budget, seed):
    """Optuna's tree-structured Parzen estimator, its default sampler, with the start as the first trial."""
    optuna = peer("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = [f"x{number}" for number in range(len(start))]
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(dict(zip(names, map(float, start), strict=True)))
    study.optimize(
        lambda trial: function(np.array([trial.suggest_float(n, 0, 1) for n in names])), budget + 1
    )


def cma(function, start, budget, seed, *, diagonal=False):
    """pycma from the start, inside the bounds; where it ends, again with larger and smaller populations (BIPOP)."""
    options = {"bounds": [0, 1], "verbose": -9, "maxfevals": 100 * budget, "CMA_diagonal": diagonal}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps that it corrects
        while True:
            peer("cma").fmin2(function, start, SIGMA, {**options, "seed": seed}, restarts=9, bipop=True)
            seed += NEXT_SEED


def cma_diagonal(function, start, budget, seed):
    """The same with a diagonal covariance, as is advised for hundreds of parameters."""
    cma(function, start, budget, seed, diagonal=True)


def differential_evolution(function, start, budget, seed):
    """SciPy's, from a Latin hypercube and the start; where it ends, again from another one."""
    size = min(PER_PARAMETER * len(start), MOST)
    options = {"maxiter": budget, "polish": False}
    while True:
        first = qmc.LatinHypercube(len(start), rng=np.random.default_rng(seed)).random(size)
        first[0] = start
        scipy.optimize.differential_evolution(
            function, [(0, 1)] * len(start), init=first, rng=seed, **options
        )
        seed += NEXT_SEED


SEARCHES = {
    "grid": grid,
    "random": random,
    "tpe": tpe,
    "cma": cma,
    "cma_diagonal": cma_diagonal,
    "differential_evolution": differential_evolution,
}
PEERS = {"tpe": "optuna", "cma": "cma", "cma_diagonal": "cma"}
