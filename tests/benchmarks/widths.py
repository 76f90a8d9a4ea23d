"""Widths by hand beside those from the events: the exact objective before and after, on training and held-out events.

From the repository: `.venv/bin/python tests/benchmarks/widths.py` (ten minutes on two cores). The simulated events of
`resonance` are those of `make`, made where they are not there. With `--starts` it is `single_top` alone, with widths
from the events, from starts on plateaus, far from the events, and drawn ones, all in this process (three minutes).
"""

import argparse
import tempfile
from pathlib import Path

import jax
import numpy as np
from claims import ROOT, run, summary_of

from pipeline import Run, optimise
from pipeline import config as configuration
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.data.run_files import column_files
from pipeline.gradient.work import prepare_work
from pipeline.optimise.automatic_widths import with_all_widths
from pipeline.optimise.own_loop import Loss
from pipeline.optimise.parameters import initial_parameters

ANALYSES = {"hep_tutorial": ["data.held_out_fraction=0.5"], "resonance": []}


def automatic(name):
    """Overrides that leave all widths of a configuration to the events."""
    channels = configuration.load(ROOT / "config" / f"{name}.yaml").channels
    return ["widths=auto", *(f"channels.{c}.bandwidth=auto" for c, own in channels.items() if own.edges)]


def from_many_starts():
    """Print the significance that is reached from each start."""
    overrides = ["run=widths_single_top", "widths=auto"]
    first = Run(ROOT / "config/single_top.yaml", *overrides, folder=ROOT)
    first.columns()
    columns = column_files(first.config)
    print("| start | optimised | exact |\n| --- | --- | --- |")
    for start in [-1.0, 1.0, 4.5, *np.random.default_rng(3).uniform(-1.5, 6.0, 10)]:
        of_start = configuration.load(
            ROOT / "config/single_top.yaml", [*overrides, f"parameters.btag={start}"]
        )
        found = epochs(of_start, columns)
        value = -Loss.of(of_start, columns).exact(found)
        print(f"| {start:.3f} | {float(found['btag']):.3f} | {value:.4f} |", flush=True)


def epochs(config, columns):
    """The parameters of the kept epoch, by the epochs of a run without its jobs."""
    with jax.enable_x64(True), tempfile.TemporaryDirectory() as folder:
        work, initial = prepare_work(config, columns, datasets.TRAIN), initial_parameters(config)
        widened = with_all_widths(config, work, initial)
        state, _ = optimise.run(
            widened, InProcess(), work, optimise.initial_state(widened, initial),
            until=widened.optimise.epochs, checkpoints=Path(folder), fingerprint="", progress=lambda _: None,
        )  # fmt: skip
    return state.result


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--starts", action="store_true")
    options.add_argument("--analyses", nargs="*", choices=ANALYSES, default=list(ANALYSES))
    given = options.parse_args()
    if given.starts:
        return from_many_starts()
    print("| analysis | widths | training | held-out |\n| --- | --- | --- | --- |")
    for name in given.analyses:
        for widths, more in (("by hand", []), ("automatic", automatic(name))):
            overrides = ["evaluate.bootstrap=0", *ANALYSES[name], *more]
            folder = run(f"config/{name}.yaml", f"widths_{name}_{widths.replace(' ', '_')}", overrides)
            values = summary_of(folder)["values"]
            cells = [
                " → ".join(
                    f"{values[point][fold]['exact']['value']:.4g}" for point in ("initial", "optimised")
                )
                for fold in ("train", "held_out")
            ]
            print(f"| {name} | {widths} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
