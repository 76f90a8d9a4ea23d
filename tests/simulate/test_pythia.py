"""The embedded data set: same seeds same events, readable by coffea, physics that can be checked by hand."""

import ast
import dataclasses
import itertools
import pathlib

import awkward as ak
import numpy as np
import pytest
import uproot

pytest.importorskip("pythia8mc", reason="the extra `simulate` is not installed")
pytest.importorskip("fastjet", reason="the extra `simulate` is not installed")

from coffea.nanoevents import NanoAODSchema, NanoEventsFactory

from pipeline.simulate.generate import EVENTS_MAXIMUM, write
from pipeline.simulate.pythia import PROCESSES, generator, simulate
from pipeline.simulate.pythia.associated_top import squared_amplitude
from pipeline.simulate.pythia.generator import generate, heaviest_quark, start
from pipeline.simulate.pythia.jets import BOTTOM, CHARM, LIGHT, TAGS
from pipeline.simulate.pythia.leptons import MUONS
from pipeline.simulate.pythia.response import Resolution

pytestmark = pytest.mark.simulate

EVENTS = 600
VARIATIONS = [f"ttbar__{name}" for name in ("scaledown", "scaleup", "ME_var", "PS_var")]  # as in the AGC
NANOAOD_TYPES = {
    "run": "uint32_t",
    "luminosityBlock": "uint32_t",
    "event": "uint64_t",
    "genWeight": "float",
    "PSWeight": "float[]",
    **{f"Jet_{name}": "float[]" for name in ("pt", "eta", "phi", "mass", "btagCSVV2")},
    **{f"Jet_{name}": "int32_t[]" for name in ("jetId", "hadronFlavour")},
    **{f"Electron_{name}": "float[]" for name in ("pt", "eta", "phi", "mass", "sip3d", "pfRelIso03_all")},
    **{f"Electron_{name}": "int32_t[]" for name in ("charge", "cutBased")},
    **{f"Muon_{name}": "float[]" for name in ("pt", "eta", "phi", "mass", "sip3d", "pfRelIso04_all")},
    "Muon_charge": "int32_t[]",
    "Muon_tightId": "bool[]",
    "Muon_mediumId": "bool[]",
    "MET_pt": "float",
    "MET_phi": "float",
}


@pytest.fixture(scope="module")
def ttbar(tmp_path_factory):
    """A file of top-quark pairs."""
    path = tmp_path_factory.mktemp("simulate") / "ttbar.root"
    simulate("ttbar", path, events=EVENTS, seed=3)
    return path


@pytest.fixture
def events(ttbar, monkeypatch):
    """The same through coffea, which would warn that there are no cross-references (Electron_jetIdx ...)."""
    monkeypatch.setattr(NanoAODSchema, "warn_missing_crossrefs", False)
    return NanoEventsFactory.from_root(
        {str(ttbar): "Events"}, schemaclass=NanoAODSchema, mode="virtual"
    ).events()


def branches(path):
    with uproot.open(path) as file:
        return file["Events"].arrays()


def test_the_same_seed_gives_the_same_arrays_and_another_seed_others(ttbar, tmp_path):
    for name, seed in {"again": 3, "other": 4}.items():
        simulate("ttbar", tmp_path / f"{name}.root", events=EVENTS, seed=seed)
    first, again, other = (
        branches(path) for path in (ttbar, tmp_path / "again.root", tmp_path / "other.root")
    )
    assert all(ak.array_equal(first[name], again[name]) for name in first.fields)
    assert not ak.array_equal(first.MET_pt, other.MET_pt)
    assert not set(first.event.tolist()) & set(other.event.tolist())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.root", "other.root"]


def test_event_numbers_are_unique_and_tell_the_seed(ttbar):
    assert branches(ttbar).event.tolist() == list(range(3 * EVENTS_MAXIMUM, 3 * EVENTS_MAXIMUM + EVENTS))


