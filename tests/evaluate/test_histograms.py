"""The comparison with a reference: what passes, what does not, and the verb's exit code."""

import copy
import json
import re
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.errors import InputError
from pipeline.evaluate.histograms import checked, differences

EDGES = [0.0, 1.0, 2.0, 3.0, 4.0]
REFERENCE = {
    "4j1b_ttbar": {"edges": EDGES, "contents": [0.0, 100.0, 50.0, 20.0, 10.0, 5.0]},
    "4j1b_ttbar_pt_res_up": {"edges": EDGES, "contents": [0.0, 90.0, 50.0, 20.0, 10.0, 5.0]},
    "4j1b_pseudodata": {"edges": EDGES, "contents": [0.0, 100.0, 50.0, 20.0, 10.0, 5.0]},
}


def changed(name="4j1b_ttbar", **bins):
    found = copy.deepcopy(REFERENCE)
    for index, content in bins.items():
        found[name]["contents"][int(index[1:])] = content
    return found


def test_rounding_migration_random_and_optional_histograms_pass():
    assert not differences(REFERENCE, REFERENCE)
    assert not differences(changed(b1=100.0005), REFERENCE)
    assert not differences(changed(b1=101.5, b2=48.5), REFERENCE)
    assert not differences(changed(b4=9.0, b5=6.0), REFERENCE)  # into the overflow
    assert not differences(changed("4j1b_ttbar_pt_res_up", b1=0.0), REFERENCE)
    assert not differences({k: v for k, v in REFERENCE.items() if "pseudo" not in k}, REFERENCE)
    assert not differences({**REFERENCE, "more": REFERENCE["4j1b_ttbar"]}, REFERENCE)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (changed(b1=100.5), r"differs in bins 1 to 1 .*: \[100\.5\], not \[100\.0\]"),
        (changed(b1=101.5, b2=48.0), "differs in bins 1 to 2"),
        (changed(b1=110.0, b2=40.0), "differs in bins 1 to 2"),
        (changed(b1=101.5, b3=18.5), "differs in bins 1 to 1"),
        (changed(b1=101.0, b2=49.0, b4=11.0), "differs in bins 4 to 4"),
        ({k: v for k, v in REFERENCE.items() if k != "4j1b_ttbar"}, "is missing"),
        ({**REFERENCE, "4j1b_ttbar": {"edges": [0, 2, 4], "contents": [0, 150, 30, 5]}}, "has edges"),
        (
            {**REFERENCE, "4j1b_ttbar": {"edges": EDGES, "contents": [100, 50, 20, 10]}},
            "has 4 contents, not 6",
        ),
    ],
)
def test_everything_else_is_named(found, message):
    (name,) = wrong = differences(found, REFERENCE)
    assert name == "4j1b_ttbar"
    assert re.search(message, wrong[name])


@pytest.mark.parametrize(
    "content",
    [{}, [], 3, {"a": 3}, {"a": {"edges": [1]}}, {"a": {"edges": [0, 1], "contents": [None, "x", [1]]}}],
)
def test_other_files_are_refused(content):
    with pytest.raises(InputError, match=r"some\.json.* file of histograms"):
        checked(content, Path("some.json"))
    assert checked(REFERENCE, Path("some.json")) is REFERENCE


def test_the_verb(tmp_path, capsys):
    for name, content in (("reference", REFERENCE), ("good", REFERENCE), ("bad", changed(b1=7.0))):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    for name, code, message in (
        ("good", 0, "all 3 histograms of"),
        ("bad", 1, "error: 1 of the 3 histograms of"),
        ("missing", 1, "cannot be read: No such file"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(
                ["validate", str(tmp_path / f"{name}.json"), "--reference", str(tmp_path / "reference.json")]
            )
        assert ended.value.code == code
        assert message in capsys.readouterr().err.replace("\n", " ")


def test_the_challenge_s_own_references_agree_with_themselves_only(shared_data):
    reference = json.loads((shared_data / "agc" / "histos_1_file_per_process.json").read_text())
    assert not differences(reference, reference)
    swapped = {
        name.replace("4j1b", "x").replace("4j2b", "4j1b").replace("x", "4j2b"): h
        for name, h in reference.items()
    }
    assert len(differences(swapped, reference)) > 100
