"""Tables for HEPData of a fitted workspace: the numbers are cabinetry's, the files those of the schema."""

import json

import cabinetry
import numpy as np
import pyhf
import pytest
import yaml
from workspaces import two_channels

from pipeline.errors import InputError
from pipeline.evaluate.workspaces.exchange.hepdata import AFTER, BEFORE, write_hepdata
from pipeline.evaluate.workspaces.given import given_workspace

SUMMARY = {
    "objective": {"kind": "poi_uncertainty", "label": "uncertainty", "unit": "pb", "sense": "minimise"},
    "change": {"by": "pyhf", "fold": "held_out", "initial": 60.0, "optimised": 28.5, "value": -0.5},
    "breakdown": {
        "optimised": {
            "train": {"mu": {"total": 1.0, "groups": {}, "systematics": {}}},
            "held_out": {
                "mu": {
                    "total": 5.0,
                    "groups": {
                        "data_statistics": {"parameters": [], "impact": 4.0, "traditional": 3.5},
                        "jets": {"parameters": ["jes"], "impact": 3.0, "traditional": 2.5},
                        "norm": {"parameters": ["norm"], "impact": None, "traditional": 0.5},
                    },
                    "systematics": {},
                }
            },
        }
    },
}


@pytest.fixture(scope="module")
def submission(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hepdata")
    (folder / "workspace.json").write_text(json.dumps(two_channels()))
    write_hepdata(folder / "out", given_workspace(folder / "workspace.json"), SUMMARY)
    return folder / "out"


@pytest.fixture(scope="module")
def tables(submission):
    _, *entries = yaml.safe_load_all((submission / "submission.yaml").read_text())
    return {entry["name"]: yaml.safe_load((submission / entry["data_file"]).read_text()) for entry in entries}


def column(table, name):
    (found,) = (own for own in table["dependent_variables"] if own["header"]["name"] == name)
    return [
        [entry["value"] for entry in found["values"]],
        [entry["errors"][0]["symerror"] if "errors" in entry else None for entry in found["values"]],
    ]


def test_yields_and_uncertainties_are_cabinetrys(tables):
    model, data = cabinetry.model_utils.model_and_data(two_channels())
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(verbose=0))
    fit = cabinetry.fit.fit(model, data)
    for state, results, rel in ((BEFORE, None, 1e-6), (AFTER, fit, 5e-3)):
        expected = cabinetry.model_utils.prediction(model, fit_results=results)
        for number, channel in enumerate(model.config.channels):
            values, errors = column(tables[f"Yields in {channel}"], f"Total, {state}")
            np.testing.assert_allclose(values, np.sum(expected.model_yields[number], axis=0), rtol=rel)
            # cabinetry varies each parameter by a standard deviation, here it is the derivative
            np.testing.assert_allclose(
                errors, expected.total_stdev_model_bins[number][-1], rtol=max(rel, 0.02)
            )
            for sample, name in enumerate(model.config.samples):
                values, errors = column(tables[f"Yields in {channel}"], f"{name}, {state}")
                np.testing.assert_allclose(values, expected.model_yields[number][sample], rtol=max(rel, 1e-2))
                np.testing.assert_allclose(errors, expected.total_stdev_model_bins[number][sample], rtol=0.03)
    values, errors = column(tables["Parameters"], "Best fit")
    np.testing.assert_allclose(values, fit.bestfit, atol=5e-3)
    np.testing.assert_allclose(errors, fit.uncertainty, rtol=0.02)
    assert column(tables["Yields in sr"], "Observed events")[0] == [43.0, 38.0, 23.0]


def test_the_covariance_is_that_of_the_total_yields(tables):
    values = np.array(column(tables["Covariance"], "Covariance")[0]).reshape(6, 6)
    np.testing.assert_allclose(values, values.T)
    errors = (
        column(tables["Yields in cr"], f"Total, {AFTER}")[1]
        + column(tables["Yields in sr"], f"Total, {AFTER}")[1]
    )
    np.testing.assert_allclose(np.sqrt(np.diagonal(values)), errors, rtol=1e-12)
    first = [entry["value"] for entry in tables["Covariance"]["independent_variables"][0]["values"]]
    assert first[::6] == [f"{channel}, bin {number}" for channel in ("cr", "sr") for number in (1, 2, 3)]
    correlations = column(tables["Correlations"], "Correlation")[0]
    assert correlations[0] == pytest.approx(1)
    assert len(correlations) == 10**2


def test_the_objective_of_a_run_is_a_table(tables):
    assert column(tables["Objective"], "uncertainty [pb]")[0] == [60.0, 28.5]
    points = tables["Objective"]["independent_variables"][0]
    assert [entry["value"] for entry in points["values"]] == ["initial", "optimised"]


def test_what_the_uncertainty_is_made_of_is_a_table(tables):
    """Of the events that the objective's table is of; no number by data of what nothing constrains."""
    found = tables["Uncertainties on mu"]
    groups = [entry["value"] for entry in found["independent_variables"][0]["values"]]
    assert groups == ["data_statistics", "jets", "norm", "total"]
    assert column(found, "Impact, by data")[0] == [4.0, 3.0, "-", 5.0]
    assert column(found, "Impact, traditional")[0] == [3.5, 2.5, 0.5, "-"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files it leaves open
def test_the_files_are_valid(submission):
    validator = pytest.importorskip(
        "hepdata_validator.full_submission_validator", reason="it comes with the locked environment, envs/"
    )
    checked = validator.FullSubmissionValidator(schema_version="1.1.1")
    assert checked.validate(directory=str(submission)), checked.get_messages()


def test_another_file_is_no_summary(tmp_path):
    (tmp_path / "workspace.json").write_text(json.dumps(two_channels()))
    with pytest.raises(InputError, match=r"summary: KeyError 'change': give the summary.json of a run"):
        write_hepdata(tmp_path / "out", given_workspace(tmp_path / "workspace.json"), {"run": "other"})