def test_the_tree_has_nanoaod_names_and_types_and_every_event(ttbar):
    with uproot.open(ttbar) as file:
        tree = file["Events"]
        types = {name: tree[name].typename for name in tree.keys() if not name.startswith("n")}  # noqa: SIM118
        counters = {name for name in tree.keys() if name.startswith("n")}  # noqa: SIM118
        assert tree.num_entries == EVENTS
    assert types == NANOAOD_TYPES
    assert counters == {"nPSWeight", "nJet", "nElectron", "nMuon"}


def test_coffea_reads_it_in_virtual_mode(events):
    assert len(events) == EVENTS
    assert {"Jet", "Electron", "Muon", "MET", "run", "event", "genWeight"} <= set(events.fields)
    pair = events.Jet[ak.num(events.Jet) >= 2]
    assert ak.all((pair[:, 0] + pair[:, 1]).mass > 0)
    assert ak.all(events.genWeight == 1)
    assert events.PSWeight.tolist() == [[1.0]] * EVENTS


@pytest.mark.parametrize("name", ["Jet", "Electron", "Muon"])
def test_objects_are_sorted_and_finite(events, name):
    objects = events[name]
    assert ak.all(objects.pt[:, :-1] >= objects.pt[:, 1:])
    assert all(ak.all(np.isfinite(objects[field])) for field in objects.fields)
    assert ak.all(np.abs(objects.phi) <= np.float32(np.pi))
    assert ak.num(objects, axis=0) == EVENTS


def test_ttbar_has_two_bottom_jets_four_jets_and_leptons(events):
    jets = events.Jet[(events.Jet.pt > 25) & (abs(events.Jet.eta) < 2.4) & (events.Jet.jetId == 6)]
    assert 1.3 < ak.mean(ak.num(jets[jets.hadronFlavour == BOTTOM])) < 1.8
    assert 3.5 < ak.mean(ak.num(jets)) < 5.0
    muons = events.Muon[events.Muon.tightId & (events.Muon.pfRelIso04_all < 0.15) & (events.Muon.pt > 25)]
    electrons = events.Electron[(events.Electron.cutBased == 4) & (events.Electron.pt > 25)]
    # W -> mu nu or W -> tau -> mu: 13 % of W bosons, two of them, times acceptance and efficiency
    assert 0.08 < ak.mean(ak.num(muons)) < 0.2
    assert 0.06 < ak.mean(ak.num(electrons)) < 0.2
    assert set(np.unique(ak.to_numpy(ak.flatten(events.Electron.cutBased)))) <= {0, 1, 2, 3, 4}


def test_a_selected_lepton_is_not_a_jet_too(events):
    jets = events.Jet[events.Jet.jetId == 6]
    tight = events.Muon.tightId & (events.Muon.pfRelIso04_all < 0.15) & (events.Muon.pt > 25)
    electrons = events.Electron[(events.Electron.cutBased == 4) & (events.Electron.pt > 25)]
    for leptons in (events.Muon[tight], electrons):
        nearest = ak.fill_none(ak.flatten(leptons.metric_table(jets), axis=1), [], axis=0)
        assert ak.mean(ak.any(nearest < 0.2, axis=-1)) < 0.03


def test_leptons_of_bottom_hadrons_are_displaced_and_not_isolated(events):
    muons = ak.flatten(events.Muon[events.Muon.pt > 10])
    isolated = muons.pfRelIso04_all < 0.15
    assert np.median(muons.sip3d[isolated]) < 2 < np.median(muons.sip3d[~isolated])


@pytest.mark.parametrize("flavour", [BOTTOM, CHARM, LIGHT])
def test_tag_efficiencies_are_the_documented_ones(events, flavour):
    jets = ak.flatten(events.Jet[abs(events.Jet.eta) < 2.4])
    jets = jets[jets.hadronFlavour == flavour]
    expected = TAGS[flavour].efficiency(ak.to_numpy(jets.pt).astype(np.float64))
    sigma = np.sqrt(np.sum(expected * (1 - expected)))
    assert abs(ak.sum(jets.btagCSVV2 > 0.5) - expected.sum()) < 4 * sigma
    assert ak.all((jets.btagCSVV2 >= 0) & (jets.btagCSVV2 <= 1))


