"""Variations, one-sided systematics and silent gradients, as they went wrong in use."""

import json

import numpy as np
import pytest
from columnfiles import write_columns
from hypothesis import given, settings
from hypothesis import strategies as st
from rootfiles import arrays, write, write_run

from pipeline import config as configuration
from pipeline import datasets, evaluate, histograms, problem
from pipeline.cluster import InProcess
from pipeline.config.sections import Alternative
from pipeline.containers import Templates
from pipeline.diagnosis import suspects
from pipeline.errors import ConfigError
from pipeline.workspace import Axes, axes, specification, sums, variations_of

pytestmark = pytest.mark.usefixtures("compiled_quickly")

PROCESSES = ("signal", "ttbar", "wjets")
NAMES = ("x_up", "x_down", "y_up", "y_down")


def configured(**sections):
    """A configuration of three processes and one region of two bins, some sections replaced."""
    return configuration.parse(
        {
            "run": "r",
            "analysis": {"target": "pipeline.analyses.counting:Counting"},
            "data": {
                "manifest": "m.json",
                "luminosity_per_pb": 1,
                "samples": {name: {} for name in PROCESSES},
            },
            "channels": {"all": {"edges": [0, 1, 2], "bandwidth": {"initial": 1, "final": 1}}},
            "model": {
                "poi": "mu",
                "normfactors": [{"name": "mu", "samples": ["signal"]}],
                "systematics": [shape(name="x", up="x_up", down="x_down")],
            },
            "objective": {"kind": "poi_uncertainty"},
            "optimise": {"epochs": 1},
            **sections,
        },
        "test",
    )


def shape(**keys):
    return {"type": "NormPlusShape", **keys}


def model_of(*systematics):
    return {
        "poi": "mu",
        "normfactors": [{"name": "mu", "samples": ["signal"]}],
        "systematics": list(systematics),
        "mc_statistics": False,
    }


@st.composite
def assignments(draw):
    """Who makes each variation of each process: the manifest names some; the analysis makes the others."""
    return {process: draw(st.lists(st.sampled_from(NAMES), unique=True)) for process in PROCESSES}


