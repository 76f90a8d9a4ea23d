"""Tiny real ROOT files, an analysis of them and its configuration, for tests of what users get wrong."""

import json
import textwrap

import awkward as ak
import numpy as np
import uproot
import yaml

ANALYSIS = """
import numpy as np
from pipeline.analysis import Analysis, FlatTree, Free, Transform
from pipeline.columns import pad
from pipeline.containers import Observation


class Tiny(Analysis):
    reads = FlatTree(tree="events", branches=("x", "w", "jets"), event="number")
    parameters = {"cut": Free(0.5, bounds=(0.0, 1.0), unit="GeV")}

    def __init__(self, objects=3):
        self.objects = objects

    def columns(self, events, dataset):
        return {"weight": events.w, "x": events.x, "jet": pad(events.jets, self.objects)}

    def variations(self):
        return {"x_up": Transform(lambda c: {"x": 1.1 * c.x})}

    def observe(self, p, c, relax):
        return {"all": Observation(weight=c.weight * relax.greater(c.x, p.cut))}


class NoAnalysis:
    pass
"""


def arrays(events=200, seed=1):
    """Branches of a flat ntuple: a number per event, an observable, a weight, up to three jets."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, events)
    return {
        "number": np.arange(events),
        "x": rng.random(events).astype(np.float32),
        "w": rng.uniform(0.5, 1.5, events).astype(np.float32),
        "jets": ak.unflatten(rng.random(counts.sum()).astype(np.float32), counts),
    }


def write(path, *, tree="events", events=200, seed=1, **changes):
    """A ROOT file of `arrays`, some of them replaced, those set to None left out."""
    content = {n: a for n, a in {**arrays(events, seed), **changes}.items() if a is not None}
    with uproot.recreate(path) as file:
        types = {n: _type(n, a) for n, a in content.items()}
        file.mktree(tree, types)
        file[tree].extend(content)
    return path


def _type(name, array):
    if name == "jets":
        return "var * float32"
    return np.dtype((np.asarray(array).dtype, np.shape(array)[1:]))


def write_run(folder, files=1, events=200, **sections):
    """Files of signal and background, manifest, analysis and configuration; the path of the latter."""
    (folder / "tiny.py").write_text(ANALYSIS)
    names = {s: [f"{s}{i or ''}.root" for i in range(files)] for s in ("signal", "background")}
    for seed, name in enumerate(name for own in names.values() for name in own):
        write(folder / name, seed=seed, events=events)
    files = {
        s: {"nominal": {"files": [{"path": name, "nevts": events} for name in own]}}
        for s, own in names.items()
    }
    (folder / "manifest.json").write_text(json.dumps(files))
    content = {
        "run": "tiny",
        "analysis": {"target": f"{folder}/tiny.py:Tiny"},
        "data": {
            "manifest": str(folder / "manifest.json"),
            "luminosity_per_pb": 1,
            "samples": {"signal": {}, "background": {}},
        },
        "channels": {"all": {}},
        "widths": {"cut": {"initial": 0.2, "final": 0.1}},
        "model": {
            "poi": "mu",
            "normfactors": [{"name": "mu", "samples": ["signal"]}],
            "systematics": [{"name": "scale", "type": "NormPlusShape", "up": "x_up"}],
        },
        "objective": {"kind": "asimov_significance"},
        "optimise": {"epochs": 2, "epochs_per_job": 1},
        "cluster": {"executor": "in_process"},
    }
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump({**content, **sections}))
    return config


def write_analysis(folder, name, columns="", observe="", head=""):
    """An analysis file whose methods have other bodies; its target."""
    text = ANALYSIS.replace("class Tiny(Analysis):", f"{head}\nclass Tiny(Analysis):")
    for method, body in (
        ("columns(self, events, dataset)", columns),
        ("observe(self, p, c, relax)", observe),
    ):
        if body:
            indented = textwrap.indent(body, "        ")
            text = text.replace(f"def {method}:\n", f"def {method}:\n{indented}\n")
    path = folder / name
    path.write_text(text)
    return f"{path}:Tiny"
