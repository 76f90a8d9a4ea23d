"""The smallest possible uncertainty in INFERNO's benchmarks 0 to 4: the Fisher matrix of the densities, by Monte Carlo.

From the repository: `.venv/bin/python tests/benchmarks/floor.py --output floor.json`.
"""

import argparse
from pathlib import Path

from pipeline.analyses import inferno
from pipeline.data import store


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=4_000_000, help="of each class")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    options = parser.parse_args()
    found = inferno.floor(options.events, options.seed)
    print(" ".join(f"{number:.3f}" for number in found))
    if options.output:
        store.write_json(options.output, {f"benchmark_{i}": number for i, number in enumerate(found)})


if __name__ == "__main__":
    main()
