"""The definition of jets: towers of generated events, clustered again for each value of the parameters."""

import awkward as ak
import numpy as np
import pytest

pytest.importorskip("fastjet", reason="the extra `simulate` is not installed")
pytest.importorskip("pythia8mc", reason="the extra `simulate` is not installed")

import fastjet
from chunked import assert_chunks_are_the_whole
from columnfiles import write_columns
from generated import generated

from pipeline.analyses.jet_definition import COLLECTIONS, COUNTS, INPUTS, RADII, JetDefinition
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.surrogate_calls import Calls
from pipeline.simulate.pythia import towers
from pipeline.simulate.pythia.generator import generate

pytestmark = pytest.mark.simulate

EVENTS = 400


@pytest.fixture(scope="module")
def branches():
    """What the generator writes of top-quark pairs."""
    return ak.Array(dict(towers.events("ttbar", EVENTS, np.random.default_rng(5))))


@pytest.fixture(scope="module")
def columns(branches):
    """Columns of the selected events, and one of padding as chunks have it."""
    flat = {name: branches[name] for name in ("leptons",)}
    for kind in ("Tower", "Hadron"):
        flat |= {f"{kind}_{name}": branches[kind][name] for name in branches[kind].fields}
    events = ak.zip(
        {**flat, **dict.fromkeys(("event", "event_number"), np.arange(EVENTS, dtype=np.uint64))},
        depth_limit=1,
    )
    found = JetDefinition().columns(events, "ttbar")
    return {name: np.concatenate([array, np.zeros_like(array[:1])]) for name, array in found.items()}


def jets_of(c, event, radius):
    """Transverse momentum and pseudorapidity of jets above 8 GeV, by FastJet's own interface, event by event."""
    pt, eta, phi = (c[f"tower_{name}"][event].astype(np.float64) for name in ("pt", "eta", "phi"))
    inputs = [
        fastjet.PseudoJet(p * np.cos(f), p * np.sin(f), p * np.sinh(e), p * np.cosh(e))
        for p, e, f in zip(pt, eta, phi, strict=True)
        if p > 0
    ]
    sequence = fastjet._swig.ClusterSequence(inputs, fastjet.JetDefinition(fastjet.antikt_algorithm, radius))
    return [(jet.pt(), jet.eta()) for jet in fastjet.sorted_by_pt(sequence.inclusive_jets(8.0))]


def test_towers_are_all_that_is_seen_of_events_with_one_lepton(branches):
    one = np.asarray(branches.leptons) == 1
    assert 0.1 < one.mean() < 0.25
    number = np.asarray(ak.num(branches.Tower.pt))
    assert np.all((number > 0) == one)
    assert number.max() <= COLLECTIONS["Tower"][0]
    assert ak.max(ak.num(branches.Hadron.pt)) <= COLLECTIONS["Hadron"][0]
    assert ak.min(branches.Tower.pt) > towers.LEAST_PT
    assert ak.max(np.abs(branches.Tower.eta)) < towers.ETA


def test_a_tower_is_the_sum_of_its_particles():
    record = next(generate("ttbar", events=20, seed=3))
    seen = record.visible()
    seen = seen.select(seen.within(pt=0.0, eta=2.0))
    made = towers._towers(seen)
    for event in range(3):
        of_event = seen.event == event
        place = {
            (int(np.floor(e / 0.1)), int(np.floor(f / 0.1)))
            for e, f in zip(seen.eta[of_event], seen.phi[of_event], strict=True)
        }
        assert np.sum(made.event == event) <= len(place)
        lost = np.hypot(
            seen.px[of_event].sum() - made.px[made.event == event].sum(),
            seen.py[of_event].sum() - made.py[made.event == event].sum(),
        )
        assert lost <= towers.LEAST_PT * len(place)
    assert np.all(made.pt > towers.LEAST_PT)
    assert made.pt.sum() <= seen.pt.sum()


@pytest.mark.parametrize("radius", [0.2, 0.5, 1.0])
def test_outputs_are_counts_of_fastjet_jets(columns, radius):
    p = {"radius": radius, "jet_pt": 30.0}
    out = JetDefinition().simulate(p, columns, np.random.default_rng(1))
    measured = towers.clustered(columns, radius, np.random.default_rng(1))
    for event in range(len(columns["weight"])):
        mine = measured.event == event
        assert sum(mine) == len(jets_of(columns, event, radius))
        jets = list(zip(measured.pt[mine], measured.eta[mine], measured.btag[mine], strict=True))
        for scale, suffixes in ((1.0, ("",)), (1.03, ("", "_up"))):
            chosen = [(scale * pt, tag) for pt, eta, tag in jets if scale * pt > 30 and abs(eta) < 2.4]
            want = {
                "jets": len(chosen),
                "tags": sum(tag > 0.5 for _, tag in chosen),
                "ht": sum(pt for pt, _ in chosen),
            }
            for name in COUNTS:
                assert sum(out[name + s][event] for s in suffixes) == pytest.approx(want[name], abs=1e-9)


def test_inputs_are_the_leading_jets(columns):
    for event in range(10):
        for number, radius in enumerate(RADII):
            want = [pt for pt, eta in jets_of(columns, event, radius) if abs(eta) < 2.4][:6]
            names = INPUTS[6 * number : 6 * number + 6]
            found = [np.exp(columns[name][event]) for name in names]
            np.testing.assert_allclose(found[: len(want)], want, rtol=1e-5)
            assert all(pt < 8.0001 for pt in found[len(want) :])


def test_the_gradient_over_chunks_is_that_of_the_whole(request, tmp_path):
    run = generated(
        request.config.rootpath / "config" / "jet_definition.yaml",
        {"ttbar": 500, "wjets": 200, "single_top_tW": 200},
        tmp_path,
        ["cluster.precision=float64", "surrogate.draws=100", "surrogate.steps=20"],
    )
    files = write_columns(run, tmp_path)
    work = prepare_work(run, files, datasets.TRAIN)
    parameters = initial_parameters(run)
    surrogate, counts = Calls(run).learnt(InProcess(), work, 0, parameters)
    assert counts.calls == 5
    assert_chunks_are_the_whole(run, files, surrogate=surrogate)