@pytest.mark.parametrize("threshold", [0.2, 0.8])
def test_tag_scores_follow_their_distribution(threshold):
    tag, pt, rng = TAGS[LIGHT], np.full(200_000, 50.0), np.random.default_rng(1)
    power = np.log(tag.efficiency(pt[:1])) / np.log1p(-(0.5**tag.shape))
    expected = (1 - threshold**tag.shape) ** power[0]
    observed = np.mean(tag.scores(pt, rng) > threshold)
    assert observed == pytest.approx(expected, abs=4 * np.sqrt(expected / len(pt)))


def test_resolution_has_mean_one_and_the_stated_width():
    resolution, pt = Resolution(noise=3.0, stochastic=0.8, constant=0.04), np.full(200_000, 40.0)
    factors = resolution.factors(pt, np.random.default_rng(1))
    sigma = np.sqrt((3 / 40) ** 2 + 0.8**2 / 40 + 0.04**2)
    assert factors.mean() == pytest.approx(1.0, abs=4 * sigma / np.sqrt(len(pt)))
    assert np.log(factors).std() == pytest.approx(sigma, rel=0.01)


def test_lepton_efficiency_rises_to_its_plateau():
    pt, eta = np.array([1e-3, 20.0, 1e4, 1e4]), np.array([0.0, 0.0, 0.0, 2.0])
    efficiency = MUONS.efficiency((0.9, 0.8), pt, eta)
    np.testing.assert_allclose(efficiency, [0.0, 0.9 * (1 - np.exp(-5)), 0.9, 0.8], atol=1e-3)


def test_missing_momentum_follows_the_neutrinos(ttbar):
    seen, true = branches(ttbar), []
    for record in generate("ttbar", events=EVENTS, seed=3):
        neutrinos = record.neutrinos()
        true.append(np.bincount(neutrinos.event, weights=neutrinos.px, minlength=record.events))
    measured = ak.to_numpy(seen.MET_pt * np.cos(seen.MET_phi))
    assert np.corrcoef(measured, np.concatenate(true))[0, 1] > 0.7
    assert np.std(measured - np.concatenate(true)) < 35  # GeV


def test_heaviest_quark():
    pdg = np.array([511, -521, 5122, 20523, 411, 4122, 443, 211, 2212, 111, 22, 5, 21, 13])
    assert heaviest_quark(pdg).tolist() == [5, 5, 5, 5, 4, 4, 4, 2, 2, 1, 0, 0, 0, 0]


def dirac_traces(s, cosine, w_mass_squared, top_mass_squared):
    """|M|^2 of g b -> W t from the two diagrams, spin sums as 4 x 4 traces; and u. Slow, obvious."""
    pauli = [np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])]
    zero, one, metric = np.zeros((2, 2)), np.eye(2), np.diag([1.0, -1, -1, -1])
    gamma = [np.block([[zero, one], [one, zero]]), *(np.block([[zero, p], [-p, zero]]) for p in pauli)]
    left = (np.eye(4) - 1j * gamma[0] @ gamma[1] @ gamma[2] @ gamma[3]) / 2

    def slash(p):
        return sum(metric[i, i] * p[i] * gamma[i] for i in range(4))

    energy, sine, mass = np.sqrt(s) / 2, np.sqrt(1 - cosine**2), np.sqrt(top_mass_squared)
    k = (
        np.sqrt(((s - top_mass_squared - w_mass_squared) ** 2 - 4 * top_mass_squared * w_mass_squared) / s)
        / 2
    )
    gluon, bottom = np.array([energy, 0, 0, energy]), np.array([energy, 0, 0, -energy])
    w_boson = np.array([np.hypot(k, np.sqrt(w_mass_squared)), k * sine, 0, k * cosine])
    top = gluon + bottom - w_boson
    v = -2 * gluon @ metric @ top
    propagator_s, propagator_u = slash(gluon + bottom) / s, (slash(top - gluon) + mass * np.eye(4)) / v
    polarisation = metric @ (-metric + np.outer(w_boson, w_boson) / w_mass_squared) @ metric
    total = 0.0
    for mu, nu, rho in itertools.product(range(4), repeat=3):
        a, b = (
            gamma[i] @ left @ propagator_s @ gamma[mu] + gamma[mu] @ propagator_u @ gamma[i] @ left
            for i in (nu, rho)
        )
        bar = gamma[0] @ b.conj().T @ gamma[0]
        trace = np.trace((slash(top) + mass * np.eye(4)) @ a @ slash(bottom) @ bar)
        total -= metric[mu, mu] * polarisation[nu, rho] * trace.real
    return total, v + top_mass_squared


