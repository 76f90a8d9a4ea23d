"""The shipped ttbar analysis with exact cuts equals a plain event loop over the ROOT files."""

import itertools
import math

import numpy as np
import pytest
import uproot

from pipeline import datasets, problem
from pipeline.cluster import InProcess
from pipeline.gradient import forward

POINTS = [
    {},
    {"lepton_pt": 41.7, "jet_pt": 37.3, "btag": 0.31},
    {"lepton_pt": 25.0, "jet_pt": 25.0, "btag": 0.9},
]


def leptons(event, cut):
    electrons = [
        pt
        for pt, eta, cut_based, sip in zip(
            *(event[f"Electron_{n}"] for n in ("pt", "eta", "cutBased", "sip3d")), strict=True
        )
        if pt > cut and abs(eta) < 2.1 and cut_based == 4 and sip < 4
    ]
    names = ("pt", "eta", "tightId", "sip3d", "pfRelIso04_all")
    muons = [
        pt
        for pt, eta, tight, sip, iso in zip(*(event[f"Muon_{n}"] for n in names), strict=True)
        if pt > cut and abs(eta) < 2.1 and tight and sip < 4 and iso < 0.15
    ]
    return electrons + muons


def four_vector(pt, eta, phi, mass):
    x, y, z = pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)
    return np.array([x, y, z, math.sqrt(x * x + y * y + z * z + mass * mass)])


def triplet_mass(jets, tagged):
    """Mass of the three jets with the largest pt of their sum, at least one of them b-tagged."""
    best, mass = -1.0, 0.0
    for three in itertools.combinations(range(len(jets)), 3):
        total = sum(four_vector(*jets[i][:4]) for i in three)
        if any(tagged[i] for i in three) and math.hypot(total[0], total[1]) > best:
            best = math.hypot(total[0], total[1])
            mass = math.sqrt(max(total[3] ** 2 - total[0] ** 2 - total[1] ** 2 - total[2] ** 2, 0.0))
    return mass


def observe(event, p, scale):
    """(channel, value) of an event, or None."""
    if len(leptons(event, p["lepton_pt"])) != 1:
        return None
    names = ("pt", "eta", "phi", "mass", "btagCSVV2", "jetId")
    jets = [
        (np.float64(np.float32(pt)) * scale, eta, phi, mass, b)
        for pt, eta, phi, mass, b, jet_id in zip(*(event[f"Jet_{n}"] for n in names), strict=True)
        if pt * scale > p["jet_pt"] and abs(eta) < 2.4 and jet_id == 6
    ]
    tagged = [jet[4] > p["btag"] for jet in jets]
    if len(jets) < 4 or sum(tagged) == 0:
        return None
    return ("4j1b", sum(jet[0] for jet in jets)) if sum(tagged) == 1 else ("4j2b", triplet_mass(jets, tagged))


def loop(config, p, scale):
    """Yields per channel and sample by a loop over events; each sample normalised to all its events."""
    yields = {
        c: {s: np.zeros(len(ch.edges) - 1) for s in config.data.samples} for c, ch in config.channels.items()
    }
    for sample, settings in config.data.samples.items():
        files = [f.path for f in datasets.source_files(config) if f.sample == sample]
        events = [event for path in files for event in uproot.open(path)["Events"].arrays().to_list()]
        weight = settings.cross_section_pb * config.data.luminosity_per_pb / len(events)
        for event in events:
            seen = observe(event, p, scale)
            if seen:
                channel, value = seen
                yields[channel][sample] += weight * np.histogram([value], config.channels[channel].edges)[0]
    return yields


@pytest.mark.simulate
@pytest.mark.parametrize("point", POINTS, ids=["initial", "tight", "loose"])
def test_exact_yields_equal_an_event_loop(miniature, miniature_columns, point):
    parameters = {**problem.initial_parameters(miniature), **point}
    work = problem.work(miniature, miniature_columns, datasets.ALL)
    templates = forward(InProcess(), work, parameters, None)
    for variation, scale in (("nominal", 1.0), ("pt_scale_up", 1.03)):
        expected = loop(miniature, parameters, scale)
        for channel in miniature.channels:
            for sample in miniature.data.samples:
                found = templates.yields[channel][work.axes.row(sample, variation)]
                np.testing.assert_allclose(
                    found, expected[channel][sample], rtol=1e-9, err_msg=f"{channel} {sample}"
                )
    assert sum(t.sum() for t in templates.yields.values()) > 0


@pytest.mark.simulate
def test_weight_variations(miniature, miniature_columns):
    work = problem.work(miniature, miniature_columns, datasets.ALL)
    templates = forward(InProcess(), work, problem.initial_parameters(miniature), None)
    for channel, yields in templates.yields.items():
        nominal, up, down = (
            yields[work.axes.row("wjets", v)] for v in ("nominal", "scale_var_up", "scale_var_down")
        )
        np.testing.assert_allclose(up, 1.025 * nominal)
        np.testing.assert_allclose(down, 0.975 * nominal)
        rows = [yields[work.axes.row("ttbar", v)] for v in ("nominal", "btag_var_0_up", "btag_var_0_down")]
        np.testing.assert_allclose(rows[1] + rows[2], 2 * rows[0], err_msg=channel)
        assert rows[1].sum() > rows[0].sum()
