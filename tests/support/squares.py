"""A run whose optimum is known: the mean of (x - p)^2 + (y - q)^2, least where p and q are the means of x and y."""

import contextlib
import json
import uuid

import numpy as np
import uproot
import yaml
from columnfiles import write_columns

from pipeline import config as configuration
from pipeline.analysis import EVENT_NUMBER
from pipeline.data import column_file, event_random

ANALYSIS = """
import numpy as np
from pipeline.analysis import Analysis, FlatTree, Free
from pipeline.containers import Observation


class Squares(Analysis):
    reads = FlatTree(tree="events", branches=("x", "y"), event="number")
    parameters = {"p": Free(0.0, bounds=(-4.0, 4.0), unit="GeV"), "q": Free(0.0, bounds=(-4.0, 4.0))}

    def columns(self, events, dataset):
        return {"weight": np.ones(len(events)), "x": events.x, "y": events.y}

    def observe(self, p, c, relax):
        squares = (c.x - p.p) ** 2 + (c.y - p.q) ** 2
        return {"sums": Observation(weight=c.weight * squares), "events": Observation(weight=c.weight)}


class Arrays(Squares):
    parameters = {}

    def init(self, key):
        return {"places": np.zeros(2)}

    def observe(self, p, c, relax):
        squares = (c.x - p.places[0]) ** 2 + (c.y - p.places[1]) ** 2
        return {"sums": Observation(weight=c.weight * squares), "events": Observation(weight=c.weight)}
"""
RANGE = 8.0  # of both parameters
SIGMA = {"p": 1.0, "q": 2.0}
BRANCH = {"p": "x", "q": "y"}
NEWTON = 1 / (2 * RANGE**2)  # the learning rate with which one step of `sgd` leads to the optimum
SETTINGS = {
    "run": "squares",
    "channels": {"sums": {"in_fit": False}, "events": {"in_fit": False}},
    "objective": {"kind": "mean", "channel": "sums", "events": "events"},
    "optimise": {"epochs": 2, "optimiser": "sgd", "learning_rate": NEWTON},
    "cluster": {"executor": "in_process", "chunk_events": 256, "group_events": 256},
}


def write_squares(folder, *overrides, events=2000, held_out=0.5, files=4):
    """Configuration and column files of normal numbers around 1 and -1."""
    (folder / "squares.py").write_text(ANALYSIS)
    rng = np.random.default_rng(20261130)
    names = [f"draws{number}.root" for number in range(files)]
    each = events // files
    for number, name in enumerate(names):
        content = {
            "number": np.arange(each) + number * each,
            "x": rng.normal(1.0, SIGMA["p"], each),
            "y": rng.normal(-1.0, SIGMA["q"], each),
        }
        own = uuid.uuid5(
            uuid.NAMESPACE_OID, name
        )  # by which the bootstrap knows the file: the same in every run
        with uproot.recreate(folder / name, uuid_function=lambda own=own: own) as file:
            file.mktree("events", {branch: array.dtype for branch, array in content.items()})
            file["events"].extend(content)
    listed = [{"path": name, "nevts": each} for name in names]
    (folder / "manifest.json").write_text(json.dumps({"draws": {"nominal": {"files": listed}}}))
    data = {
        "manifest": str(folder / "manifest.json"),
        "luminosity_per_pb": 1,
        "held_out_fraction": held_out,
        "samples": {"draws": {}},
    }
    content = {**SETTINGS, "analysis": {"target": f"{folder}/squares.py:Squares"}, "data": data}
    (folder / "squares.yaml").write_text(yaml.safe_dump(content))
    with contextlib.chdir(folder):
        run = configuration.load(folder / "squares.yaml", overrides)
        return run, write_columns(run, folder)


def events_of(files, fold):
    """Columns of a fold and keys of its events, of all files one after the other."""
    parts, keys = [], []
    for _, path in files:
        found = column_file.read(path)
        for source, part in column_file.read_sources(path, range(len(found.sources)), (fold,), found.content):
            given = part.get(EVENT_NUMBER, np.arange(len(part["weight"])))
            keys.append(event_random.keys(given, source.event_numbers_of or source.digest))
            parts.append(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, np.concatenate(keys)


def optimum(files, fold="train"):
    """The best p and q, and the statistical error of each."""
    found, _ = events_of(files, fold)
    columns = {name: found[branch] for name, branch in BRANCH.items()}
    return {n: (c.mean(), c.std() / np.sqrt(len(c))) for n, c in columns.items()}
