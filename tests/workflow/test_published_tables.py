"""The lists of published numbers and the tables of the docs made of the results."""

import importlib.util
import json

import pytest
import yaml

from pipeline import config as configuration
from pipeline.errors import InputError

STUDY = {"command": "snakemake", "numbers": {"a.exact": 2.0, "b.exact": 30.0}}


@pytest.fixture(scope="module")
def root(request):
    return request.config.rootpath


@pytest.fixture(scope="module")
def published(root):
    """The script of the rule."""
    spec = importlib.util.spec_from_file_location("published", root / "workflow/studies/published.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["published", "against"])
def listed(root, request):
    return yaml.safe_load((root / f"workflow/studies/{request.param}.yaml").read_text())


def write(folder, name, seeds):
    for seed, factor in enumerate(seeds, 1):
        numbers = {key: factor * number for key, number in STUDY["numbers"].items()}
        (folder / f"{name}_{seed}.json").write_text(json.dumps({**STUDY, "numbers": numbers}))


def test_every_study_is_a_run_that_can_be_read(root, listed):
    for name, study in listed["studies"].items():
        if "config" in study:
            run = configuration.load(root / "config" / study["config"], study.get("set", ()))
            assert run.optimise.epochs >= 1, name
        elif "scan" in study:
            assert "config" in listed["studies"][study["scan"]], name
        else:
            assert (root / study["script"].split()[0]).is_file(), name
        assert study.get("after", name) in listed["studies"], name


def test_every_row_is_of_a_study_and_as_wide_as_its_table(listed):
    for name, table in listed["tables"].items():
        for row in table["rows"]:
            cells = row.get("published") or row.get("numbers")
            assert cells is None or len(cells) == len(table["columns"]), (name, row["label"])
            assert "published" in row or row["of"] in listed["studies"], (name, row["label"])


def test_a_table_has_the_median_and_the_range(published, tmp_path):
    write(tmp_path, "ours", (1.0, 3.0, 2.0))
    rows = [
        {"label": "theirs", "published": [5, None]},
        {"label": "ours", "of": "ours", "number": "{}.exact"},
        {"label": "more", "of": "more", "number": "{}.exact"},
    ]
    small = {
        "studies": {"ours": {"seeds": 4}, "more": {}},  # the fourth seed and the other study were not run
        "tables": {"small": {"columns": {"a": "A", "b": "B"}, "rows": rows}},
    }
    content = published.collected(small, tmp_path)
    page = "text\n<!-- published: small; generated, do not edit -->\nold\n<!-- end of published -->\nrest\n"
    made = published.with_tables(page, content)
    lines = ["| | A | B |", "| --- | --- | --- |", "| theirs | 5 |  |"]
    lines.append("| ours, 3 seeds | 4 (2 to 6) | 60 (30 to 90) |")
    lines.append("| more, not run yet |  |  |")
    begin, end = page.split("old\n")
    assert made == f"{begin}\n" + "\n".join(lines) + "\n\n" + end
    assert published.with_tables(made, content) == made


def test_a_number_that_is_not_there_is_named(published, tmp_path):
    write(tmp_path, "ours", (1.0,))
    row = {"label": "ours", "of": "ours", "number": "{}.pyhf"}
    small = {"studies": {"ours": {}}, "tables": {"small": {"columns": {"a": "A"}, "rows": [row]}}}
    with pytest.raises(InputError, match=r"'ours' has no number 'a.pyhf'; it has a.exact, b.exact"):
        published.collected(small, tmp_path)


def test_the_best_point_of_a_scan(published):
    points = [{"values": {"cut": 1.0, "edges_x": [0.0, 2.0]}, "exact": -3.0, "relaxed": -2.0}]
    best = dict.fromkeys(("exact", "relaxed"), points[0])
    found = published.scanned({"objective": {"kind": "discovery"}, "points": points, "best": best})
    assert found == {
        "points": 1.0,
        "exact_0": -3.0,
        **{"exact": -3.0, "exact.cut": 1.0, "exact.edges_x.0": 0.0, "exact.edges_x.1": 2.0},
        **{"relaxed": -2.0, "relaxed.cut": 1.0, "relaxed.edges_x.0": 0.0, "relaxed.edges_x.1": 2.0},
    }


@pytest.mark.parametrize("name", ["published", "against"])
def test_the_pages_are_those_of_the_results(root, published, name):
    """docs/published.json, docs/against.json and the tables of docs/ belong together."""
    content = json.loads((root / "docs" / f"{name}.json").read_text())
    for page in published.pages(root / "docs"):
        assert page.read_text() == published.with_tables(page.read_text(), content), page
