"""The final numbers: pyhf's own, in agreement with ours, and an error where its fit cannot be trusted."""

import numpy as np
import pytest
from messages import heard

from pipeline.cluster import InProcess
from pipeline.containers import Templates
from pipeline.data import datasets
from pipeline.errors import ConfigError, FitError
from pipeline.evaluate.by_pyhf.fit import pyhf_fit
from pipeline.evaluate.stage import all_points
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.optimise.given_values import with_values
from pipeline.optimise.parameters import initial_parameters
from pipeline.templates.fill import EXACT

pytestmark = pytest.mark.simulate
TOYS = 100


@pytest.fixture(scope="module")
def results(miniature, miniature_columns):
    """Two points on both folds, and toys of the second."""
    start = initial_parameters(miniature)
    asked = miniature.evaluate.model_copy(update={"toys": TOYS})
    points = {"initial": start, "optimised": with_values(miniature, start, {"btag": 0.4})}
    with heard() as lines:
        return all_points(
            miniature.model_copy(update={"evaluate": asked}), InProcess(), miniature_columns, points
        ), lines


def test_the_number_is_half_the_interval(results):
    for row in results[0].evaluation.rows:
        down, up = row.fit.interval
        assert down < 0 < up
        assert row.pyhf == (up - down) / 2
        np.testing.assert_allclose(
            row.pyhf, row.exact, rtol=0.2
        )  # the Hessian sees no asymmetry, and Minuit struggles


def test_everything_is_reported(results, miniature):
    evaluated, workspaces, _ = results[0]
    keys = {(p, f) for p in ("initial", "optimised") for f in ("train", "held_out")}
    assert {(row.point, row.fold) for row in evaluated.rows} == keys
    assert set(workspaces) == keys | {("initial", "pseudodata"), ("optimised", "pseudodata")}
    lines = [line for line in results[1] if not line.startswith("note: ")]
    assert (
        len(lines) == 1 + 4 + 2 + 1 + 1
    )  # a line each: compiling, points and folds, pseudodata, bootstrap, toys
    for row in evaluated.rows:
        found = row.fit.impacts
        assert {i.label for i in found} == {s.name for s in miniature.model.systematics} | {"lumi"}
        assert all(0 < i.constraint <= 1.001 and abs(i.pull) < 1e-3 for i in found)
        parts = row.breakdowns["ttbar_norm"]
        assert (
            set(parts.groups)
            == set(miniature.groups)
            == {i.label for i in found} | {"data_statistics", "mc_statistics"}
        )
        squares = sum(own.impact**2 for own in parts.groups.values())
        np.testing.assert_allclose([parts.total**2, squares], row.exact**2, rtol=1e-9)
        assert {i.label: i.up for i in found} == {name: own.up for name, own in parts.systematics.items()}


def test_toys_are_of_the_optimised_point_on_held_out_events(results):
    toys = results[0].evaluation.robustness.toys
    assert (toys.fold, toys.tests[0].toys + toys.tests[0].failed) == ("held_out", TOYS)
    assert toys.tests[0].failed < 0.05 * TOYS
    assert abs(toys.interval.value - toys.interval.expected) < 4 * toys.interval.error
    assert 0 <= toys.goodness.p_value <= 1


def test_folds_predict_the_same_yield_within_statistics(results, miniature):
    def total(fold):
        entry = results[0].evaluation.at("initial", fold).templates
        yields = sum(sum(entry.yields[c]["ttbar"]["nominal"]) for c in miniature.channels)
        return yields, sum(sum(entry.sumw2[c]["ttbar"]) for c in miniature.channels)

    (train, train_variance), (held_out, held_out_variance) = total("train"), total("held_out")
    assert abs(train - held_out) < 5 * np.sqrt(train_variance + held_out_variance)


def test_a_fit_that_does_not_close_is_an_error(miniature, miniature_columns):
    work = prepare_work(miniature, miniature_columns, datasets.TRAIN)
    exact = forward(InProcess(), work, initial_parameters(miniature), EXACT)
    spec = workspace(Templates(exact.yields, exact.sumw2), work.axes, miniature)
    spec["observations"] = [{**o, "data": [1.1 * n for n in o["data"]]} for o in spec["observations"]]
    with pytest.raises(FitError, match=r"pyhf's fit of (the )?Asimov data"):
        pyhf_fit(miniature, spec)


def test_a_signal_of_no_events_is_an_error(miniature, miniature_columns):
    work = prepare_work(miniature, miniature_columns, datasets.TRAIN)
    exact = forward(InProcess(), work, initial_parameters(miniature), EXACT)
    spec = workspace(Templates(exact.yields, exact.sumw2), work.axes, miniature)
    poi = next(n for n in miniature.model.normfactors if n.name == miniature.model.poi)
    for channel in spec["channels"]:
        for sample in channel["samples"]:
            if sample["name"] in poi.samples:
                sample["data"] = [0.0 for _ in sample["data"]]
                sample["modifiers"] = [m for m in sample["modifiers"] if m["type"] == "normfactor"]
    with pytest.raises(FitError, match=r"no bin depends on the parameter of interest"):
        pyhf_fit(miniature, spec)


def test_values_outside_the_bounds_are_refused(miniature):
    with pytest.raises(ConfigError, match=r"btag.*outside"):
        with_values(miniature, initial_parameters(miniature), {"btag": 3.0})
