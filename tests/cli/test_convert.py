"""`thalweg convert`: a model from one format to another, as files."""

import json
import logging

import pytest
from click.testing import CliRunner
from workspaces import two_channels

from pipeline.cli.command import thalweg
from pipeline.errors import InputError
from pipeline.evaluate.workspaces.exchange.formats import read_model


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "workspace.json").write_text(json.dumps(two_channels()))
    return tmp_path / "workspace.json"


def converted(*arguments):
    """The verb as the command line calls it; its error, where there is one, is raised."""
    found = CliRunner().invoke(thalweg, ["convert", *map(str, arguments)], catch_exceptions=False)
    assert found.exit_code == 0, found.output


def test_through_hs3_and_back(workspace, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    converted(workspace, tmp_path / "hs3.json", "--to", "hs3", "--explicit-gammas")
    converted(tmp_path / "hs3.json", tmp_path / "back.json", "--to", "pyhf")
    assert json.loads((tmp_path / "back.json").read_text())["channels"] == two_channels()["channels"]
    assert f"{tmp_path / 'hs3.json'}, read as hs3, written as pyhf to" in caplog.text


def test_a_datacard_becomes_hs3(workspace, tmp_path):
    converted(workspace, tmp_path / "card.txt", "--to", "combine")
    converted(tmp_path / "card.txt", tmp_path / "hs3.json", "--to", "hs3")
    found = json.loads((tmp_path / "hs3.json").read_text())
    assert sorted(own["name"] for own in found["distributions"]) == [
        "cr",
        "sr",
    ]  # the luminosity is a normsys then
    assert found["analyses"][0]["parameters_of_interest"] == ["mu"]


def test_wrong_files_and_options_are_named(workspace, tmp_path):
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(InputError, match=r"other.json is neither a pyhf workspace, with `channels`, nor HS3"):
        read_model(tmp_path / "other.json")
    with pytest.raises(InputError, match="--explicit-gammas is for --to hs3; remove it"):
        converted(workspace, tmp_path / "card.txt", "--to", "combine", "--explicit-gammas")
    with pytest.raises(InputError, match="no measurement 'second'"):
        converted(workspace, tmp_path / "hs3.json", "--to", "hs3", "--measurement", "second")
    assert not (tmp_path / "hs3.json").exists()
    converted(workspace, tmp_path / "hs3.json", "--to", "hs3")
    with pytest.raises(
        InputError, match="tables of HEPData are made of a pyhf workspace; convert it to one first"
    ):
        converted(tmp_path / "hs3.json", tmp_path / "tables", "--to", "hepdata")
