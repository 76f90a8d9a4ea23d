"""The page is complete and needs nothing else; figures are drawn from the data given."""

import base64
import csv
import re

import contracts
import numpy as np
import pytest
from matplotlib.patches import StepPatch

from pipeline import config as configuration
from pipeline import report
from pipeline.data.record import Check, PrunedPart
from pipeline.evaluate.evaluation import (
    Bootstrap,
    FittedParameter,
    FoldResult,
    Further,
    Missing,
    Numbers,
    Place,
    PrunedModel,
    YieldTables,
)
from pipeline.evaluate.yields.selected import Yield, selected
from pipeline.fit.breakdown import Breakdown, GroupPart, SystematicPart
from pipeline.fit.contour import Contour, ContourPoint
from pipeline.fit.impacts import Impact
from pipeline.report.templates import templates

BINS = 3


@pytest.fixture(scope="module")
def run(request):
    """The miniature, its jet energy scale with a variation down too."""
    found = configuration.load(request.config.rootpath / "config" / "miniature.yaml")
    systematics = tuple(
        own.model_copy(update={"down": "pt_scale_down"}) if own.name == "Jet energy scale" else own
        for own in found.model.systematics
    )
    return found.model_copy(update={"model": found.model.model_copy(update={"systematics": systematics})})


def yields_of(run):
    """Templates with up and down of the jet energy scale, another one for each sample and channel."""
    shape = np.arange(BINS)
    return {
        c: {
            s: {
                name: tuple((10.0 + 3 * i + 7 * j + shape) * factor)
                for name, factor in (("nominal", 1.0), ("pt_scale_up", 1.1 + 0.1 * i), ("pt_scale_down", 0.9))
            }
            for i, s in enumerate(run.data.samples)
        }
        for j, c in enumerate(run.channels)
    }


def sumw2_of(run):
    return {c: {s: (0.5, 1.0, 1.5 + i) for i, s in enumerate(run.data.samples)} for c in run.channels}


def breakdown_of(total):
    """A breakdown with parts of both kinds, and a free parameter."""
    return Breakdown(
        total=total,
        groups={
            "data_statistics": GroupPart(parameters=(), impact=0.8 * total, traditional=0.7 * total),
            "jets": GroupPart(
                parameters=("Jet energy scale", "lumi"), impact=0.6 * total, traditional=0.0654
            ),
            "W+jets norm": GroupPart(parameters=("W+jets norm",), impact=None, traditional=0.0321),
        },
        systematics={"Jet energy scale": SystematicPart(impact=-0.0456, up=-0.0567, down=None)},
    )


def contour_of(width):
    """A triangle and one twice as large, around (1, 2); one of its corners is where the model ends."""

    def curve(size):
        corners = ((1.0 - size, 2.0, False), (1.0 + size, 2.0, False), (1.0, 2.0 + 2 * size, True))
        return tuple(ContourPoint(x=x, y=y, is_bound=bound) for x, y, bound in corners)

    return Contour(
        parameters=("ttbar_norm", "W+jets norm"),
        best=(1.0, 2.0),
        covariance=((width**2, 0.5 * width**2), (0.5 * width**2, width**2)),
        curves={"0.68": curve(width), "0.95": curve(2 * width)},
    )