@settings(max_examples=25)
@given(assignments(), st.integers(0, 99))
def test_a5_every_sample_has_its_own_source_of_a_variation(manifest, seed):
    """Against a plain construction, with junk in the rows of the analysis that a sample does not use."""
    wanted = {"signal": NAMES[:2], "ttbar": NAMES[:2], "wjets": NAMES}
    run = configured(
        data={
            "manifest": "m.json",
            "luminosity_per_pb": 1,
            "samples": {name: {"variations": manifest[name]} for name in PROCESSES},
        },
        channels={"all": {}, "loss": {"in_fit": False, "variations": True}},
        model=model_of(
            shape(name="x", up="x_up", down="x_down"),
            shape(name="y", up="y_up", down="y_down", samples=["wjets"]),
        ),
        objective={"kind": "merit"},
    )
    rows = axes(run, NAMES)
    yields = np.random.default_rng(seed).uniform(1, 9, (len(rows.samples), len(rows.variations), 2))

    def expected(process, name):
        own = f"{process}__{name}"
        place = (own, "nominal") if own in rows.samples else (process, name)
        return yields[rows.samples.index(place[0]), rows.variations.index(place[1])]

    templates = Templates(dict.fromkeys(("all", "loss"), yields), {"all": yields[:, 0]})
    found = specification(templates, rows, run)["all"]
    total = np.zeros(2)
    for process in PROCESSES:
        assert set(found[process]["histosys"]) == {name[0] for name in wanted[process]}
        for name in wanted[process]:
            norm, content = ("hi", "hi_data") if name.endswith("up") else ("lo", "lo_data")
            made = (found[process][kind][name[0]] for kind in ("normsys", "histosys"))
            ratio, content = next(made)[norm], next(made)[content]
            np.testing.assert_allclose(ratio * content, expected(process, name), rtol=1e-12)
            assert (name in variations_of(run, process)) == (name not in manifest[process])
        counted = {"nominal", *manifest[process], *wanted[process]}
        total += sum(expected(process, name) for name in counted)
    np.testing.assert_allclose(sums(templates, rows, run)["loss"], total, rtol=1e-12)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A run whose signal has `x_up` from the manifest, its background from the analysis; configuration, columns."""
    folder = tmp_path_factory.mktemp("tiny")
    model = model_of(shape(name="scale", up="x_up"))
    path = write_run(
        folder,
        data={
            "manifest": str(folder / "manifest.json"),
            "luminosity_per_pb": 1,
            "samples": {"signal": {"variations": ["x_up"]}, "background": {}},
        },
        model={**model, "pseudodata": {"signal__x_up": 1, "background": 1}},
    )
    write(folder / "varied.root", seed=7)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["signal"]["x_up"] = {"files": [{"path": "varied.root", "nevts": 200}]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    run = configuration.load(path)
    return run, write_columns(run, folder / "columns")


def plain(seed, factor=1.0):
    """What a plain loop gives: weights of the events whose observable is above the cut."""
    events = arrays(seed=seed)
    return float(np.sum(events["w"].astype(float)[factor * events["x"].astype(float) > 0.5]))


def test_a5_tables_histograms_and_pseudodata_have_what_each_source_gives(tiny):
    run, columns = tiny
    work = problem.work(run, columns, datasets.ALL)
    start = problem.initial_parameters(run)
    table = evaluate.yields(run, InProcess(), work, start)["yields"]["all"]
    expected = {
        "signal": {"nominal": [plain(0)]},
        "signal__x_up": {"nominal": [plain(7)]},
        "background": {"nominal": [plain(1)], "x_up": [plain(1, 1.1)]},
    }
    assert table.keys() == expected.keys()
    for sample, rows in expected.items():
        assert table[sample].keys() == rows.keys()
        for name, content in rows.items():
            np.testing.assert_allclose(table[sample][name], content, rtol=1e-6)
    found = histograms.histograms(run, InProcess(), work, start)
    np.testing.assert_allclose(found["all_signal_x_up"]["contents"], [0, plain(7), 0], rtol=1e-6)
    np.testing.assert_allclose(found["all_background_x_up"]["contents"], [0, plain(1, 1.1), 0], rtol=1e-6)
    np.testing.assert_allclose(found["all_pseudodata"]["contents"], [0, plain(7) + plain(1), 0], rtol=1e-6)


def test_a5_the_diagnosis_looks_at_the_variation_that_a_sample_has():
    rows = Axes(samples=("signal", "signal__x_up", "background"), variations=("nominal", "x_up"))
    yields = np.ones((3, 2, 1))
    yields[0, 1] = 1e6  # the analysis's, which the signal does not use
    yields[1, 0] = 8.0
    found = suspects(Templates({"SR": yields}, {"SR": yields[:, 0]}), rows)
    assert "bin 0 of channel 'SR' with 2 events" in found
    assert "variation 'x_up' of sample 'signal' changes bin 0 of channel 'SR' by 3.5 times" in found


def test_a5_names_that_would_hide_a_variation_are_refused():
    samples = {"tt_": {"variations": ["x"]}}
    with pytest.raises(ConfigError, match="'tt_' ends in '_'"):
        configured(data={"manifest": "m.json", "luminosity_per_pb": 1, "samples": samples})


def test_a5_a_variation_that_nobody_makes_for_a_sample_names_the_sample(tiny):
    """Also one of a further model, which would be missed only after the optimisation."""
    run, _ = tiny
    systematic = run.model.systematics[0].model_copy(update={"up": "x_upp", "samples": ("signal",)})
    wrong = run.model.model_copy(update={"systematics": (systematic,)})
    also = run.evaluate.model_copy(
        update={"also": {"other": Alternative(model=wrong, objective=run.objective)}}
    )
    for changed in ({"model": wrong}, {"evaluate": also}):
        with pytest.raises(ConfigError, match="no variation 'x_upp', nor has sample 'signal' one"):
            problem.check_variations_used(run.model_copy(update=changed))
