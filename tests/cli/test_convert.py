"""`thalweg convert`: a model from one format to another, as files."""

import json

import pytest
from workspaces import two_channels

from pipeline.cli import main


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "workspace.json").write_text(json.dumps(two_channels()))
    return tmp_path / "workspace.json"


def converted(*arguments):
    """Exit code of the verb."""
    with pytest.raises(SystemExit) as caught:
        main(["convert", *map(str, arguments)])
    return caught.value.code


def test_through_hs3_and_back(workspace, tmp_path, capsys):
    assert not converted(workspace, tmp_path / "hs3.json", "--to", "hs3", "--explicit-gammas")
    assert not converted(tmp_path / "hs3.json", tmp_path / "back.json", "--to", "pyhf")
    assert json.loads((tmp_path / "back.json").read_text())["channels"] == two_channels()["channels"]
    assert f"{tmp_path / 'hs3.json'}, read as hs3, written as pyhf to" in capsys.readouterr().err


def test_a_datacard_becomes_hs3(workspace, tmp_path):
    assert not converted(workspace, tmp_path / "card.txt", "--to", "combine")
    assert not converted(tmp_path / "card.txt", tmp_path / "hs3.json", "--to", "hs3")
    found = json.loads((tmp_path / "hs3.json").read_text())
    assert sorted(own["name"] for own in found["distributions"]) == [
        "cr",
        "sr",
    ]  # the luminosity is a normsys then
    assert found["analyses"][0]["parameters_of_interest"] == ["mu"]


@pytest.mark.parametrize(
    ("source", "arguments", "says"),
    [
        ("other.json", ("out.json", "--to", "hs3"), "is neither a pyhf workspace, with `channels`, nor HS3"),
        ("workspace.json", ("out.txt", "--to", "combine", "--explicit-gammas"), "is for --to hs3; remove it"),
        ("workspace.json", ("out.json", "--to", "hs3", "--measurement", "second"), "no measurement 'second'"),
        ("workspace.json", ("out", "--to", "cabinetry"), "lumi 'lumi': cabinetry cannot say it"),
        ("card.txt", ("out", "--to", "hepdata"), "card.txt: tables of HEPData are made of a pyhf workspace"),
    ],
)
def test_wrong_files_and_options_are_named(workspace, tmp_path, capsys, source, arguments, says):
    (tmp_path / "other.json").write_text("[]")
    if source == "card.txt":
        assert not converted(workspace, tmp_path / "card.txt", "--to", "combine")
    target, *rest = arguments
    assert converted(tmp_path / source, tmp_path / target, *rest) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / target).exists()