def evaluation_of(run):
    """What `evaluate` writes, with numbers of our own."""
    labels = ("ttbar_norm", "Jet energy scale", "lumi", "staterror_4j1b[0]")
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
    templates = YieldTables(yields=yields_of(run), sumw2=sumw2_of(run))
    return contracts.evaluation(
        rows=[
            contracts.row(
                p,
                f,
                templates=templates,
                fit=fit,
                exact=values[p],
                relaxed=values[p],
                pyhf=values[p],
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


@pytest.fixture(scope="module")
def results(run, tmp_path_factory):
    """Folder of the page and of its figures."""
    folder = tmp_path_factory.mktemp("report")
    report.write(
        run,
        records_of(**CUTS),
        evaluation_of(run),
        provenances_of(run),
        page=folder / "report.html",
        figures=folder / "figures",
    )
    return folder


@pytest.fixture(scope="module")
def page(results):
    return (results / "report.html").read_text()


def test_the_page_needs_nothing_else(page, results):
    """What it shows is in it; links lead to files beside it, to take away."""
    for target in re.findall(r'src="([^"]*)"', page):
        assert target.startswith("data:image/svg+xml;base64,")
        assert base64.b64decode(target.partition(",")[2]).startswith(b"<?xml")
    links = re.findall(r'href="([^"]*)"', page)
    assert len(links) == 3 * page.count("<figure>")
    assert all((results / link).is_file() for link in links)
    assert "<script" not in page


def test_every_figure_is_said_in_words(page):
    images = re.findall(r"<img [^>]*>", page)
    assert len(images) == page.count("<figure>")
    texts = [re.search(r' alt="([^"]*)"', image)[1] for image in images]
    assert all(len(text) > 40 for text in texts)
    assert len(set(texts)) == len(texts)
    assert any("jet_pt from 30 to 31" in text for text in texts)
    assert any("Jet energy scale 0.02 and -0.03" in text for text in texts)


def test_parts_of_the_uncertainty_and_contours_are_in_the_page(run, tmp_path):
    evaluated = evaluation_of(run)
    rows = [
        row.changed(
            breakdowns={"ttbar_norm": breakdown_of(row.exact)},
            contours=(contour_of(row.exact),),
            breakdown_missing="there is no other one",
            contours_missing="nor more of these",
        )
        for row in evaluated.rows
    ]
    path, figures = tmp_path / "report.html", tmp_path / "figures"
    evaluated = evaluated.changed(rows=tuple(rows))
    report.write(run, records_of(**CUTS), evaluated, provenances_of(run), page=path, figures=figures)
    page = path.read_text()
    assert "There is no breakdown: there is no other one" in page
    assert "There are no contours: nor more of these" in page
    require_parts(page)
    require_contours(table(figures / "contours_1.csv"), page)


def test_what_is_pruned_is_in_the_page(run, tmp_path):
    """Parts of the final model, the uncertainty with and without them, and what the optimisation had otherwise."""

    def part(name, channel, size):
        own = {"sample": "ttbar", "part": "shape", "threshold": 0.01}
        return PrunedPart(systematic=name, channel=channel, size=size, **own)

    kept, both, since = part("jes", "4j1b", 0.002), part("jes", "4j2b", 0.004), part("jer", "4j2b", 0.0071)
    found = PrunedModel(
        parts=(both, since),
        of=20,
        gone=("jer",),
        before={"4j1b": (0.1, 0.2, 0.123456), "4j2b": (0.3, 0.3, 0.3)},
        after={"4j1b": (0.1, 0.2, 0.1), "4j2b": (0.0, 0.2, 0.3)},
    )
    evaluated, records = evaluation_of(run), records_of(**CUTS)
    rows = tuple(row.changed(pruned=found) for row in evaluated.rows)
    records[0] = records[0].changed(pruned=(kept, both))
    path = tmp_path / "report.html"
    given = evaluated.changed(rows=rows), provenances_of(run)
    report.write(run, records, *given, page=path, figures=tmp_path / "figures")
    page = re.sub(r"\s+", " ", path.read_text())
    assert "leaves out 2 of 20 parts of systematics at the optimised parameters" in page
    assert "Nothing is left of jer, which the workspace therefore does not have" in page
    assert (
        "The optimisation left out 2, decided at its start on training events; 1 of these are in the final"
        in page
    )
    assert '<td>4j1b</td><td class="text">10, 20, 12.3</td> <td class="text">10, 20, 10</td>' in page
    assert page.index("<td>0.71</td><td>1</td>") < page.index("<td>0.4</td><td>1</td>")  # the largest first
    assert given[0].pruning["optimised"]["train"].parts == 2


def require_parts(page):
    """Both kinds of impacts side by side."""
    rows = {
        row[0]: row for row in re.findall(r"<tr[^>]*>" + 5 * r"<td>(?:<b>)?([^<]*)(?:</b>)?</td>\s*", page)
    }
    assert rows["data_statistics"] == ("data_statistics", "0.09876", "0.08", "64.0", "0.07")
    assert rows["jets"] == ("jets", "0.07407", "0.06", "36.0", "0.0654")
    assert rows["W+jets norm"] == ("W+jets norm", "none", "none", "0.0", "0.0321")
    assert rows["total"] == ("total", "0.1235", "0.1", "100.0", "")
    assert '<td class="text">Jet energy scale, lumi</td>' in page
    assert "<td>Jet energy scale</td><td>-0.0456</td><td>-0.0567</td><td>none</td>" in page
    assert "The traditional ones need not add up" in page


def require_contours(found, page):
    """A row for each of their points, those of the ellipse and the best fit."""

    def of(*key):
        rows = [row for row in found if (row["parameters"], row["curve"], row["level"]) == key]
        return [(float(row["ttbar_norm"]), float(row["W+jets norm"]), row["is_bound"]) for row in rows]

    assert of("optimised", "contour", "0.95") == [(0.8, 2.0, "0"), (1.2, 2.0, "0"), (1.0, 2.4, "1")]
    assert of("initial", "best fit", "") == [(1.0, 2.0, "")]
    widest = max(x for x, *_ in of("optimised", "ellipse", "0.68")) - 1
    assert widest == pytest.approx(0.1 * np.sqrt(-2 * np.log(0.32)), rel=1e-3)
    for said in ("hold 68 % and 95 %", "correlation 0.500", "so does a contour"):
        assert said in page


def test_the_pdf_of_a_figure_is_one(results):
    for path in (results / "figures").glob("*.pdf"):
        content = path.read_bytes()
        assert content.startswith(b"%PDF-")
        assert content.rstrip().endswith(b"%%EOF")
        assert b"/CreationDate" not in content


def table(path):
    """Rows of a CSV file by column."""
    with path.open(encoding="utf-8") as stream:
        return [*csv.DictReader(stream)]


def test_the_numbers_of_a_figure_are_the_templates(results, run):
    rows = table(results / "figures" / "templates_4j2b.csv")
    yields, sumw2 = yields_of(run)["4j2b"], sumw2_of(run)["4j2b"]
    for point, edges in (("initial", [0, 1, 2, 3]), ("optimised", [0, 1, 2.5, 3])):
        own = [row for row in rows if row["parameters"] == point]
        for sample in run.data.samples:
            bins = [row for row in own if row["sample"] == sample]
            assert [float(row["events"]) for row in bins] == [*yields[sample]["nominal"]]
            errors = [float(row["statistical_error"]) for row in bins]
            np.testing.assert_array_equal(errors, np.sqrt(sumw2[sample]))
            assert [float(row["low"]) for row in bins] == edges[:-1]
            assert [float(row["high"]) for row in bins] == edges[1:]
        total = [row for row in own if row["sample"] == "total"]
        expected = np.sum([yields[sample]["nominal"] for sample in run.data.samples], axis=0)
        np.testing.assert_allclose([float(row["events"]) for row in total], expected, rtol=1e-12)
        assert [float(row["uncertainty_before_fit"]) for row in total] == [1.0] * BINS


def test_the_numbers_of_variations_are_the_templates(results, run):
    rows = table(results / "figures" / "variations_4j1b.csv")
    assert {(row["systematic"], row["variation"]) for row in rows} == {
        ("Jet energy scale", "pt_scale_up"), ("Jet energy scale", "pt_scale_down"),
    }  # fmt: skip
    yields = yields_of(run)["4j1b"]
    for name in ("pt_scale_up", "pt_scale_down"):
        own = [row for row in rows if row["variation"] == name]
        for column, variation in (("nominal", "nominal"), ("varied", name)):
            expected = np.sum([yields[sample][variation] for sample in run.data.samples], axis=0)
            np.testing.assert_allclose([float(row[column]) for row in own], expected, rtol=1e-12)
    errors = np.sqrt(np.sum([*sumw2_of(run)["4j1b"].values()], axis=0))
    np.testing.assert_allclose([float(row["statistical_error"]) for row in own], errors, rtol=1e-12)


def test_the_numbers_of_the_epochs_are_the_records(results):
    rows = table(results / "figures" / "objective.csv")
    path = [row for row in rows if row["series"] == "relaxed, training"]
    assert [(int(row["epoch"]), float(row["value"])) for row in path] == [
        (0, 0.12),
        (1, 0.11),
        (2, 0.12 - 0.02),
    ]
    exact = {row["series"]: float(row["value"]) for row in rows if row["series"].startswith("exact")}
    assert exact["exact, initial, held-out"] == 0.12345


def test_yields_are_in_the_page(page, run):
    """Each process with its error, signal and background of each channel and of both."""
    text = " ".join(re.sub("<[^>]*>", " ", page).split())
    found = selected(run, evaluation_of(run).at("initial", "held_out").templates)
    for own in (found.total, *found.channels.values()):
        for yielded in (own.signal, own.background, *own.samples.values()):
            assert str(yielded) in text
        assert f"S/B {own.signal_over_background:.3g}" in text
    assert "what one would publish" not in text
    assert str(Yield(value=123.456, error=0.0345)) == "123.456 ± 0.035"
    assert str(Yield(value=1234.5, error=123.0)) == "1234 ± 123"


def test_the_yields_of_all_events_are_in_the_page_where_they_are_known(run, tmp_path):
    found = evaluation_of(run)
    tables = YieldTables(
        yields={c: {s: {"nominal": (777.0,) * BINS} for s in own} for c, own in yields_of(run).items()},
        sumw2=sumw2_of(run),
    )
    found = found.changed(whole=dict.fromkeys(("initial", "optimised"), tables))
    path = tmp_path / "p.html"
    report.write(run, records_of(**CUTS), found, provenances_of(run), page=path, figures=tmp_path / "f")
    text = path.read_text()
    assert "what one would publish" in text
    assert str(selected(run, tables).total.background) in text


def heights(drawn, panel=0):
    """What is stacked highest in a panel, the label of its axis, and its edges."""
    axes = drawn.figure.axes[panel]
    stairs = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
    values, edges, _ = stairs[-1].get_data()
    return np.asarray(values), drawn.figure.axes[0].get_ylabel(), np.asarray(edges)


def test_contents_of_unequal_bins_are_drawn_per_unit(run):
    """In both panels, so that they can be compared; the numbers stay events."""
    totals = np.sum([own["nominal"] for own in yields_of(run)["4j1b"].values()], axis=0)
    drawn = templates(run, "4j1b", evaluation_of(run), "held_out")
    for panel, widths in enumerate(([1, 1, 1], [1, 1.5, 0.5])):
        values, label, _ = heights(drawn, panel)
        np.testing.assert_allclose(values, totals / widths, rtol=1e-12)
        assert label == "events / GeV"
    assert "not of equal width" in drawn.note
    places = evaluation_of(run).points
    equal = evaluation_of(run).changed(points={**places, "optimised": places["initial"]})
    drawn = templates(run, "4j1b", equal, "held_out")
    assert heights(drawn)[1] == "events / 1 GeV"
    np.testing.assert_allclose(heights(drawn)[0], totals, rtol=1e-12)
    assert drawn.note == ""


def test_the_page_says_what_was_found_and_run(page, run):
    assert "0.12345 → 0.1" in page.replace("<b>", "").replace("</b>", "")
    assert "(-19.0 ± 3.2 %)" in page
    assert page.count("<figure>") == 8
    for name in run.data.samples:
        assert f"<td>{name}</td>" in page
        assert f"<td>{name}.root</td>" in page
    assert "<td>10</td>" in page  # promised 110, read 100: ten events lost
    assert "-0.15, +0.17" in page
    assert "Lower end: MINOS; upper end: profile fits of pyhf" in page
    assert "learning_rate: 0.05" in page
    assert "jax " in page


def test_figures_are_files_too_and_reproducible(results, run, tmp_path):
    names = {p.name for p in (results / "figures").iterdir()}
    figures = ("objective", "parameters", "pulls", "ranking")
    figures += tuple(f"{kind}_{channel}" for kind in ("templates", "variations") for channel in run.channels)
    assert names == {f"{name}.{kind}" for name in figures for kind in ("csv", "pdf", "svg")}
    first = {p.name: p.read_bytes() for p in (results / "figures").iterdir()}
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
    figures = ("objective", "templates_4j1b", "templates_4j2b")
    assert drawn == {f"{name}.{kind}" for name in figures for kind in ("csv", "pdf", "svg")}


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
