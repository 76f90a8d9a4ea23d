"""The page is complete and needs nothing else; figures are drawn from the data given."""

import re

import contracts
import pytest

from pipeline import config as configuration
from pipeline import report
from pipeline.data.record import Check
from pipeline.evaluate.evaluation import (
    Bootstrap,
    FittedParameter,
    FoldResult,
    Further,
    Missing,
    Numbers,
    Place,
    YieldTables,
)
from pipeline.fit.impacts import Impact

BINS = 3


@pytest.fixture
def run(request):
    return configuration.load(request.config.rootpath / "config" / "miniature.yaml")


def evaluation_of(run):
    """What `evaluate` writes, with numbers of our own."""
    labels = ("ttbar_norm", "Jet energy scale", "lumi", "staterror_4j1b[0]")
    nominal = {"nominal": tuple(10.0 + i for i in range(BINS))}
    impacts = (
        Impact(label="Jet energy scale", pull=0.0, constraint=0.9, up=0.02, down=-0.03),
        Impact(label="lumi", pull=0.0, constraint=0.99, up=0.01, down=-0.01),
    )
    fit = contracts.fit(
        labels,
        impacts=impacts,
        prefit_stdev={c: (1.0,) * BINS for c in run.channels},
        interval=(-0.15, 0.17),
        interval_method={"down": "minos", "up": "profile"},
    )
    fitted = FittedParameter(label="ttbar_norm", bestfit=0.96, uncertainty=0.11, ours=0.961, hessian=0.108)
    values = {"initial": 0.12345, "optimised": 0.1}
    edges = {"initial": (0.0, 1.0, 2.0, 3.0), "optimised": (0.0, 1.0, 2.5, 3.0)}
    templates = YieldTables(
        yields={c: dict.fromkeys(run.data.samples, nominal) for c in run.channels}, sumw2={}
    )
    return contracts.evaluation(
        rows=[
            contracts.row(
                p, f, templates=templates, fit=fit, exact=values[p], relaxed=values[p], pyhf=values[p]
            )
            for f in ("train", "held_out")
            for p in values
        ],
        points={
            p: Place(
                parameters={"lepton_pt": 30.0, "jet_pt": 30.0 + (p == "optimised"), "btag": 0.5},
                edges=dict.fromkeys(run.channels, edges[p]),
                pseudodata=(fitted,),
            )
            for p in values
        },
        bootstrap=Bootstrap(values={"initial": (0.12, 0.1234, 0.13), "optimised": (0.1, 0.1, 0.1)}, failed=1),
    )


def records_of(**parameters):
    return [contracts.record(i, objective=0.12 - 0.01 * i, parameters=parameters) for i in range(3)]


CUTS = {"lepton_pt": 30.0, "jet_pt": 30.0, "btag": 0.5}


def provenances_of(run):
    return [contracts.provenance(s, entries_promised=110) for s in run.data.samples]


@pytest.fixture
def page(run, tmp_path):
    report.write(
        run,
        records_of(**CUTS),
        evaluation_of(run),
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
        records_of(**CUTS),
        evaluation_of(run),
        provenances_of(run),
        page=tmp_path / "again.html",
        figures=tmp_path / "figures",
    )
    assert {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()} == first


def test_a_deterioration_is_called_one(run, tmp_path):
    worse = contracts.with_rows(evaluation_of(run), lambda row: row.point == "initial", pyhf=0.05)
    report.write(
        run, records_of(**CUTS), worse, provenances_of(run), page=tmp_path / "p.html", figures=tmp_path / "f"
    )
    assert "not an improvement" in (tmp_path / "p.html").read_text()


def test_the_kept_epoch_is_marked_and_starts_are_listed(run, tmp_path):
    """The best check is that of the second start, which patience has ended."""
    settings = {"starts": 3, "epochs": 3, "patience": 1}
    several = run.model_copy(update={"optimise": run.optimise.model_copy(update=settings)})
    values = [(0, 0, 0.3), (1, 0, 0.2), (2, 0, 0.25), (3, 1, 0.4), (4, 1, 0.1), (5, 1, 0.15)]
    (usual, *_) = records_of(**CUTS)
    records = [
        usual.changed(
            epoch=epoch, start=start, begun=3 * start, check=Check(objective=value, minimised=value)
        )
        for epoch, start, value in values
    ]

    def page(config, records):
        path, figures = tmp_path / "p.html", tmp_path / "f"
        report.write(config, records, evaluation_of(run), provenances_of(run), page=path, figures=figures)
        return " ".join(re.sub(r"<[^>]*>", " ", path.read_text()).split())

    text = page(several, records)
    assert "The result is epoch 1 of 3 of start 1: the best with exact cuts on training events" in text
    assert "0 0.3 0.2 1 3 all epochs" in text
    assert "1, kept 0.4 0.1 1 3 all epochs" in text
    assert "2 none none 0 0 no finite objective" in text
    one = page(
        run.model_copy(update={"optimise": several.optimise.model_copy(update={"starts": 1, "epochs": 9})}),
        records[:3],
    )
    assert "The result is epoch 1 of 3: the best" in one
    assert "The run ended after 3 epochs by optimise.patience : 1 looks in a row were not better" in one
    assert "What each start reached" not in one


