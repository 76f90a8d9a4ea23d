"""A chunk's sweeps against the number of variations: CPU time of a call, temporary memory, CPU time to compile.

The AGC's selection on made-up events. Each number of variations runs in a process of its own, without programs kept
from before. From the repository: `.venv/bin/python tests/benchmarks/variations.py`
(`--kinds columns weights shared`, `--numbers 1 10 ...`, `--events`, `--jets`).
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.analyses.agc_ttbar import AgcTtbar
from pipeline.analysis import Transform, WeightFactor
from pipeline.config import load, targets
from pipeline.containers import Columns
from pipeline.gradient.compiled import compiled
from pipeline.gradient.work import Layout, Problem
from pipeline.optimise.schedule import widths_at
from pipeline.runtime import environment
from pipeline.templates.binning import binnings_of

ROOT = Path(__file__).parents[2]
NUMBERS = (1, 10, 50, 150, 300)


def of_columns(number):
    """A scale of the jets' pt in a slice of pt and |eta|, each another function."""
    low, wide = 20.0 + number % 15, 0.3 + 0.01 * number
    return Transform(
        lambda c: {
            "jet_pt": c.jet_pt * (1 + 0.03 * jnp.exp(-(((jnp.abs(c.jet_eta) - low / 20) / wide) ** 2)))
        }
    )


def of_weights(number):
    """A factor of the leading jet's pt, each another function."""
    return WeightFactor(lambda p, c, relax: 1 + 0.001 * number * jnp.tanh(c.jet_pt[:, 0] / (50.0 + number)))


class Many(AgcTtbar):
    """The AGC's selection with other variations, of one kind."""

    def __init__(self, kind, number):
        super().__init__()
        self.kind, self.number = kind, number

    def variations(self):
        numbers = range(self.number)
        if self.kind == "shared":
            return {f"v{n}": WeightFactor(self.together, f"v{n}") for n in numbers}
        make = of_columns if self.kind == "columns" else of_weights
        return {f"v{n}": make(n) for n in numbers}

    def together(self, p, c, relax):
        """All factors of one function, as the eigenvectors of a scale factor."""
        jets = relax.greater(c.jet_pt, p.jet_pt, mask=c.jet)
        rows = {
            n: 1 + 0.001 * relax.sum(jets * jnp.cos(0.01 * (n + 1) * c.jet_pt)) for n in range(self.number)
        }
        return {f"v{n}": row for n, row in rows.items()}


def events_of(number, jets):
    """Columns of the analysis: jets in falling pt, some of them padding."""
    rng = np.random.default_rng(1)
    there = np.arange(jets) < rng.integers(4, jets + 1, (number, 1))
    shape = (number, jets)
    pt = -np.sort(-(20 + rng.exponential(40.0, shape)), axis=1)
    return Columns({
        "weight": jnp.ones(number),
        "lepton": jnp.ones((number, 6), dtype=bool) & (jnp.arange(6) < 1),
        "lepton_pt": jnp.asarray(20 + rng.exponential(30.0, (number, 6))),
        "jet": jnp.asarray(there),
        **{f"jet_{name}": jnp.asarray(np.where(there, array, 0.0)) for name, array in {
            "pt": pt,
            "eta": rng.normal(0, 1.2, shape),
            "phi": rng.uniform(-np.pi, np.pi, shape),
            "mass": 0.1 * pt,
            "btag": rng.uniform(0, 1, shape),
            "resolution": rng.normal(0, 1, shape),
        }.items()},
    })  # fmt: skip


def measured(kind, number, events, jets, repetitions, memory):
    """One line of the table."""
    jax.config.update("jax_enable_x64", True)
    run = load(ROOT / "config/agc_samples.yaml")
    target = f"{Path(__file__).resolve()}:Many"
    problem = Problem(
        target,
        f'{{"kind": "{kind}", "number": {number}}}',
        targets.content(target, "analysis.target"),
        binnings_of(run),
        Layout(events),
        memory=memory * 1e6,
    )
    columns, at = events_of(events, jets), widths_at(run, 20)
    parameters = {name: np.float64(free.initial) for name, free in problem.analysis.parameters.items()}
    factor = np.ones(events)
    sweeps = compiled(problem, problem.analysis.variation_names)
    started = time.process_time()
    lowered = sweeps[0].lower(parameters, columns, at, factor)
    traced = time.process_time() - started
    forward = lowered.compile()
    templates = forward(parameters, columns, at, factor)
    cotangent = jax.tree.map(lambda array: np.asarray(array) / 1e3, templates)
    begun = time.process_time()
    lowered = sweeps[1].lower(parameters, columns, at, factor, cotangent)
    traced += time.process_time() - begun
    pull = lowered.compile()
    compiling = time.process_time() - started
    seconds = []
    for _ in range(repetitions):
        begun = time.process_time()
        jax.block_until_ready(forward(parameters, columns, at, factor))
        jax.block_until_ready(pull(parameters, columns, at, factor, cotangent))
        seconds.append(time.process_time() - begun)
    memory = max(program.memory_analysis().temp_size_in_bytes for program in (forward, pull))
    print(np.median(seconds) * 1e3, memory / 1e6, compiling, traced)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=["columns", "weights", "shared"])
    parser.add_argument("--numbers", nargs="+", type=int, default=NUMBERS)
    parser.add_argument("--events", type=int, default=256)
    parser.add_argument("--jets", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--memory", type=float, default=256.0, help="cluster.variations_mb")
    parser.add_argument("--one", nargs=2)
    found = parser.parse_args()
    if found.one:
        measured(found.one[0], int(found.one[1]), found.events, found.jets, found.repetitions, found.memory)
        return
    names = ("events", "jets", "repetitions", "memory")
    common = [text for name in names for text in (f"--{name}", str(getattr(found, name)))]
    print(
        "| kind | variations | CPU ms | a row | temporary MB | compile CPU s | of it tracing |\n"
        + "| --- " * 7
        + "|"
    )
    for kind in found.kinds:
        for number in found.numbers:
            command = [sys.executable, __file__, "--one", kind, str(number), *common]
            settings = {**os.environ, **environment(), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
            done = subprocess.run(command, capture_output=True, text=True, env=settings, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            ms, megabytes, compiling, traced = map(float, done.stdout.split())
            print(
                f"| {kind} | {number} | {ms:.0f} | {ms / (number + 1):.2f} | {megabytes:.0f} | {compiling:.1f} | "
                f"{traced:.1f} |",
                flush=True,
            )  # a row is the nominal's or a variation's


if __name__ == "__main__":
    main()
