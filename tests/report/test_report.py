"""The page is complete and needs nothing else; figures are drawn from the data given."""

import re

import numpy as np
import pytest

from pipeline import config as configuration
from pipeline import report

BINS = 3


@pytest.fixture
def run(request):
    return configuration.load(request.config.rootpath / "config" / "miniature.yaml")


def summary_of(run):
    """What `evaluate` writes, with numbers of our own."""
    labels = ["ttbar_norm", "Jet energy scale", "lumi", "staterror_4j1b[0]"]
    yields = {
        c: {s: {"nominal": [10.0 + i for i in range(BINS)]} for s in run.data.samples} for c in run.channels
    }
    fit = {
        "labels": labels,
        "impacts": [
            {"label": "Jet energy scale", "pull": 0.0, "constraint": 0.9, "up": 0.02, "down": -0.03},
            {"label": "lumi", "pull": 0.0, "constraint": 0.99, "up": 0.01, "down": -0.01},
        ],
        "prefit_stdev": {c: [1.0] * BINS for c in run.channels},
        "interval": [-0.15, 0.17],
        "interval_method": {"down": "minos", "up": "profile"},
        "bestfit": [1.0, 0.0, 1.0, 1.0],
        "uncertainty": [0.1, 0.9, 0.03, 0.1],
        "correlation": np.eye(4).tolist(),
        "objective": 0.1,
    }
    keys = [(p, f) for f in ("train", "held_out") for p in ("initial", "optimised")]
    values = {"initial": 0.12345, "optimised": 0.1}
    return {
        "objective": {"kind": "poi_uncertainty", "label": "uncertainty", "unit": "1", "sense": "minimise"},
        "points": {p: {"lepton_pt": 30.0, "jet_pt": 30.0 + (p == "optimised"), "btag": 0.5} for p in values},
        "edges": {
            "initial": {c: [0.0, 1.0, 2.0, 3.0] for c in run.channels},
            "optimised": {c: [0.0, 1.0, 2.5, 3.0] for c in run.channels},
        },
        "bootstrap": {
            "values": {"initial": [0.12, 0.1234, 0.13], "optimised": [0.1, 0.1, 0.1]},
            "failed": 1,
        },
        "pseudodata": {
            p: [
                {"label": "ttbar_norm", "bestfit": 0.96, "uncertainty": 0.11, "ours": 0.961, "hessian": 0.108}
            ]
            for p in values
        },
        "table": [
            {"point": p, "fold": f, "events": 7, "missing": []}
            | dict.fromkeys(("exact", "relaxed", "pyhf"), values[p])
            for p, f in keys
        ],
        "templates": {f"{p}_{f}": {"yields": yields, "sumw2": {}} for p, f in keys},
        "fits": {f"{p}_{f}": fit for p, f in keys},
        "also": [],
        "cautions": {f"{p}_{f}": [] for p, f in keys},
    }


def records_of():
    parameters = {"lepton_pt": 30.0, "jet_pt": 30.0, "btag": 0.5}
    return [
        {
            "epoch": i,
            "objective": 0.12 - 0.01 * i,
            "gradient_norm": 1.0,
            "parameters": parameters,
            "seconds": 1.0,
            "events": 7,
        }
        for i in range(3)
    ]


def provenances_of(run):
    counts = {"train": 60, "held_out": 40}
    return [
        {
            "sample": s,
            "file": f"{s}.root",
            "range": [0, None],
            "entries_promised": 110,
            "entries_read": counts,
            "entries_kept": {"train": 6, "held_out": 4},
            "sum_of_weights": {"train": 6.0, "held_out": 4.0},
            "sum_of_absolute_weights": {"train": 6.0, "held_out": 4.0},
        }
        for s in run.data.samples
    ]


@pytest.fixture
def page(run, tmp_path):
    report.write(
        run,
        records_of(),
        summary_of(run),
        provenances_of(run),
        page=tmp_path / "report.html",
        figures=tmp_path / "figures",
    )
    return (tmp_path / "report.html").read_text()


