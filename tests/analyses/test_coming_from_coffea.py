"""The page for users of coffea: its processor and its analysis give the same yields, its corrections are evaluated."""

import contextlib
import importlib
import warnings

import awkward as ak
import dimuons
import numpy as np
import pytest
import uproot
from clones import ROOT
from coffea import processor
from coffea.nanoevents import NanoAODSchema

from pipeline import Run, value_and_grad
from pipeline.data import datasets
from pipeline.data.run_files import is_current

PAGE = dimuons.page(ROOT, "coming_from_coffea.md")
NAMES = ("nominal", "jesUp", "jesDown", "muonUp", "muonDown", "pileupUp", "pileupDown")
CROSS_SECTIONS_PB, LUMINOSITY_PER_PB = {"zjets": 20, "top": 5}, 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's files, the events and corrections that they speak of."""
    made = tmp_path_factory.mktemp("coffea")
    for name, block in PAGE.items():
        (made / name).write_text(block)
    dimuons.write_files(made)
    dimuons.write_corrections(made / "corrections.json")
    return made


@pytest.fixture(scope="module")
def filled(folder):
    """What coffea's own runner makes of the processor: a histogram of each sample, normalised."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.syspath_prepend(folder)
        warnings.simplefilter("ignore")  # coffea's, of branches that a small file lacks
        dimuon = importlib.import_module("dimuon")
        run = processor.Runner(
            processor.IterativeExecutor(status=False), schema=NanoAODSchema, chunksize=500, savemetrics=False
        )
        files = {name: {"files": {str(folder / f"{name}.root"): "Events"}} for name in dimuons.EVENTS}
        found = run(files, dimuon.Dimuon(str(folder / "corrections.json")))
    for name, own in found.items():
        generated = uproot.open(folder / f"{name}.root")["Events/genWeight"].array(library="np")
        own *= CROSS_SECTIONS_PB[name] * LUMINOSITY_PER_PB / generated.sum(dtype=np.float64)
    return found


@pytest.fixture(scope="module")
def run(folder):
    with contextlib.chdir(folder):
        made = Run("dimuon.yaml")
    made.columns(workers=2)
    return made


def test_processor_and_analysis_have_the_same_yields(run, filled):
    (found,) = run.histograms().values()
    assert set(found.axes["process"]) == set(filled)
    assert set(found.axes["variation"]) == set(NAMES)
    for name, own in filled.items():
        nominal = own[{"variation": "nominal"}]
        assert nominal.values().min() > 1
        for variation in NAMES:
            expected = own[{"variation": variation}].values()
            ours = found[{"process": name, "variation": variation}].values()
            np.testing.assert_allclose(ours, expected, rtol=1e-6)
            assert variation == "nominal" or not np.allclose(expected, nominal.values(), rtol=1e-4)
        np.testing.assert_allclose(
            found[{"process": name, "variation": "nominal"}].variances(), nominal.variances(), rtol=1e-6
        )


def test_columns_are_made_anew_where_a_correction_has_another_content(run, folder):
    """The file is named in `analysis.files`, so nobody has to remember to read the events again."""
    with contextlib.chdir(folder):
        jobs = datasets.columns_jobs(run.config)
        try:
            assert all(is_current(run.config, job) for job in jobs)
            dimuons.write_corrections(folder / "corrections.json", nominal=[0.5, 0.5, 0.5, 0.5])
            assert not any(is_current(run.config, job) for job in jobs)
        finally:
            dimuons.write_corrections(folder / "corrections.json")
        assert all(is_current(run.config, job) for job in jobs)


SETTINGS = {
    "run": "tagged",
    "analysis": {"files": {"corrections": "corrections.json"}},
    "data": {"luminosity_per_pb": 1, "samples": {"signal": {}, "background": {}}},
    "channels": {"tagged": {"edges": [0, 0.3, 0.6, 1], "bandwidth": {"initial": 0.1, "final": 0.05}}},
    "widths": {"btag": {"initial": 0.1, "final": 0.05}},
    "model": {
        "poi": "mu",
        "normfactors": [{"name": "mu", "samples": ["signal"]}],
        "systematics": [{"name": "btag", "type": "NormPlusShape", "up": "btagUp", "down": "btagDown"}],
    },
    "objective": {"kind": "poi_uncertainty"},
    "optimise": {"epochs": 2, "epochs_per_job": 2},
    "cluster": {"executor": "in_process"},
}


def jets(name):
    rng = np.random.default_rng(len(name))
    counts = rng.integers(0, 5, 600)
    shape = (4, 2) if name == "signal" else (2, 3)
    return {
        "jet_pt": ak.unflatten((20 + rng.exponential(40, counts.sum())).astype(np.float32), counts),
        "jet_btag": ak.unflatten(rng.beta(*shape, counts.sum()).astype(np.float32), counts),
        "mass": rng.random(600).astype(np.float32),
    }


def tagged_yields(name, cut, systematic):
    """By NumPy, the tables of `dimuons.write_corrections` written out."""
    own = jets(name)
    tags = own["jet_btag"] > np.float32(cut)
    low, high = (1.01, 0.98) if cut < 0.65 else (0.96, 0.9)
    factor = ak.where(own["jet_pt"] < 60, low, high) * {"nominal": 1, "up": 1.05, "down": 0.94}[systematic]
    weight = ak.to_numpy(ak.prod(ak.where(tags, factor, 1.0), axis=1) * ak.any(tags, axis=1))
    return np.histogram(own["mass"], [0, 0.3, 0.6, 1], weights=weight)[0]


@pytest.fixture(scope="module")
def tagged(folder):
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.syspath_prepend(folder)
        own = importlib.import_module("tagged").Tagged
        made = Run.of(own, {name: jets(name) for name in ("signal", "background")}, SETTINGS)
    made.columns(workers=2)
    return made


def test_a_lookup_in_observe_has_the_factors_of_the_present_cut(tagged):
    cut = 0.7  # the start is 0.6, at another working point of the table
    at = Run(tagged.path, f"parameters.btag={cut}", folder=tagged.folder)
    (found,) = at.histograms().values()
    for name in ("signal", "background"):
        for variation, systematic in {"nominal": "nominal", "btagUp": "up", "btagDown": "down"}.items():
            ours = found[{"process": name, "variation": variation}].values()
            np.testing.assert_allclose(ours, tagged_yields(name, cut, systematic), rtol=1e-6)


@pytest.mark.slow
def test_the_gradient_has_the_cut_and_takes_the_factors_as_constants(tagged):
    """Between two working points of the table the factors do not change, so there it is the derivative."""
    step = 1e-5
    low, high = (value_and_grad(tagged, {"btag": 0.6 + side})[0] for side in (-step, step))
    _, gradient = value_and_grad(tagged, {"btag": 0.6})
    assert gradient["btag"] == pytest.approx((high - low) / (2 * step), rel=1e-5)
    assert gradient["btag"] != 0
    step = 1e-6
    jump = [value_and_grad(tagged, {"btag": 0.65 + side}) for side in (-step, step)]
    slope = (jump[1][0] - jump[0][0]) / (2 * step)
    assert abs(slope) > 100 * max(abs(own["btag"]) for _, own in jump)
