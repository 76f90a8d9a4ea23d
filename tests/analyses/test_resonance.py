"""The search for a resonance: exact cuts are plain NumPy, event by event; its gradient over chunks is that of all."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from columnfiles import write_columns
from generated import generated

from pipeline.cluster import InProcess
from pipeline.data import datasets, event_random
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import forward, value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.templates.fill import EXACT

pytestmark = pytest.mark.simulate
CONFIG = Path(__file__).parents[2] / "config" / "resonance.yaml"
EVENTS = {
    "ttbar_leptonic": 1500,
    "wjets_weighted": 1500,
    "zprime_ttbar": 600,
    "single_top_t_leptonic": 800,
    "single_top_tW_leptonic": 400,
}
CUTS = {
    "lepton_pt": 35.0,
    "jet1_pt": 70.0,
    "jet2_pt": 45.0,
    "jet4_pt": 28.0,
    "met": 30.0,
    "ht": 220.0,
    "btag": 0.3,
}
CUTS["second_btag"] = 0.04


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Settings, the ROOT files by sample, and the work of all events."""
    folder = tmp_path_factory.mktemp("resonance")
    settings = generated(CONFIG, EVENTS, folder)
    files = write_columns(settings, folder / "columns")
    return settings, {name: folder / f"{name}_0.root" for name in EVENTS}, files


def by_hand(path, cuts, edges, scale=1.0, shower=None, resolution=False):
    """Sums of generator weights of events that pass, in bins of the mass, and of all events."""
    e = uproot.open(path)["Events"].arrays()
    contents = np.zeros(len(edges) - 1)
    for event in e:
        leptons = [
            (event.Electron_pt[i], event.Electron_eta[i], event.Electron_phi[i])
            for i in range(len(event.Electron_pt))
            if event.Electron_pt[i] > 25
            and abs(event.Electron_eta[i]) < 2.1
            and event.Electron_cutBased[i] == 4
            and event.Electron_sip3d[i] < 4
        ] + [
            (event.Muon_pt[i], event.Muon_eta[i], event.Muon_phi[i])
            for i in range(len(event.Muon_pt))
            if event.Muon_pt[i] > 25
            and abs(event.Muon_eta[i]) < 2.1
            and event.Muon_tightId[i]
            and event.Muon_sip3d[i] < 4
            and event.Muon_pfRelIso04_all[i] < np.float32(0.15)
        ]
        good = [i for i in range(len(event.Jet_pt)) if abs(event.Jet_eta[i]) < 2.4 and event.Jet_jetId[i] & 4]
        if len(leptons) != 1 or len(good) < 4:
            continue
        four = good[:4]
        pt, eta, phi, mass = (np.array([event[f"Jet_{n}"][i] for i in four], dtype=float) for n in VECTOR)
        tags = sorted(event.Jet_btagCSVV2[i] for i in four)
        factor = np.full(4, scale)
        if resolution:
            # numbered by the place among the good jets of the event
            places = np.arange(4)
            numbers = np.full(4, event.event, dtype=np.uint64)
            draws = event_random.normal(numbers, places, "pt_res_up").astype(np.float32).astype(float)
            factor = 1 + 0.05 * draws
        met = np.array(
            [event.MET_pt * np.cos(event.MET_phi), event.MET_pt * np.sin(event.MET_phi)], dtype=float
        )
        met -= [np.sum((factor - 1) * pt * np.cos(phi)), np.sum((factor - 1) * pt * np.sin(phi))]
        pt = factor * pt
        order = np.sort(pt)
        passed = (
            leptons[0][0] > cuts["lepton_pt"] and order[3] > cuts["jet1_pt"] and order[2] > cuts["jet2_pt"]
            and order[0] > cuts["jet4_pt"] and np.hypot(*met) > cuts["met"] and pt.sum() > cuts["ht"]
            and tags[3] > cuts["btag"] and tags[2] > cuts["second_btag"]
        )  # fmt: skip
        if not passed:
            continue
        vectors = [
            (p * np.cosh(h), p * np.cos(f), p * np.sin(f), p * np.sinh(h), m)
            for p, h, f, m in zip(pt, eta, phi, mass, strict=True)
        ]
        energy = sum(np.sqrt(v[0] ** 2 + v[4] ** 2) for v in vectors)
        momentum = np.sum([v[1:4] for v in vectors], axis=0)
        lepton_pt, lepton_eta, lepton_phi = map(float, leptons[0])
        energy += lepton_pt * np.cosh(lepton_eta)
        momentum += [
            lepton_pt * np.cos(lepton_phi),
            lepton_pt * np.sin(lepton_phi),
            lepton_pt * np.sinh(lepton_eta),
        ]
        found = np.sqrt(energy**2 - momentum @ momentum)
        weight = event.genWeight * (
            1 if shower is None or len(event.PSWeight) == 1 else event.PSWeight[shower]
        )
        contents += weight * np.histogram([found], edges)[0]
    return contents, ak.sum(e.genWeight, axis=0)


VECTOR = ("pt", "eta", "phi", "mass")


@pytest.mark.slow
def test_exact_cuts_are_what_a_loop_over_the_events_gives(run):
    settings, paths, files = run
    work = prepare_work(settings, files, datasets.ALL)
    parameters = {**initial_parameters(settings), **{k: np.float64(v) for k, v in CUTS.items()}}
    found = forward(InProcess(), work, parameters, EXACT).yields["signal"]
    edges = np.array(settings.channels["signal"].edges, dtype=float)
    variations = {
        "nominal": {},
        "pt_scale_up": {"scale": 1.03},
        "pt_scale_down": {"scale": 0.97},
        "isr_down": {"shower": 2},
        "pt_res_up": {"resolution": True},
    }
    for sample, path in paths.items():
        for name, options in variations.items():
            if name.startswith("isr") and sample not in ("ttbar_leptonic", "zprime_ttbar"):
                continue
            contents, total = by_hand(path, CUTS, edges, **options)
            expected = (
                contents
                * settings.data.samples[sample].cross_section_pb
                * settings.data.luminosity_per_pb
                / total
            )
            own = found[work.axes.samples.index(sample), work.axes.variations.index(name)]
            np.testing.assert_allclose(own, expected, rtol=2e-6, atol=1e-9, err_msg=f"{sample} {name}")


@pytest.mark.slow
def test_the_gradient_over_chunks_is_that_of_all_events(run):
    settings, _, files = run
    steps = []
    for chunk in (97, 100_000):
        own = settings.model_copy(
            update={
                "cluster": settings.cluster.model_copy(update={"chunk_events": chunk, "group_events": 400})
            }
        )
        work = prepare_work(own, files, datasets.ALL)
        evaluate = centre(own, work.axes)
        steps.append(value_and_grad(InProcess(), work, initial_parameters(own), widths_at(own, 0), evaluate))
    assert steps[0].objective == pytest.approx(steps[1].objective, rel=1e-10)
    for name, gradient in steps[1].gradient.items():
        scale = np.max(np.abs(gradient)) or 1.0
        np.testing.assert_allclose(steps[0].gradient[name], gradient, atol=1e-8 * scale, err_msg=name)
        assert np.any(gradient != 0), name
