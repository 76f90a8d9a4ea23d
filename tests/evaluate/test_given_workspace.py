"""Fits, tests and limits of workspaces of anybody's, against pyhf, and by the command line."""

import copy
import json
from pathlib import Path

import numpy as np
import pyhf
import pytest
from click.testing import CliRunner
from workspaces import counting, modifier, workspace_of

from pipeline.cli.command import thalweg
from pipeline.errors import FitError, InputError
from pipeline.evaluate.workspaces.beside import cls_beside, fit_beside, limit_beside
from pipeline.evaluate.workspaces.fits import cls_of, fitted, limited
from pipeline.evaluate.workspaces.given import free_poi, given_workspace
from pipeline.evaluate.workspaces.results import WorkspaceFit

pytestmark = pytest.mark.usefixtures("compiled_quickly")

OPTIMISED = Path(__file__).parents[1] / "faults_in_use" / "agc_optimised_held_out.json"


def two_bins(**keys):
    samples = [
        {"name": "s", "data": [5.0, 10.0], "modifiers": [modifier("mu", "normfactor")]},
        {"name": "b", "data": [50.0, 60.0], "modifiers": [modifier("u", "shapesys", [5.0, 6.0])]},
    ]
    return workspace_of([{"name": "a", "samples": samples}], {"a": [52.0, 65.0]}, **keys)


def written(folder, content):
    path = folder / "workspace.json"
    path.write_text(json.dumps(content))
    return path


def test_a_fit_is_pyhfs_and_its_uncertainties_are_those_of_the_hessian():
    given = given_workspace(OPTIMISED)
    found = fit_beside(given, fitted(given))
    assert found.status == "converged"
    assert found.twice_nll < found.pyhf.twice_nll + 1e-9
    assert found.twice_nll == pytest.approx(found.pyhf.twice_nll, abs=1e-4)
    for own in found.parameters:
        assert own.value == pytest.approx(found.pyhf.values[own.name], abs=1e-2 * own.uncertainty)
    (norm,) = [own for own in found.parameters if own.name == found.poi]
    assert norm.uncertainty == pytest.approx(0.1583, abs=1e-4)  # of an exact Hessian; Minuit's is 0.236
    assert np.allclose(np.diagonal(found.correlation), 1.0)
    assert WorkspaceFit.model_validate_json(json.dumps(found.as_json())) == found


@pytest.mark.parametrize("fixed", [{"u": 1.05}, {"u[1]": 0.9}, {"mu": 2.0}])
def test_parameters_are_held_as_in_pyhf(fixed, tmp_path):
    given = given_workspace(written(tmp_path, two_bins()), fixed=fixed)
    found = fit_beside(given, fitted(given))
    assert found.twice_nll < found.pyhf.twice_nll + 1e-9
    assert found.twice_nll == pytest.approx(found.pyhf.twice_nll, abs=1e-4)
    held = {own.name: own.value for own in found.parameters if own.held == "fixed"}
    assert held
    assert set(held.values()) == set(fixed.values())
    assert not set(held) & set(found.correlated)


def test_a_test_is_pyhfs(tmp_path):
    given = given_workspace(written(tmp_path, two_bins()))
    found = cls_beside(given, cls_of(given, free_poi(given, tmp_path), 1.3))
    assert not found.pyhf.error
    expected = [found.pyhf.numbers[f"cls_expected[{band:+d}]"] for band in range(-2, 3)]
    assert found.cls == pytest.approx(found.pyhf.numbers["cls"], rel=1e-3)
    assert found.clsb == pytest.approx(found.pyhf.numbers["clsb"], rel=1e-3)
    assert found.clb == pytest.approx(found.pyhf.numbers["clb"], rel=1e-3)
    np.testing.assert_allclose(found.cls_expected, expected, rtol=1e-3)


def test_a_limit_is_pyhfs_and_a_test_there_has_its_level(tmp_path):
    path = written(tmp_path, two_bins())
    given = given_workspace(path)
    found = limit_beside(given, limited(given, free_poi(given, path), 0.1))
    assert not found.pyhf.error
    expected = [found.pyhf.numbers[f"expected[{band:+d}]"] for band in range(-2, 3)]
    np.testing.assert_allclose(found.expected, expected, rtol=1e-3)
    assert found.observed == pytest.approx(found.pyhf.numbers["observed"], rel=1e-3)
    assert cls_of(given, free_poi(given, path), found.observed).cls == pytest.approx(0.1, rel=1e-6)


def test_asimov_data_without_signal_have_the_median_expected_limit(tmp_path):
    content = two_bins() | {"observations": [{"name": "other", "data": [1.0]}]}
    path = written(tmp_path, content)
    with pytest.raises(InputError, match=r"no observations for channels a; .* --asimov"):
        given_workspace(path)
    given = given_workspace(path, asimov=True, background_only=True)
    found = limited(given, free_poi(given, path), 0.05)
    assert found.is_asimov
    assert found.observed == pytest.approx(found.expected[2], rel=1e-6)


def test_a_limit_beyond_the_bounds_names_them(tmp_path):
    parameters = [{"name": "mu", "bounds": [[0.0, 1.5]]}]
    given = given_workspace(written(tmp_path, two_bins(parameters=parameters)))
    with pytest.raises(
        FitError, match=r"limit on mu: CLs is still above 0\.05 at 1\.5; its bounds \[0, 1\.5\]"
    ):
        limited(given, free_poi(given, tmp_path), 0.05)


