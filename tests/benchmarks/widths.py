"""Widths by hand beside those from the events: the exact objective before and after, on training and held-out events.

From the repository: `.venv/bin/python tests/benchmarks/widths.py` (ten minutes on two cores). The simulated events of
`resonance` are those of `make`, made where they are not there.
"""

import argparse

from claims import ROOT, run, summary_of

from pipeline import config as configuration

ANALYSES = {"hep_tutorial": ["data.held_out_fraction=0.5"], "resonance": []}


def automatic(name):
    """Overrides that leave all widths of a configuration to the events."""
    channels = configuration.load(ROOT / "config" / f"{name}.yaml").channels
    return ["widths=auto", *(f"channels.{c}.bandwidth=auto" for c, own in channels.items() if own.edges)]


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--analyses", nargs="*", choices=ANALYSES, default=list(ANALYSES))
    print("| analysis | widths | training | held-out |\n| --- | --- | --- | --- |")
    for name in options.parse_args().analyses:
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
