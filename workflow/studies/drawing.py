"""What the scripts of the figures share: the tables of a file that `published.py` wrote, drawn into an SVG."""

import argparse
import json
from pathlib import Path

import matplotlib as mpl


def main(description, draw):
    """Read the file that the command line names, and write the figure that ``draw(tables)`` makes of its tables."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("content", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    tables = json.loads(options.content.read_text(encoding="utf-8"))["tables"]
    mpl.rcParams.update({"svg.hashsalt": "thalweg", "font.size": 9, "svg.fonttype": "none"})
    draw(tables).savefig(options.output, metadata={"Date": None})
