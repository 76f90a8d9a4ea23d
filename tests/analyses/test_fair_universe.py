"""The FAIR Universe challenge's quantities, shifts and score; templates and pseudo-experiments of a miniature."""

import importlib.util
import math
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from columnfiles import write_columns
from generated import generated

from pipeline.analyses import fair_universe
from pipeline.analyses import fair_universe_quantities as quantities
from pipeline.cluster import InProcess
from pipeline.containers import Columns
from pipeline.data import datasets
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.likelihood import HistFactory
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.optimise.parameters import initial_parameters
from pipeline.templates.fill import EXACT

SIZES = {"htautau": 300, "ztautau": 500, "ttbar": 200, "diboson": 100}


@pytest.fixture(scope="module")
def study(request):
    """The script of the pseudo-experiments."""
    path = request.config.rootpath / "workflow/studies/fair_universe.py"
    spec = importlib.util.spec_from_file_location("fair_universe_study", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def some_events(number=200, seed=1):
    """Primary quantities by NumPy: 0 to 4 jets, momenta around the thresholds."""
    rng = np.random.default_rng(seed)
    jets = np.sort(20 + rng.exponential(15, (number, 4)), axis=1)[:, ::-1]
    n_jets = rng.integers(0, 5, number)
    made = {
        "PRI_n_jets": 1.0 * n_jets,
        "PRI_jet_all_pt": np.sum(jets * (np.arange(4) < n_jets[:, None]), axis=1),
    }
    for what in ("lep", "had"):
        made[f"PRI_{what}_pt"] = 20 + rng.exponential(15, number)
        made[f"PRI_{what}_eta"], made[f"PRI_{what}_phi"] = (
            rng.normal(0, 1.2, number),
            rng.uniform(-3.1, 3.1, number),
        )
    for rank, name in enumerate(quantities.JETS):
        there = n_jets > rank
        own = {"pt": jets[:, rank], "eta": rng.normal(0, 1.8, number), "phi": rng.uniform(-3.1, 3.1, number)}
        made |= {f"PRI_jet_{name}_{of}": np.where(there, values, -25.0) for of, values in own.items()}
    for name in ("met_x", "met_y", "soft_x", "soft_y"):
        made[name] = rng.normal(0, 30 if name[0] == "m" else 1, number)
    return {**made, "weight": np.ones(number)}


def columns_of(events):
    return Columns({name: jnp.asarray(array) for name, array in events.items()})


def vector(events, what, i):
    """Energy and momentum of a massless object, (E, x, y, z)."""
    pt, eta, phi = (events[f"PRI_{what}_{of}"][i] for of in ("pt", "eta", "phi"))
    return np.array([pt * math.cosh(eta), pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)])


def as_numpy(columns):
    """Columns as NumPy arrays, which are quick to look at one by one."""
    return {name: np.asarray(array) for name, array in columns.arrays.items()}


def mass(momentum):
    return math.sqrt(max(momentum[0] ** 2 - np.sum(momentum[1:] ** 2), 0.0))