@pytest.mark.parametrize("cosine", [-0.9, 0.0, 0.6])
def test_matrix_element_of_associated_top_equals_the_dirac_traces(cosine):
    s, w, m = 500.0**2, 80.4**2, 172.5**2
    expected, u = dirac_traces(s, cosine, w, m)
    assert squared_amplitude(s, u, w, m) == pytest.approx(expected, rel=1e-9)


def test_matrix_element_without_masses_is_that_of_w_and_a_quark():
    s, u, w = 9.0, -3.0, 1.0
    t = w - s - u
    assert squared_amplitude(s, u, w, 0.0) == pytest.approx(4 * (s**2 + u**2 + 2 * t * w) / (-s * u))


def test_associated_top_is_made_of_gluon_and_bottom_and_the_top_follows_the_gluon():
    record = next(generate("single_top_tW", events=250, seed=1))
    first = record.offsets[:-1]
    incoming, outgoing = record.pdg[first[:, None] + [3, 4]], record.pdg[first[:, None] + [5, 6]]
    assert np.all(np.sort(np.abs(incoming), axis=1) == [5, 21])
    assert np.all(np.abs(outgoing) == [24, 6])
    assert np.all(np.sign(outgoing[:, 0]) == -np.sign(outgoing[:, 1]))
    boost = (record.pz[first + 3] + record.pz[first + 4]) / (
        record.energy[first + 3] + record.energy[first + 4]
    )
    along_first = record.pz[first + 6] / record.energy[first + 6] - boost
    for gluon_first in (True, False):
        chosen = (incoming[:, 0] == 21) == gluon_first
        assert np.mean(np.sign(along_first[chosen]) == (1 if gluon_first else -1)) > 0.5


@pytest.mark.parametrize("name", VARIATIONS)
def test_a_variation_is_the_nominal_process_with_settings_that_pythia_took(name):
    nominal, variation = PROCESSES["ttbar"], PROCESSES[name]
    assert variation.settings[: len(nominal.settings)] == nominal.settings
    kept = ("cross_section_pb", "cross_section_source", "associated_top")
    assert all(getattr(variation, field) == getattr(nominal, field) for field in kept)
    before, after = (start(process, seed=1)[0] for process in ("ttbar", name))
    for line in variation.settings[len(nominal.settings) :]:
        key, asked = line.split(" = ")
        old, new = (pythia.settings.output(key).split("=")[1].strip() for pythia in (before, after))
        words = {"on": "true", "off": "false"}
        assert new == words[asked] if asked in words else float(new) == float(asked)
        assert old != new


@pytest.mark.parametrize(("name", "factor"), [("ttbar__scaledown", 0.25), ("ttbar__scaleup", 4.0)])
def test_scale_variations_move_both_scales_of_hard_process_and_showers(name, factor):
    settings = start(name, seed=1)[0].settings
    for part, scale in itertools.product(("SigmaProcess", "TimeShower", "SpaceShower"), ("renorm", "factor")):
        assert settings.parm(f"{part}:{scale}MultFac") == factor