def test_a_start_without_a_number_says_why(run, tmp_path):
    """An untrained network that puts all events into one bin."""
    missing = (Missing(kind="exact", model=None, reason="the fit did not converge"),)
    gone = {"exact": None, "pyhf": None, "missing": missing}
    summary = contracts.with_rows(evaluation_of(run), lambda row: row.point == "initial", **gone)
    path = tmp_path / "p.html"
    report.write(run, records_of(**CUTS), summary, provenances_of(run), page=path, figures=tmp_path / "f")
    page = path.read_text().replace("<b>", "").replace("</b>", "")
    assert "none → 0.1" in page
    assert page.count("No number at the initial parameters") == 2
    assert "exact: the fit did not converge" in page


def test_an_objective_that_is_no_number_of_the_fit_is_judged_by_exact_cuts(run, tmp_path):
    """A cross-entropy: pyhf fits the regions, but its table has no such column."""
    summary = contracts.with_rows(evaluation_of(run), lambda row: True, pyhf=None)
    path = tmp_path / "report.html"
    report.write(
        run, records_of(**CUTS), summary, provenances_of(run), page=path, figures=tmp_path / "figures"
    )
    page = path.read_text().replace("<b>", "").replace("</b>", "")
    assert "0.12345 → 0.1" in page
    assert "fitted with pyhf:" not in page
    assert page.count("<td>none</td>") == 4


def test_a_model_beyond_pyhf_with_nothing_but_arrays_free_and_further_models(run, tmp_path):
    further = Further(label="uncertainty", exact=0.09, relaxed=0.0901, pyhf=0.0902)
    judged = {"fit": None, "also": {"constrained": further}}
    summary = contracts.with_rows(evaluation_of(run), lambda row: True, **judged)
    bare = {p: place.changed(parameters={}, pseudodata=None) for p, place in summary.points.items()}
    summary, records = summary.changed(points=bare), records_of()
    path = tmp_path / "report.html"
    report.write(run, records, summary, provenances_of(run), page=path, figures=tmp_path / "figures")
    page = path.read_text().replace("<b>", "").replace("</b>", "")
    assert page.count("<td>constrained</td>") == 2
    assert page.count("<td>0.0902</td>") == 2
    drawn = {p.name for p in (tmp_path / "figures").iterdir()}
    assert drawn == {"objective.svg", "templates_4j1b.svg", "templates_4j2b.svg"}


def test_the_page_of_folds_has_them_side_by_side(run, tmp_path):
    """Nothing on it is called held-out."""
    cross = run.model_copy(
        update={"data": run.data.model_copy(update={"folds": 2, "held_out_fraction": 0.0})}
    )
    plain = evaluation_of(run)
    rows = [
        r.changed(fold="cross_fitted") if r.fold == "held_out" else r.changed(fit=None) for r in plain.rows
    ]
    numbers = Numbers(exact=0.0777, relaxed=0.07, pyhf=0.07)
    folds = [
        FoldResult(
            fold=f"fold_{number}", inside=110 + number, outside=220 + number,
            optimised=Place(
                parameters={"lepton_pt": 30.0, "jet_pt": 30.0 + number, "btag": 0.5},
                edges=dict.fromkeys(run.channels, (0.0, 1.0, 2.0 + 0.25 * number, 3.0)),
                pseudodata=None,
            ),
            training={"initial": numbers, "optimised": numbers},
        )
        for number in (1, 2)
    ]  # fmt: skip
    report.write(
        cross,
        records_of(**CUTS),
        plain.changed(rows=tuple(rows), folds=tuple(folds)),
        provenances_of(run),
        page=tmp_path / "report.html",
        figures=tmp_path / "figures",
        others=[records_of(**CUTS)[:-1]],  # it has ended before, by patience
    )
    page = (tmp_path / "report.html").read_text()
    text = " ".join(re.sub("<[^>]*>", " ", page[: page.index("<summary>Configuration")]).split())
    assert "held" not in text.replace("held_out_fraction", "")
    assert "cross-fitted events, fitted with pyhf" in text
    assert "jet_pt 31 32 0.71" in text  # the standard deviation of 31 and 32
    assert "1 111 221 0.0777 0.0777" in text
    assert "0, 1, 2.25, 3 0, 1, 2.5, 3" in text
    assert "the events are in 2 folds by event number" in text