def test_derived_quantities_are_those_of_four_vectors():
    """Event by event in plain Python, with the definitions in words of the challenge's documentation."""
    events = some_events()
    found = {name: np.asarray(array) for name, array in quantities.derived(columns_of(events)).items()}
    assert len(found) == 12
    for i in range(len(events["weight"])):
        lep, had = vector(events, "lep", i), vector(events, "had", i)
        met = np.array([0.0, events["met_x"][i], events["met_y"][i], 0.0])
        met[0] = math.hypot(*met[1:3])
        jets = [
            vector(events, f"jet_{n}", i)
            for k, n in enumerate(quantities.JETS)
            if events["PRI_n_jets"][i] > k
        ]
        flat = met + lep * [0, 1, 1, 0]
        flat[0] = met[0] + events["PRI_lep_pt"][i]
        higgs, everything = met + lep + had, met + lep + had + sum(jets)
        eta = {what: events[f"PRI_{what}_eta"][i] for what in ("lep", "had", "jet_leading", "jet_subleading")}
        one, other = eta["jet_leading"], eta["jet_subleading"]
        turned = math.remainder(events["PRI_lep_phi"][i] - events["PRI_had_phi"][i], 2 * math.pi)
        # the missing momentum in the basis of the directions of lepton and tau: both parts, over their length
        basis = np.stack([v[1:3] / math.hypot(*v[1:3]) for v in (lep, had)], axis=1)
        a, b = np.linalg.solve(basis, met[1:3])
        expected = {
            "DER_mass_transverse_met_lep": mass(flat),
            "DER_mass_vis": mass(lep + had),
            "DER_pt_h": math.hypot(*higgs[1:3]),
            "DER_pt_tot": math.hypot(*everything[1:3]),
            "DER_sum_pt": events["PRI_had_pt"][i] + events["PRI_lep_pt"][i] + events["PRI_jet_all_pt"][i],
            "DER_pt_ratio_lep_had": events["PRI_lep_pt"][i] / events["PRI_had_pt"][i],
            "DER_deltar_had_lep": math.hypot(eta["lep"] - eta["had"], turned),
            "DER_met_phi_centrality": (a + b) / math.hypot(a, b),
            "DER_deltaeta_jet_jet": abs(one - other),
            "DER_mass_jet_jet": mass(sum(jets)) if len(jets) == 2 else 0.0,
            "DER_prodeta_jet_jet": one * other,
            "DER_lep_eta_centrality": math.exp(
                -4 * ((eta["lep"] - (one + other) / 2) / (one - other or 1)) ** 2
            ),
        }
        if len(jets) < 2:
            lacking = [name for name in expected if "jet" in name or "eta_cent" in name]
            expected |= dict.fromkeys(lacking, -25.0)
        for name, number in expected.items():
            assert found[name][i] == pytest.approx(number, rel=1e-9, abs=1e-5), (name, i)


def test_shifts_keep_the_sum_of_momenta():
    """What an object gains the missing momentum loses; the soft term is what it says."""
    events = some_events()
    before = columns_of(events)
    of_tau = before.replace(**quantities.tau_energy_scale(before, 1.03))
    np.testing.assert_allclose(of_tau.PRI_had_pt, 1.03 * before.PRI_had_pt)
    of_jets = before.replace(**quantities.jet_energy_scale(before, 0.97))
    gone = events["PRI_jet_all_pt"] - np.asarray(of_jets.PRI_jet_all_pt)
    np.testing.assert_allclose(gone, 0.03 * events["PRI_jet_all_pt"])
    for moved, objects in ((of_tau, ("had",)), (of_jets, ("jet_leading", "jet_subleading"))):
        after = as_numpy(moved)
        for i in range(50):
            there = [o for k, o in enumerate(objects) if o == "had" or events["PRI_n_jets"][i] > k]
            sums = [
                np.array([c["met_x"][i], c["met_y"][i]])
                + sum((vector(c, o, i)[1:3] for o in there), np.zeros(2))
                for c in (events, after)
            ]
            np.testing.assert_allclose(*sums, rtol=1e-9, atol=1e-9)
    soft = quantities.soft_missing_momentum(before, 2.5)
    np.testing.assert_allclose(soft["met_y"] - before.met_y, 2.5 * events["soft_y"], atol=1e-12)
    same = fair_universe.shifted(before, 0.0, 0.0, 0.0)
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(same.arrays[name], array)


