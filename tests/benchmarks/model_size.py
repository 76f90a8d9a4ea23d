"""The centre of an epoch against the size of the model: seconds of the first and of later calls, and peak memory.

Each size runs in a process of its own, without programs kept from before. From the repository:
`.venv/bin/python tests/benchmarks/model_size.py` (`--sizes CxSxKxB ...`: channels, samples, systematics, bins).
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.gradient.loss import centre
from pipeline.runtime import environment
from pipeline.templates.axes import Axes

ROOT = Path(__file__).parents[2]
SIZES = ("1x2x5x20", "2x3x10x20", "4x4x20x20", "10x5x20x20", "5x8x150x20", "50x20x100x50")


def model_of(channels: int, samples: int, systematics: int, bins: int) -> dict[str, object]:
    """A run with a shape uncertainty of every sample in every channel for each systematic."""
    names = [f"sample{number}" for number in range(samples)]
    return {
        "run": "size",
        "analysis": {"target": "pipeline.analyses.one_cut:OneCut"},
        "data": {
            "manifest": "manifest.json",
            "luminosity_per_pb": 1.0,
            "samples": {name: {} for name in names},
        },
        "channels": {f"channel{number}": {"edges": list(range(bins + 1)), "bandwidth": {"initial": 1, "final": 0.1}}
                     for number in range(channels)},
        "model": {
            "poi": "mu",
            "normfactors": [{"name": "mu", "samples": [names[0]]}],
            "systematics": [
                {"type": "NormPlusShape", "name": f"s{number}", "up": f"s{number}_up", "down": f"s{number}_down"}
                for number in range(systematics)
            ],
        },
        "objective": {"kind": "poi_uncertainty"},
        "optimise": {"epochs": 1, "learning_rate": 0.1},
    }  # fmt: skip


def measured(channels: int, samples: int, systematics: int, bins: int, repetitions: int) -> None:
    jax.config.update("jax_enable_x64", True)
    found = Config.model_validate(model_of(channels, samples, systematics, bins))
    variations = [f"s{number}_{side}" for number in range(systematics) for side in ("up", "down")]
    axes = Axes(tuple(found.data.samples), ("nominal", *variations))
    rng = np.random.default_rng(1)
    yields, sumw2 = {}, {}
    for name in found.channels:
        nominal = rng.uniform(20.0, 200.0, (samples, 1, bins))
        size = rng.normal(scale=0.05, size=(samples, systematics, 1)) * np.linspace(-1, 1, bins) + rng.normal(
            scale=0.03, size=(samples, systematics, 1)
        )
        both = np.stack([1 + size, 1 - 0.9 * size], axis=2).reshape(samples, 2 * systematics, bins)
        yields[name] = np.concatenate([nominal, nominal * both], axis=1)
        sumw2[name] = 0.01 * nominal[:, 0]
    templates = Templates(yields, sumw2)
    started, processor = time.perf_counter(), time.process_time()
    evaluate = centre(found, axes)
    value, _, _ = evaluate(templates, {})
    first, busy = time.perf_counter() - started, time.process_time() - processor
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        evaluate(templates, {})
        times.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{busy:10.1f}{first:10.1f}{np.median(times):10.3f}{peak:10.2f}   {value:.6g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measured(*map(int, options.one.split("x")), options.repetitions)
        return
    print("channels x samples x systematics x bins: first call CPU s, wall s; warm s; peak GB; value")
    for size in options.sizes:
        print(f"{size:20}", end="", flush=True)
        command = [sys.executable, __file__, "--one", size, "--repetitions", str(options.repetitions)]
        subprocess.run(command, check=False, env={**os.environ, **environment(), "PYTHONPATH": str(ROOT)})


if __name__ == "__main__":
    main()
