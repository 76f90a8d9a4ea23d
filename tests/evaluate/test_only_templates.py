"""The page on templates alone: its histograms are NumPy's, its workspace is cabinetry's, and both fits are one."""

import contextlib
import json
import runpy

import cabinetry
import dimuons
import matplotlib.pyplot as plt
import numpy as np
import pyhf
import pytest
import yaml
from clones import ROOT

from pipeline.evaluate.workspaces.fits import fitted
from pipeline.evaluate.workspaces.given import given_workspace
from pipeline.simulate.generate import write

pytestmark = pytest.mark.slow  # several processes, and the import of cabinetry
EVENTS = {"signal": 3000, "background": 6000}
EDGES = [80, 100, 115, 120, 125, 130, 135, 150, 180]
PB = {"signal": 12, "background": 90}


def branches(name):
    rng = np.random.default_rng(len(name))
    number = EVENTS[name]
    weight = rng.uniform(0.8, 1.2, number)
    return {
        "event": np.arange(number, dtype=np.int64),
        "mass": rng.normal(125, 5, number) if name == "signal" else rng.uniform(75, 185, number),
        "pt": rng.exponential(40 if name == "signal" else 25, number),
        "weight": weight,
        "weight_up": weight * rng.uniform(1.0, 1.1, number),
        "weight_down": weight * rng.uniform(0.9, 1.0, number),
    }


def expected(name, *, mass=1.0, pt=1.0, weight="weight"):
    own = branches(name)
    kept = (own["pt"] > 20) & (pt * own["pt"] > 30)
    scale = PB[name] * 10 / EVENTS[name]
    return np.histogram(mass * own["mass"][kept], EDGES, weights=own[weight][kept] * scale)[0]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The page's files and events, and all names of its program, once it has run."""
    folder = tmp_path_factory.mktemp("templates")
    for name, block in dimuons.page(ROOT, "only_templates.md").items():
        (folder / name).write_text(block)
    files = {}
    for name, number in EVENTS.items():
        write(branches(name), folder / f"{name}.root")
        entry = {"nevts_total": number, "files": [{"path": f"{name}.root", "nevts": number}]}
        files[name] = {"nominal": entry}
    (folder / "files.json").write_text(json.dumps(files))
    with contextlib.chdir(folder):
        found = runpy.run_path("templates.py")
    plt.close("all")
    return folder, found


def test_the_histograms_are_numpys(done):
    own = done[1]["histograms"]["peak"]
    assert own.axes.name == ("bin", "process", "variation")
    kinds = {
        "nominal": {},
        "scale_up": {"mass": 1.01, "pt": 1.02},
        "scale_down": {"mass": 0.99, "pt": 0.98},
        "efficiency_up": {"weight": "weight_up"},
        "efficiency_down": {"weight": "weight_down"},
    }
    assert set(own.axes["variation"]) == set(kinds)
    for name in EVENTS:
        for variation, changes in kinds.items():
            if name == "background" and variation.startswith("efficiency"):
                continue  # no systematic of it names them
            values = own[{"process": name, "variation": variation}].values()
            np.testing.assert_allclose(values, expected(name, **changes), rtol=1e-12)


def test_nothing_was_optimised(done):
    assert {path.name for path in (done[0] / "results/peak").iterdir()} == {"columns"}


def test_cabinetry_draws_what_it_fitted(done):
    drawn = {path.stem for path in (done[0] / "figures").iterdir()}
    assert {"pulls", "correlation_matrix", "peak_postfit"} <= drawn


def test_the_fit_is_thalwegs(done):
    folder, found = done
    ours = {own.name: own for own in fitted(given_workspace(folder / "workspace.json")).parameters}
    theirs = found["result"]
    assert len(ours) == len(theirs.labels) == 4 + len(EDGES) - 1
    for label, value, uncertainty in zip(theirs.labels, theirs.bestfit, theirs.uncertainty, strict=True):
        assert value == pytest.approx(ours[label].value, abs=1e-3)
        assert uncertainty == pytest.approx(ours[label].uncertainty, rel=1e-2)
    assert 0.03 < ours["mu"].uncertainty < 1


def test_cabinetry_builds_the_same_model_of_the_histograms(done):
    """From the ROOT file that the page's program wrote, by the page's configuration of cabinetry."""
    folder, found = done
    with contextlib.chdir(folder):
        settings = yaml.safe_load((folder / "cabinetry.yaml").read_text())
        cabinetry.templates.collect(settings)
        built = cabinetry.workspace.build(settings)
    codes = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
    theirs = pyhf.Model(_without_data(built), modifier_settings=codes, poi_name="mu")
    ours = pyhf.Model(_without_data(found["workspace"]), modifier_settings=codes, poi_name="mu")
    assert sorted(ours.config.par_names) == sorted(theirs.config.par_names)
    rng = np.random.default_rng(3)
    for _ in range(5):
        at = {
            name: 1 + 0.1 * rng.normal() if "stat" in name else 0.5 * rng.random()
            for name in ours.config.par_names
        }
        one, other = (
            model.expected_actualdata([at[name] for name in model.config.par_names])
            for model in (ours, theirs)
        )
        np.testing.assert_allclose(one, other, rtol=1e-9)
    (own,), (asimov,) = built["observations"], found["workspace"]["observations"]
    np.testing.assert_allclose(own["data"], asimov["data"], rtol=1e-12)


def _without_data(spec):
    return {"channels": spec["channels"], "parameters": spec["measurements"][0]["config"]["parameters"]}
