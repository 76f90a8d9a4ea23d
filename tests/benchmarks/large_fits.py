"""Fits of large models: log-density, fit with covariance, and the POI's uncertainty with its gradient.

Every case runs in a process of its own, without programs kept from before: 10 samples, 5 channels, 60 % of the
systematics histosys and the others normsys, each on two samples, staterror on all, Poisson data. CPU seconds, seconds
and peak memory of the first call (with its compilation) and of a later one. From the repository:
`.venv/bin/python tests/benchmarks/large_fits.py` (`--cases KIND:SYSTEMATICS/BINS ...`; kinds: density, fit, poi,
limit).
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from pipeline.runtime import environment

os.environ.update(environment())

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from workspaces import AGC, agc_workspace

from pipeline.fit import fit_with_covariance
from pipeline.likelihood import HistFactory
from pipeline.objective import OBJECTIVES, Inputs, value_of

ROOT = Path(__file__).parents[2]
SAMPLES, CHANNELS = 10, 5
CASES = (
    *("density:50/100", "density:1000/1000", "fit:50/100", "fit:200/1000", "fit:1000/1000", "fit:4000/3000"),
    *("fit:2048/10000", "poi:50/100", "poi:200/1000", "poi:1000/1000", "limit:agc"),
)


def templates_of(systematics: int, bins: int, effect: float = 0.04) -> tuple[dict[str, object], np.ndarray]:
    """A falling background in nine samples and a peaking signal, and Poisson data of it."""
    rng = np.random.default_rng(7)
    size = bins // CHANNELS
    place = (np.arange(size) + 0.5) / size
    names = [f"s{number}" for number in range(SAMPLES)]
    found: dict[str, object] = {}
    kinds = rng.permutation(systematics) < round(0.6 * systematics)
    users = [rng.choice(SAMPLES, size=2, replace=False) for _ in range(systematics)]
    for channel in range(CHANNELS):
        samples: dict[str, object] = {}
        for number, name in enumerate(names):
            slope = rng.uniform(0.3, 2.5)
            nominal = rng.uniform(50, 200) * np.exp(-slope * place)
            if number == 0:
                nominal = 60.0 * np.exp(-0.5 * ((place - rng.uniform(0.3, 0.7)) / 0.1) ** 2) + 0.5
            samples[name] = {"data": nominal, "staterror": {f"stat_{channel}": 0.06 * nominal}}
        samples[names[0]]["normfactor"] = {"mu": None}
        found[f"c{channel}"] = samples
    for number, (is_shape, own) in enumerate(zip(kinds, users, strict=True)):
        for sample in own:
            for channel in range(CHANNELS):
                entry = found[f"c{channel}"][names[sample]]
                if is_shape:
                    up, down = (
                        effect
                        * (rng.normal() * (2 * place - 1) + rng.normal() * np.sin(9 * rng.uniform() * place))
                        for _ in range(2)
                    )
                    sides = {
                        "hi_data": entry["data"] * (1 + up),
                        "lo_data": entry["data"] * (1 - 0.5 * (up + down)),
                    }
                    entry.setdefault("histosys", {})[f"a{number}"] = sides
                else:
                    up, down = effect * rng.normal(size=2)
                    sides = {"hi": np.asarray(1 + up), "lo": np.asarray(1 - 0.5 * (up + down))}
                    entry.setdefault("normsys", {})[f"a{number}"] = sides
    total = np.concatenate([np.sum([s["data"] for s in found[c].values()], axis=0) for c in found])
    return found, rng.poisson(total).astype(float)


def model_of(size: str) -> HistFactory:
    if size == "agc":
        return HistFactory.from_workspace(agc_workspace())
    systematics, bins = map(int, size.split("/"))
    templates, observed = templates_of(systematics, bins)
    config = {"poi": "mu", "parameters": []}
    return HistFactory.from_templates(templates, config, observations=jax.numpy.asarray(observed))


def task_of(kind: str, model: HistFactory):
    """A compiled function without arguments that are constants of the program, and its arguments."""
    data = model.data()
    if kind == "density":
        at = model.initial + 0.05
        function = jax.value_and_grad(lambda p, m, d: m.logpdf(p, d))
        return jax.jit(function), (at, model, data)
    if kind == "fit":
        return jax.jit(lambda m, d: fit_with_covariance(m, d, [m.poi_index])), (model, data)
    name = {"poi": "poi_uncertainty", "limit": "upper_limit"}[kind]
    asked = OBJECTIVES[name]()
    valued = jax.value_and_grad(lambda t, m: value_of(asked, Inputs(m, t)).value)
    return jax.jit(valued), (model.templates, model)


def said(kind: str, found) -> str:
    if kind == "fit":
        result, covariance = found
        return (
            f"{'converged' if result.converged else 'NOT CONVERGED'} {int(result.status)}, {int(result.steps)} steps, "
            f"EDM {float(result.edm):.1g}, -2lnL {float(result.twice_nll):.6f}, mu {float(covariance[0, 0]) ** 0.5:.6f}"
        )
    return f"{float(found[0]):.10g}"


def measured(kind: str, size: str) -> None:
    model = model_of(size)
    function, arguments = task_of(kind, model)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    cells = []
    for _ in range(2):
        wall, processor = time.perf_counter(), time.process_time()
        found = jax.block_until_ready(function(*arguments))
        cells += [time.process_time() - processor, time.perf_counter() - wall]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        "".join(f"{cell:9.3f}" for cell in cells) + f"{before:8.2f}{peak:8.2f}  {said(kind, found)}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds a case")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measured(*options.one.split(":"))
        return
    print(f"{'':20}{'first: CPU':>10}{'wall':>9}{'later: CPU':>10}{'wall':>8}{'GB before':>10}{'peak':>6}")
    for case in options.cases:
        if case.endswith("agc") and not AGC.is_dir():
            continue
        print(f"{case:20}", end="", flush=True)
        command = [sys.executable, __file__, "--one", case]
        try:
            done = subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
                                  timeout=options.timeout)  # fmt: skip
        except subprocess.TimeoutExpired:
            print(f"not in {options.timeout:g} s")
            continue
        if done.returncode:
            print(f"  failed: {done.returncode}")


if __name__ == "__main__":
    main()