def test_soft_taus_and_jets_are_gone():
    events = some_events()
    passed, columns = quantities.above_thresholds(columns_of(events))
    after = as_numpy(columns)
    np.testing.assert_array_equal(passed, events["PRI_had_pt"] >= 26)
    for i, number in enumerate(events["PRI_n_jets"]):
        pts = [events[f"PRI_jet_{name}_pt"][i] for k, name in enumerate(quantities.JETS) if number > k]
        soft = [pt for pt in pts if pt <= 26]
        assert after["PRI_n_jets"][i] == number - len(soft)
        assert after["PRI_jet_all_pt"][i] == pytest.approx(events["PRI_jet_all_pt"][i] - sum(soft))
        assert [float(after[f"PRI_jet_{name}_pt"][i]) > 0 for name in quantities.JETS] == [
            pt > 26 for pt in pts
        ] + [False] * (2 - len(pts))


def test_the_score_by_hand(study):
    """683 of 1000 cost nothing; one and three standard deviations beyond the free two cost 1, and 3 to a power."""
    deviation = math.sqrt(0.6827 * 0.3173 / 1000)
    assert study.penalty(0.683, 1000) == study.penalty(0.6827 - 1.99 * deviation, 1000) == 1.0
    assert study.penalty(0.6827 - 5 * deviation, 1000) == pytest.approx(1 + 3**4)
    assert study.penalty(0.6827 + 5 * deviation, 1000) == pytest.approx(1 + 3**3)
    truth, low = np.ones(1000), np.full(1000, 0.9)
    low[683:] = 1.1
    found = study.scored(truth, low, low + 0.4)
    assert found.width == pytest.approx(0.4)
    assert found.coverage == 0.683
    assert found.score == pytest.approx(-math.log(0.401))


def test_nuisance_parameters_are_drawn_from_the_priors(study):
    rng = np.random.default_rng(1)
    values = [study.drawn(rng) for _ in range(4000)]
    found = {name: np.array([one[name] for one in values]) for name in values[0]}
    for name, width in {
        "tes": 0.01,
        "jes": 0.01,
        "ttbar_scale": 0.02,
        "diboson_scale": 0.25,
        "bkg_scale": 0.001,
    }.items():
        assert np.mean(found[name]) == pytest.approx(1, abs=5 * width / math.sqrt(4000))
        assert np.std(found[name]) == pytest.approx(width, rel=0.05)
    soft = np.exp(found["soft_met"])
    assert np.median(soft) == pytest.approx(1, abs=0.08)
    assert np.mean(soft == soft.max()) == pytest.approx(
        0.0538, abs=0.02
    )  # 5 GeV are 1.61 standard deviations
    assert soft.max() == pytest.approx(5.0)


@pytest.mark.simulate
def test_taus_decay_by_their_polarisation():
    """Mean visible shares are the integrals of the published distributions; what is no tau stays."""
    tau_decays = pytest.importorskip("pipeline.simulate.pythia.tau_decays")
    number = 40_000
    polarisation = np.repeat([[1.0, -1.0]], number, axis=0)
    is_tau = np.ones_like(polarisation, dtype=bool)
    hadronic, share = tau_decays.decayed(is_tau, polarisation, np.random.default_rng(1))
    assert np.mean(hadronic) == pytest.approx(1 - 0.3521, abs=0.01)
    ratio = (np.array([0.1396, 0.7753, 1.230]) / 1.777) ** 2
    slope = np.array([1.0, *((1 - 2 * ratio) / (1 + 2 * ratio))[1:]])
    for column, leptonic in enumerate((0.3, 0.4)):  # int x (2 - 6 x^2 + 4 x^3) dx and 4/3 int x (1 - x^3) dx
        own, is_hadron = share[:, column], hadronic[:, column]
        assert np.mean(own[~is_hadron]) == pytest.approx(leptonic, abs=0.01)
        means = (1 + ratio + (1 - ratio) * slope * polarisation[0, column] / 3) / 2
        expected = np.sum(np.array(tau_decays.MESON_SHARES) * means)
        assert np.mean(own[is_hadron]) == pytest.approx(expected, abs=0.01)
    none, all_of_it = tau_decays.decayed(~is_tau, polarisation, np.random.default_rng(1))
    assert not none.any()
    np.testing.assert_array_equal(all_of_it, 1.0)