def test_variations_differ_from_the_nominal_events_of_the_same_seed_as_the_coupling_says():
    visible = {
        name: np.diff(next(generate(name, events=250, seed=1)).visible().offsets)
        for name in ("ttbar", *VARIATIONS)
    }
    assert len({tuple(counts) for counts in visible.values()}) == 1 + len(VARIATIONS)
    ratio = {name: counts.mean() / visible["ttbar"].mean() for name, counts in visible.items()}
    # particles follow alpha_s of the showers: larger at small scales, smaller with 0.118 at two loops
    assert 1.05 < ratio["ttbar__scaledown"] < 1.3
    assert 0.8 < ratio["ttbar__scaleup"] < 0.95
    assert 0.8 < ratio["ttbar__PS_var"] < 0.97
    assert 0.95 < ratio["ttbar__ME_var"] < 1.05


def one_tight_lepton(events):
    """Whether an event has exactly one muon or electron of good quality above 25 GeV."""
    muons = events.Muon_tightId & (events.Muon_pfRelIso04_all < 0.15) & (events.Muon_pt > 25)
    electrons = (events.Electron_cutBased == 4) & (events.Electron_pt > 25)
    return ak.sum(muons, axis=1) + ak.sum(electrons, axis=1) == 1


def test_leptonic_events_stand_for_all_with_a_lepton(ttbar, tmp_path):
    simulate("ttbar_leptonic", tmp_path / "leptonic.root", events=1200, seed=5)
    found, inclusive = branches(tmp_path / "leptonic.root"), branches(ttbar)
    weight = ak.to_numpy(found.genWeight)
    assert set(weight) == {1.0, 2.0}
    hadronic = 1 - 0.3257
    one, two = 2 * 0.3257 * hadronic, 0.3257**2
    assert np.mean(weight == 2) == pytest.approx(one / 2 / (one / 2 + two), abs=4 * 0.5 / np.sqrt(1200))
    selected = ak.to_numpy(one_tight_lepton(found))
    own = PROCESSES["ttbar_leptonic"].cross_section_pb * np.sum(weight * selected) / np.sum(weight)
    everything = PROCESSES["ttbar"].cross_section_pb * np.mean(ak.to_numpy(one_tight_lepton(inclusive)))
    assert own == pytest.approx(everything, rel=4 * np.hypot(1 / np.sqrt(120), 1 / np.sqrt(400)))


def test_a_lepton_is_what_the_positive_w_always_has():
    record = next(generate("ttbar_leptonic", events=250, seed=1))
    assert set(record.to_leptons()) == {1, 2}
    neutrino = np.isin(record.pdg, [12, 14, 16]) & (record.pdg[record.mother] == 24)
    assert np.all(np.bincount(record.event[neutrino], minlength=250) == 1)


def test_shower_weights_are_near_one_and_more_radiation_makes_more_jets(tmp_path):
    simulate("ttbar_leptonic", tmp_path / "events.root", events=1200, seed=6)
    found = branches(tmp_path / "events.root")
    ratios = ak.to_numpy(found.PSWeight)
    assert ratios.shape == (1200, 4)
    np.testing.assert_allclose(ratios.mean(axis=0), 1, atol=5 * 0.45 / np.sqrt(1200))
    jets = ak.to_numpy(ak.sum(found.Jet_pt > 25, axis=1))
    more, less = (np.average(jets, weights=ratios[:, place]) for place in (0, 2))
    assert more > jets.mean() > less