def test_what_nothing_determines_is_named(tmp_path):
    content = two_bins()
    content["channels"][0]["samples"][0]["modifiers"].append(modifier("nu", "normfactor"))
    given = given_workspace(written(tmp_path, content))
    with pytest.raises(FitError, match=r"make up for (each other|any change)"):
        fitted(given)


def test_what_has_no_effect_is_said(tmp_path):
    content = two_bins()
    idle = {"name": "none", "data": [0.0, 0.0], "modifiers": [modifier("idle", "normfactor")]}
    content["channels"][0]["samples"].append(idle)
    found = fitted(given_workspace(written(tmp_path, content)))
    (idle,) = [own for own in found.parameters if own.name == "idle"]
    assert (idle.value, idle.uncertainty, idle.held) == (1.0, 0.0, "no effect")


def test_bins_that_expect_fewer_than_no_events_are_said(tmp_path):
    steep = modifier("steep", "histosys", {"hi_data": [70.0, 61.0], "lo_data": [10.0, 59.0]})
    samples = [
        {"name": "s", "data": [0.5, 5.0], "modifiers": [modifier("mu", "normfactor")]},
        {"name": "b", "data": [40.0, 60.0], "modifiers": [steep]},
    ]
    path = written(tmp_path, workspace_of([{"name": "a", "samples": samples}], {"a": [0.0, 60.0]}))
    assert fitted(given_workspace(path)).bins_below_zero == (0,)
    assert "fewer than no events are expected in bins 0" in run("fit", path)[1]


def test_a_patch_of_a_patchset(tmp_path):
    path = written(tmp_path, two_bins())
    patch = [{"op": "replace", "path": "/channels/0/samples/0/data", "value": [10.0, 20.0]}]
    content = {
        "version": "1.0.0",
        "metadata": {
            "name": "p",
            "references": {"hepdata": "ins1234567"},
            "description": "d",
            "labels": ["x"],
            "digests": {"sha256": pyhf.utils.digest(two_bins(), algorithm="sha256")},
        },
        "patches": [{"metadata": {"name": "twice", "values": [2]}, "patch": patch}],
    }
    patchset = tmp_path / "patchset.json"
    patchset.write_text(json.dumps(content))
    given = given_workspace(path, patchset=patchset, patch="twice")
    once = given_workspace(path)
    values = [{own.name: own.value for own in fitted(g).parameters} for g in (given, once)]
    assert values[0]["mu"] == pytest.approx(values[1]["mu"] / 2, rel=1e-6)
    with pytest.raises(InputError, match="no patch 'thrice'; it has twice"):
        given_workspace(path, patchset=patchset, patch="thrice")


def run(*arguments):
    """Run a verb as the command line does, in this process; its exit code and what it prints."""
    outcome = CliRunner().invoke(thalweg, [*map(str, arguments)], obj=lambda verb, log, debug: verb() or 0)
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome.exit_code, outcome.output


def test_the_verbs_print_a_table_and_write_json(tmp_path):
    path, output = written(tmp_path, counting()), tmp_path / "out.json"
    code, text = run("fit", path, "--json", output, "--compare")
    assert code == 0
    assert "fit to observed data: converged" in text
    assert "pyhf with Minuit" in text
    assert json.loads(output.read_text())["poi"] == "mu"
    code, text = run("hypotest", path, "--mu", "2", "--json", output)
    assert code == 0
    assert "test of mu = 2 on observed data" in text
    assert json.loads(output.read_text())["mu"] == 2
    code, text = run("limit", path, "--level", "0.1", "--asimov")
    assert code == 0
    assert "upper limit on mu at CLs = 0.1" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fix", "mo=1"], "no parameter 'mo' to hold; nearest: 'mu'"),
        (["--fix", "mu=99"], r"mu = 99 is outside its bounds \[0, 10\]"),
        (["--patch", "x"], "go together"),
        (["--poi", "nix"], "POI 'nix' has 0 components"),
        (["--measurement", "nix"], "no measurement 'nix'"),
        (["--fix", "mu=1"], "the parameter of interest 'mu' is held"),
        (["--fix", "norm=1", "--fix", "norm=2"], "'norm' twice; give each parameter one value"),
        (["--mu", "-1"], r"--mu -1 is not between 0 and 10: 'mu' has bounds \[0, 10\]"),
        (["--mu", "20"], r"--mu 20 is not between 0 and 10"),
    ],
)
def test_wrong_options_are_named(arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run("hypotest", written(tmp_path, counting()), *arguments)


def test_a_measurement_without_a_poi_can_be_fitted_but_not_tested(tmp_path):
    path = written(
        tmp_path, counting() | {"measurements": [{"name": "m", "config": {"poi": "", "parameters": []}}]}
    )
    assert fitted(given_workspace(path)).poi is None
    with pytest.raises(InputError, match="no parameter of interest; give one by --poi: mu, norm"):
        run("limit", path)
    assert run("hypotest", path, "--poi", "mu")[0] == 0


def test_a_workspace_that_is_none_is_refused(tmp_path):
    content = copy.deepcopy(counting())
    content["channels"][0]["samples"][0]["modifiers"][0]["type"] = "normfctor"
    with pytest.raises(
        InputError, match=r"workspace\.json: channel 'bin'.*type 'normfctor' is not supported"
    ):
        given_workspace(written(tmp_path, content))