def test_the_page_needs_nothing_else(page):
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page.replace('xlink:href="#', 'href="#'))
    assert "<script" not in page


def test_the_page_says_what_was_found_and_run(page, run):
    assert "0.12345 → 0.1" in page.replace("<b>", "").replace("</b>", "")
    assert "(-19.0 ± 3.2 %)" in page
    assert page.count("<figure>") == 6
    for name in run.data.samples:
        assert f"<td>{name}</td>" in page
        assert f"<td>{name}.root</td>" in page
    assert "<td>10</td>" in page  # promised 110, read 100: ten events lost
    assert "-0.15, +0.17" in page
    assert "Lower end: MINOS; upper end: profile fits of pyhf" in page
    assert "learning_rate: 0.05" in page
    assert "jax " in page


def test_figures_are_files_too_and_reproducible(page, run, tmp_path):
    names = {p.name for p in (tmp_path / "figures").iterdir()}
    assert names == {
        *(
            "objective.svg",
            "parameters.svg",
            "templates_4j1b.svg",
            "templates_4j2b.svg",
            "pulls.svg",
            "ranking.svg",
        ),
    }
    first = {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
    report.write(
        run,
        records_of(),
        summary_of(run),
        provenances_of(run),
        page=tmp_path / "again.html",
        figures=tmp_path / "figures",
    )
    assert {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()} == first


def test_a_deterioration_is_called_one(run, tmp_path):
    summary = summary_of(run)
    for row in summary["table"]:
        row["pyhf"] = 0.1 if row["point"] == "initial" else 0.2
    report.write(
        run, records_of(), summary, provenances_of(run), page=tmp_path / "p.html", figures=tmp_path / "f"
    )
    assert "not an improvement" in (tmp_path / "p.html").read_text()


def test_a_start_without_a_number_says_why(run, tmp_path):
    """An untrained network that puts all events into one bin."""
    summary = summary_of(run)
    for row in summary["table"]:
        if row["point"] == "initial":
            row |= {"exact": None, "pyhf": None, "missing": ["exact: the fit did not converge"]}
    path = tmp_path / "p.html"
    report.write(run, records_of(), summary, provenances_of(run), page=path, figures=tmp_path / "f")
    page = path.read_text().replace("<b>", "").replace("</b>", "")
    assert "none → 0.1" in page
    assert page.count("No number at the initial parameters") == 2
    assert "exact: the fit did not converge" in page


def test_an_objective_that_is_no_number_of_the_fit_is_judged_by_exact_cuts(run, tmp_path):
    """A cross-entropy: pyhf fits the regions, but its table has no such column."""
    summary = summary_of(run)
    for row in summary["table"]:
        row["pyhf"] = None
    path = tmp_path / "report.html"
    report.write(run, records_of(), summary, provenances_of(run), page=path, figures=tmp_path / "figures")
    page = path.read_text().replace("<b>", "").replace("</b>", "")
    assert "0.12345 → 0.1" in page
    assert "fitted with pyhf:" not in page
    assert page.count("<td>none</td>") == 4


def test_a_model_beyond_pyhf_with_nothing_but_arrays_free_and_further_models(run, tmp_path):
    summary = summary_of(run) | {"fits": {}, "pseudodata": {}, "points": {"initial": {}, "optimised": {}}}
    found = {"exact": 0.09, "relaxed": 0.0901, "pyhf": 0.0902}
    summary["also"] = [
        {"model": "constrained", "label": "uncertainty", "point": p, "fold": f, **found}
        for p in ("initial", "optimised")
        for f in ("train", "held_out")
    ]
    records = [record | {"parameters": {}} for record in records_of()]
    path = tmp_path / "report.html"
    report.write(run, records, summary, provenances_of(run), page=path, figures=tmp_path / "figures")
    page = path.read_text().replace("<b>", "").replace("</b>", "")
    assert page.count("<td>constrained</td>") == 2
    assert page.count("<td>0.0902</td>") == 2
    drawn = {p.name for p in (tmp_path / "figures").iterdir()}
    assert drawn == {"objective.svg", "templates_4j1b.svg", "templates_4j2b.svg"}
