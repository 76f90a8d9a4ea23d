"""NanoAOD-like files of dimuon events, correctionlib files, and the blocks of code of a page, for tests of the docs."""

import json
import re

import awkward as ak
import numpy as np
from correctionlib import schemav2

from pipeline.simulate.generate import write

SYSTEMATICS = ("nominal", "up", "down")
EVENTS = {"zjets": 2500, "top": 2000}


def page(root, name):
    """The blocks of code of a page, by the name of the file that their first line says."""
    text = (root / "docs" / name).read_text()
    return dict(re.findall(r"^```\w+\n# (\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def nanoaod(name, events):
    """Branches of some events: muons of which two are usually tight, jets, what a processor weights by."""
    rng = np.random.default_rng(len(name))
    muons, jets = rng.choice([1, 2, 3], events, p=[0.1, 0.8, 0.1]), rng.integers(1, 5, events)

    def objects(counts, **fields):
        return ak.zip({field: ak.unflatten(array, counts) for field, array in fields.items()})

    n, m = muons.sum(), jets.sum()
    pt = rng.normal(44, 6, n) if name == "zjets" else 20 + rng.exponential(25, n)
    place = np.arange(n) - np.repeat(np.cumsum(muons) - muons, muons)  # of a muon in its event
    return {
        "run": np.ones(events, np.uint32),
        "luminosityBlock": np.ones(events, np.uint32),
        "event": np.arange(events, dtype=np.uint64),
        "genWeight": np.where(rng.random(events) < 0.05, -1, 1).astype(np.float32),
        "Pileup_nTrueInt": rng.uniform(0, 50, events).astype(np.float32),
        "HLT_IsoMu24": rng.random(events) < 0.9,
        "MET_pt": rng.exponential(30 if name == "zjets" else 60, events).astype(np.float32),
        "MET_phi": rng.uniform(-3, 3, events).astype(np.float32),
        "Muon": objects(
            muons,
            pt=np.abs(pt).astype(np.float32),
            eta=rng.normal(0, 0.4, n).astype(np.float32),
            phi=(np.pi * place + rng.uniform(-0.4, 0.4, n)).astype(np.float32),
            mass=np.full(n, 0.10566, np.float32),
            charge=np.where(place % 2 == (rng.random(n) < 0.1), 1, -1).astype(np.int32),
            tightId=rng.random(n) < 0.95,
        ),
        "Jet": objects(
            jets,
            pt=(15 + rng.exponential(25, m)).astype(np.float32),
            eta=rng.normal(0, 1.5, m).astype(np.float32),
            phi=rng.uniform(-3, 3, m).astype(np.float32),
            mass=rng.uniform(2, 8, m).astype(np.float32),
        ),
    }


def write_files(folder):
    """The samples as ROOT files, and their manifest `files.json`."""
    manifest = {}
    for name, events in EVENTS.items():
        write(nanoaod(name, events), folder / f"{name}.root")
        entry = {"nevts_total": events, "files": [{"path": f"{name}.root", "nevts": events}]}
        manifest[name] = {"nominal": entry}
    (folder / "files.json").write_text(json.dumps(manifest))


def write_corrections(path, **factors):
    """A file of corrections that depend on an event's pileup, on a muon, and on a jet and where it is tagged.

    `factors` replace those of the muons, by the systematic variation.
    """
    muon = {
        "nominal": [0.97, 0.99, 0.95, 0.98],
        "up": [0.98, 1.01, 0.97, 1.0],
        "down": [0.96, 0.97, 0.93, 0.96],
    }
    btag = [1.01, 0.96, 0.98, 0.9]
    made = [
        _correction(
            "pileup",
            {"n": [0, 15, 30, 60]},
            {"nominal": [0.9, 1.05, 1.1], "up": [0.8, 1.1, 1.2], "down": [1.0, 1.0, 1.05]},
            before=True,
        ),
        _correction("muon", {"eta": [-2.4, 0, 2.4], "pt": [15, 40, 200]}, {**muon, **factors}, before=True),
        _correction(
            "btag",
            {"pt": [20, 60, 500], "cut": [0, 0.65, 1]},
            {"nominal": btag, "up": [1.05 * x for x in btag], "down": [0.94 * x for x in btag]},
        ),
    ]
    path.write_text(schemav2.CorrectionSet(schema_version=2, corrections=made).model_dump_json())


def _correction(name, edges, values, *, before=False):
    """A table by systematic variation, which is the last input of the correction, or the first."""
    inputs = [schemav2.Variable(name=axis, type="real") for axis in edges]
    systematic = schemav2.Variable(name="systematic", type="string")
    items = [
        schemav2.CategoryItem(
            key=key,
            value=schemav2.MultiBinning(
                nodetype="multibinning",
                inputs=list(edges),
                edges=[list(map(float, own)) for own in edges.values()],
                content=values[key],
                flow="clamp",
            ),
        )
        for key in SYSTEMATICS
    ]
    return schemav2.Correction(
        name=name,
        version=1,
        inputs=[*inputs, systematic] if before else [systematic, *inputs],
        output=schemav2.Variable(name="factor", type="real"),
        data=schemav2.Category(nodetype="category", input="systematic", content=items),
    )