def test_a_bias_is_undone_by_its_weights():
    biased, plain = (PROCESSES[name] for name in ("wjets_weighted", "wjets"))
    records = {name: list(generate(name, events=2000, seed=1)) for name in ("wjets_weighted", "wjets")}
    hardness, weights = (
        np.concatenate([np.ravel(of(record)) for record in records["wjets_weighted"]])
        for of in (lambda r: r.hardness, lambda r: generator.generator_weight(r, biased))
    )
    np.testing.assert_allclose(weights, 100 / hardness)
    unbiased = np.concatenate([record.hardness for record in records["wjets"]])
    assert min(hardness.min(), unbiased.min()) > 100
    assert np.median(hardness) > 1.05 * np.median(unbiased)
    for power in (1, -1):
        weighted = np.average(hardness**power, weights=weights)
        error = np.std(unbiased**power) * np.sqrt(3 / 2000)
        assert weighted == pytest.approx(np.mean(unbiased**power), abs=5 * error)
    assert plain.bias is None


@pytest.mark.parametrize("setting", ["TimeShower:alphaSwalue = 0.1", "SpaceShower:pTdampFudge = 9."])
def test_a_setting_that_pythia_does_not_accept_is_an_error(setting, monkeypatch):
    wrong = dataclasses.replace(PROCESSES["ttbar"], settings=(setting,))
    monkeypatch.setattr(generator, "PROCESSES", {"ttbar": wrong})
    with pytest.raises(RuntimeError, match=f"'ttbar': Pythia does not accept the setting '{setting}'"):
        start("ttbar", seed=1)


@pytest.mark.parametrize("process", [name for name in PROCESSES if name != "ttbar"])
def test_every_process_runs_in_silence(process, tmp_path, capfd):
    simulate(process, tmp_path / "events.root", events=20, seed=900_000_000)
    assert capfd.readouterr() == ("", "")
    assert len(branches(tmp_path / "events.root")) == 20
    assert PROCESSES[process].cross_section_pb > 0


@pytest.mark.parametrize(
    ("process", "arguments", "message"),
    [
        ("tbar", {"events": 1, "seed": 1}, r"'tbar' is not known; choose one of ttbar, single_top_t_chan"),
        ("ttbar", {"events": 0, "seed": 1}, r"events = 0, allowed 1\.\.1000000"),
        ("ttbar", {"events": 1_000_001, "seed": 1}, r"events = 1000001, .* several files"),
        ("ttbar", {"events": 1, "seed": 0}, r"seed = 0, Pythia allows 1\.\.900000000"),
        ("ttbar", {"events": 1, "seed": 900_000_001}, r"seed = 900000001"),
    ],
)
def test_what_cannot_be_generated_is_refused(process, arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        simulate(process, tmp_path / "events.root", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_refused_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; make it first"):
        simulate("ttbar", tmp_path / "nowhere" / "events.root", events=EVENTS_MAXIMUM, seed=1)


def test_a_failure_while_writing_leaves_no_file_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "events.root"
    path.write_text("the old file")
    with pytest.raises(ValueError, match="same number of entries"):
        write({"a": np.zeros(2), "b": np.zeros(3)}, path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("events.root", "the old file")]


def test_the_gpl_libraries_are_imported_by_the_simulation_only():
    package = pathlib.Path(__file__).parents[2] / "pipeline"
    for path in package.rglob("*.py"):
        if path.is_relative_to(package / "simulate"):
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in names} & {"pythia8mc", "fastjet"}, path


def test_medium_muons_are_tight_ones_and_as_many_others_as_stated(ttbar):
    found = branches(ttbar)
    tight, medium = (ak.to_numpy(ak.flatten(found[f"Muon_{name}"])) for name in ("tightId", "mediumId"))
    assert not np.any(tight & ~medium)
    pt, eta = (ak.to_numpy(ak.flatten(found[f"Muon_{name}"])).astype(np.float64) for name in ("pt", "eta"))
    expected = MUONS.efficiency(MUONS.medium, pt, eta)  # the same for all origins
    assert abs(medium.sum() - expected.sum()) < 4 * np.sqrt(np.sum(expected * (1 - expected)))
    assert np.mean(tight) < np.mean(medium) - 0.02
