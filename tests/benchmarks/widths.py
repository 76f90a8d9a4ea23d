"""Widths by hand beside those from the events: the exact objective before and after, on training and held-out events.

From the repository: `.venv/bin/python tests/benchmarks/widths.py` (ten minutes on two cores). The simulated events of
`resonance` are those of `make`, made where they are not there. With `--starts` it is `single_top` alone, with widths
from the events, from starts on plateaus, far from the events, and drawn ones (five minutes).
"""

import argparse

import numpy as np
from claims import ROOT, run, summary_of

from pipeline import config as configuration

ANALYSES = {"hep_tutorial": ["data.held_out_fraction=0.5"], "resonance": []}


def automatic(name):
    """Overrides that leave all widths of a configuration to the events."""
    channels = configuration.load(ROOT / "config" / f"{name}.yaml").channels
    return ["widths=auto", *(f"channels.{c}.bandwidth=auto" for c, own in channels.items() if own.edges)]


def from_many_starts():
    """Print the significance that is reached from each start."""
    drawn = np.random.default_rng(3).uniform(-1.5, 6.0, 10)
    print("| start | optimised | exact |\n| --- | --- | --- |")
    for number, start in enumerate([-1.0, 1.0, 4.5, *drawn]):
        overrides = ["widths=auto", f"parameters.btag={start}", "evaluate.bootstrap=0"]
        found = summary_of(run("config/single_top.yaml", f"widths_single_top_{number}", overrides))
        cut, value = found["parameters"]["btag"], found["values"]["optimised"]["train"]["exact"]["value"]
        print(f"| {cut['initial']:.3f} | {cut['optimised']:.3f} | {value:.4f} |", flush=True)


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
