"""Time to a first result, and lines for it: the README's example beside pyhf, cabinetry, coffea and optuna.

Each program is run in an empty folder by a Python that has the packages, some times in turn; the median counts.
Installing is not part of it. optuna is none of our packages: `--python optuna=/path/to/python` says where it is.

From the repository: `.venv/bin/python tests/benchmarks/first_result.py`.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = Path(__file__).parent / "first_result"
WHAT = {
    "pyhf": "CLs of a two-bin model",
    "cabinetry": "histograms of a tree, workspace, fit",
    "coffea": "selected histograms of two files",
    "optuna": "a cut by 100 trials, on arrays",
    "thalweg": "a cut by gradients with a fit behind it, held-out events, report",
}


def readme():
    """The first program of the README."""
    return re.search(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]


def texts():
    """Programs by name."""
    return {
        name: readme() if name == "thalweg" else (SCRIPTS / f"with_{name}.py").read_text() for name in WHAT
    }


def seconds(python, text):
    """Wall time of a program in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "search.py"
        path.write_text(text)
        started = time.perf_counter()
        subprocess.run([python, path.name], cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - started


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--python", nargs="*", default=[], metavar="NAME=PATH")
    given = options.parse_args()
    pythons = dict(item.split("=", 1) for item in given.python)
    programs = {n: text for n, text in texts().items() if n in pythons or n != "optuna"}
    taken = {name: [] for name in programs}
    for _ in range(given.repeat):
        for name, text in programs.items():
            taken[name].append(seconds(pythons.get(name, sys.executable), text))
    print("| program | what | lines | seconds |\n| --- | --- | --- | --- |")
    for name, text in programs.items():
        lines = sum(bool(line.strip()) for line in text.splitlines())
        print(f"| {name} | {WHAT[name]} | {lines} | {statistics.median(taken[name]):.1f} |")


if __name__ == "__main__":
    main()
