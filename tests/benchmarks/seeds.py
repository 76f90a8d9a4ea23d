"""The main job on data sets of other seeds: what it gains on events that it has not seen, each time.

Each seed is another data set, simulated, read, optimised and evaluated by the workflow: five minutes on two cores.
Prints a table. From the repository: `.venv/bin/python tests/benchmarks/seeds.py`.
"""

import argparse
from pathlib import Path

from claims import run, summary_of


def row(seed, summary):
    """One line of the table."""
    values, change = summary["values"], summary["change"]
    cells = [
        f"{values[point][fold][kind]['value']:.1f}"
        for fold in ("train", "held_out")
        for point in ("initial", "optimised")
        for kind in ("relaxed", "exact", "pyhf")
    ]
    of_error = abs(change["value"]) / change["error"]
    gain = f"{100 * change['value']:.0f} ± {100 * change['error']:.0f} % | {of_error:.1f}"
    return f"| {seed} | " + " | ".join(cells) + f" | {gain} |"


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--config", default="config/resonance.yaml")
    options.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3, 4, 5])
    options.add_argument("--set", nargs="*", default=[])
    given = options.parse_args()
    columns = [
        f"{fold}, {point}, {kind}"
        for fold in ("training", "held-out")
        for point in ("before", "after")
        for kind in ("relaxed", "exact", "pyhf")
    ]
    print("| seed | " + " | ".join(columns) + " | change, held-out | in errors |")
    print("| --- " * (len(columns) + 3) + "|")
    for seed in given.seeds:
        name = f"{Path(given.config).stem}_seed{seed}"
        folder = run(given.config, name, [f"simulate.seed={seed}", *given.set])
        print(row(seed, summary_of(folder)), flush=True)


if __name__ == "__main__":
    main()