@pytest.mark.simulate
def test_generated_events_are_selected_and_the_same_again():
    ditau = pytest.importorskip("pipeline.simulate.pythia.ditau")
    one, again = (ditau.events("ztautau", 150, np.random.default_rng(3)) for _ in range(2))
    assert set(one) == set(quantities.PRIMARY)
    for name, array in one.items():
        np.testing.assert_array_equal(array, again[name])
        assert array.shape == (150,)
        assert np.all(np.isfinite(array))
    assert min(one["PRI_lep_pt"].min(), one["PRI_had_pt"].min()) > 20
    number, leading, second = (one[f"PRI_{n}"] for n in ("n_jets", "jet_leading_pt", "jet_subleading_pt"))
    np.testing.assert_array_equal(leading > 20, number > 0)
    np.testing.assert_array_equal(second > 20, number > 1)
    assert np.all(leading >= second)
    assert np.all(one["PRI_jet_all_pt"] >= np.maximum(leading, 0) + np.maximum(second, 0) - 1e-3)
    met = {
        "met_x": one["PRI_met"] * np.cos(one["PRI_met_phi"]),
        "met_y": one["PRI_met"] * np.sin(one["PRI_met_phi"]),
    }
    visible = np.asarray(quantities.derived(columns_of({**one, **met}))["DER_mass_vis"])
    assert 45 < np.median(visible) < 85  # neutrinos take a part of 91 GeV
    with pytest.raises(ValueError, match="sample 'wjets' is not one of htautau, ztautau, ttbar, diboson"):
        ditau.events("wjets", 1, np.random.default_rng(3))


@pytest.fixture(scope="module")
def miniature(request, tmp_path_factory):
    """The shipped configuration on few events, a small network and few bins."""
    pytest.importorskip("pythia8mc", reason="the extra `simulate` is not installed")
    pytest.importorskip("fastjet", reason="the extra `simulate` is not installed")
    path = request.config.rootpath / "config/fair_universe.yaml"
    small = [
        "analysis.options={hidden: [6]}",
        "channels.output.edges=[0, 0.3, 0.5, 0.7, 1]",
        "model.normfactors=[{name: mu, samples: [htautau], bounds: [-300, 300]}]",  # the network knows nothing
    ]
    run = generated(path, SIZES, tmp_path_factory.mktemp("fair_universe"), small)
    return run, write_columns(run, tmp_path_factory.mktemp("columns"))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.simulate
def test_pseudo_experiments_see_what_the_templates_say(miniature, study):
    """Shifted anew, the held-out events fill the pipeline's own varied templates; fits of them find the truth."""
    run, files = miniature
    start = initial_parameters(run)
    work = prepare_work(run, files, datasets.HELD_OUT)
    exact = forward(InProcess(), work, start, EXACT)
    world = study.world_of(run, files, start)
    shifts = {"nominal": (0, 0, 0), "tes_up": (1, 0, 0), "jes_down": (0, -1, 0), "soft_met_up": (0, 0, 1)}
    for name, values in shifts.items():
        expected = sum(exact.yields["output"][work.axes.row(s, name)] for s in SIZES)
        bins = world.bins(*values)
        np.testing.assert_allclose(world.yields(world.weight, bins, 4), expected, rtol=1e-6)
    model = HistFactory.from_workspace(workspace(exact, work.axes, run), check=False)
    study.check(world, model)
    found = list(study.experiments(world, 2, 10, 5, 1, 4))
    assert len({own.truth for own in found}) == 2
    assert len(found) == 20
    made = study.numbers(study.fits(model, found))
    assert made["experiments"] + made["without_fit"] == 20
    assert made["without_fit"] <= 2
    assert abs(made["bias"]) < 5 * made["spread"] / math.sqrt(made["experiments"])
    assert made["width"] > 0
