"""Is what is claimed true? The relaxed training value of shipped analyses beside exact values on held-out events.

Runs the workflow for each analysis, half of the events held out, and prints one line each: the objective before and
after, the change on held-out events, and the gap between what the optimiser ends with (relaxed, training) and what is
true (exact, held-out), in errors: those of a bootstrap of the held-out events, times sqrt(2) as the training events are
as many. From the repository: `.venv/bin/python tests/benchmarks/claims.py` (half an hour on two cores).

With `--values relaxed exact --seeds 1 2 3` each is run with both kinds of `optimise.values` on several data sets: which
should be the default? Analyses of given files have one data set, whatever the seed.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent.parent
ANALYSES = {
    "resonance": [],
    "agc_ttbar": [],
    "agc_edges": [],
    "agc_network": [],
    "hep_tutorial": ["data.held_out_fraction=0.5"],
    "single_top": ["data.held_out_fraction=0.5"],
    "inferno": [  # a fifth of its events
        *("data.held_out_fraction=0.5", "simulate.samples.signal.events_per_file=20000"),
        "simulate.samples.background.events_per_file=20000",
    ],
    "neos": ["data.held_out_fraction=0.5"],
}


OF_FILES = ("hep_tutorial", "single_top")  # given ones: there is no other data set


def run(config, name, overrides):
    """The folder of the workflow's results for a configuration, under a name."""
    given = " ".join([f"run={name}", *overrides])
    command = [sys.executable, "-m", "snakemake", f"results/{name}/summary.json", "--cores", "all"]
    command += ["--quiet", "all", "--configfile", config, "--config", f"set={given}"]
    subprocess.run(command, check=True, cwd=ROOT)
    return ROOT / "results" / name


def runs(name, seeds, values):
    """Labels and overrides of the runs of an analysis: as it is shipped, or for each seed and kind of values."""
    of_seeds = {str(seed): [f"simulate.seed={seed}", f"optimise.seed={seed}"] for seed in seeds}
    if name in OF_FILES or not seeds:
        of_seeds = {"shipped": []}
    of_values = {kind: [f"optimise.values={kind}"] for kind in values} or {"shipped": []}
    for seed, more in of_seeds.items():
        for kind, also in of_values.items():
            yield seed, kind, [*more, *also]


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def row(name, seed, kind_of_values, folder):
    """One line of the table."""
    summary, evaluation = summary_of(folder), json.loads((folder / "evaluation.json").read_text())
    values, change = summary["values"], summary["change"]
    error = np.std(evaluation["bootstrap"]["values"]["optimised"], ddof=1)

    def value(point, fold, kind):
        return values[point][fold][kind]["value"]

    true, claimed = value("optimised", "held_out", "exact"), value("optimised", "train", "relaxed")
    cells = [
        f"{value('initial', fold, kind):.4g} → {value('optimised', fold, kind):.4g}"
        for fold, kind in (("train", "relaxed"), ("train", "exact"), ("held_out", "exact"))
    ]
    gap = (claimed - true) / (np.sqrt(2) * error)
    return (
        f"| {name} | {seed} | {kind_of_values} | "
        + " | ".join(cells)
        + f" ± {error:.2g} | {100 * change['value']:+.1f} ± "
        f"{100 * change['error']:.1f} % | {gap:+.1f} |"
    )


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--analyses", nargs="*", choices=ANALYSES, default=list(ANALYSES))
    options.add_argument("--seeds", type=int, nargs="*", default=[])
    options.add_argument("--values", nargs="*", choices=["relaxed", "exact"], default=[])
    options.add_argument("--set", nargs="*", default=[])
    given = options.parse_args()
    print("| analysis | seed | values | relaxed, training | exact, training | exact, held-out | change, held-out "
          "| gap in errors |")  # fmt: skip
    print("| --- " * 8 + "|")
    for name in given.analyses:
        for seed, kind, more in runs(name, given.seeds, given.values):
            overrides = ["evaluate.bootstrap=40", *ANALYSES[name], *more, *given.set]
            folder = run(f"config/{name}.yaml", f"claim_{name}_{kind}_{seed}", overrides)
            print(row(name, seed, kind, folder), flush=True)


if __name__ == "__main__":
    main()
