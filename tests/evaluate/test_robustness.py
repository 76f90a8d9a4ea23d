"""The whole stage with certificate, polish and refits: what is written, said and drawn."""

import json

import contracts
import numpy as np
import pytest
from messages import heard
from squares import optimum, write_squares

from pipeline import report
from pipeline.cluster import InProcess
from pipeline.data.written import parsed
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.flags import flags
from pipeline.evaluate.stage import all_points
from pipeline.evaluate.summary import Seconds, summary
from pipeline.optimise.parameters import initial_parameters

ASKED = ("evaluate.certificate=16", "evaluate.polish=3", "evaluate.refits=3", "evaluate.bootstrap=2")


def evaluated(folder, *overrides, away=0.0):
    """A run and its evaluation at so many errors of q from the optimum, with the lines that it said."""
    run, files = write_squares(folder, *overrides)
    start = initial_parameters(run)
    found = (
        {name: np.float64(value) for name, (value, _) in optimum(files).items()} if "p" in start else start
    )
    if away:
        found["q"] += away * optimum(files)["q"][1]
    with heard() as lines:
        evaluation = all_points(run, InProcess(), files, {"initial": start, "optimised": found}).evaluation
    return run, evaluation, lines


def records_of(evaluation):
    """Epochs of no interest."""
    start = evaluation.points["initial"].parameters
    usual = {"parameters": start, "gradient": dict.fromkeys(start, 1.0)}
    return [contracts.record(epoch, **usual) for epoch in range(3)]


def page_of(run, evaluation, folder):
    records = records_of(evaluation)
    provenances = [contracts.provenance("draws")]
    report.write(run, records, evaluation, provenances, page=folder / "p.html", figures=folder / "figures")
    return (folder / "p.html").read_text(), {path.name for path in (folder / "figures").iterdir()}


@pytest.fixture(scope="module")
def away(tmp_path_factory):
    return evaluated(tmp_path_factory.mktemp("away"), *ASKED, away=8.0)


def test_the_polished_point_is_evaluated_as_the_others_are(away):
    _, evaluation, _ = away
    assert [*evaluation.points] == ["initial", "optimised", "polished"]
    keys = {(point, fold) for point in evaluation.points for fold in ("train", "held_out")}
    assert {(row.point, row.fold) for row in evaluation.rows} == keys
    assert evaluation.at("polished", "train").exact < evaluation.at("optimised", "train").exact
    before, after = (evaluation.points[point].parameters for point in ("optimised", "polished"))
    assert before["p"] == after["p"]
    assert before["q"] != after["q"] == evaluation.robustness.moves[-1].after.value
    assert set(evaluation.bootstrap.values) == {"initial", "optimised"}  # a failing one there must not count


def test_it_says_what_is_better_and_where(away):
    run, evaluation, lines = away
    (better,) = evaluation.robustness.certificate.better
    assert evaluation.robustness.certificate.objective == evaluation.at("optimised", "train").exact
    assert evaluation.robustness.certificate.held_out == evaluation.at("optimised", "held_out").exact
    (flag,) = [
        flag for flag in flags(run, evaluation, records_of(evaluation)) if flag.kind == "better_nearby"
    ]
    assert flag.parameter == "q"
    assert flag.text.startswith(
        f"A better value of q lies near the result: {better.scanned.value:.5g} in place of "
    )
    assert "held-out events" in flag.text
    assert "certificate: 32 points along 2 parameters, better beyond the error along 1" in lines
    assert any(line.startswith("polished: ") for line in lines)
    assert sum(line.startswith("refit ") for line in lines) == 3


def test_the_summary_has_it_and_the_evaluation_is_read_again(away):
    run, evaluation, _ = away
    again = parsed(Evaluation, json.loads(json.dumps(evaluation.as_json())), "evaluation", "cure")
    assert again == evaluation
    found = summary(run, evaluation, Seconds(optimise=1.0, evaluate=1.0), records_of(evaluation))
    assert [point.parameter for point in found.certificate.better] == ["q"]
    assert found.parameters["q"].polished == evaluation.points["polished"].parameters["q"]
    assert (found.refits.done, found.refits.failed, found.refits.fold) == (3, 0, "held_out")
    assert found.refits.parameters.keys() == {"p", "q"}
    assert found.values["polished"]["held_out"].exact.value == evaluation.at("polished", "held_out").exact


def test_the_report_shows_it(away, tmp_path):
    run, evaluation, _ = away
    page, drawn = page_of(run, evaluation, tmp_path)
    assert "Along q a better point lies beyond the error" in page
    assert "<h2>The polished point</h2>" in page
    assert "Would it come out again?" in page
    assert "<th>polished</th>" in page
    assert {"certificate.svg", "refits.svg"} < drawn


def test_at_the_optimum_it_says_so(tmp_path):
    run, evaluation, _ = evaluated(tmp_path, *ASKED)
    page, _ = page_of(run, evaluation, tmp_path)
    assert "Along no scalar parameter a better point lies beyond the error" in page
    assert "the polished point is the same" in page
    assert not [
        flag for flag in flags(run, evaluation, records_of(evaluation)) if flag.kind == "better_nearby"
    ]
    assert evaluation.at("polished", "train") == evaluation.at("optimised", "train").changed(point="polished")


def test_with_arrays_alone_it_says_that_there_is_nothing_to_scan(tmp_path):
    run, evaluation, lines = evaluated(tmp_path, *ASKED, f"analysis.target={tmp_path}/squares.py:Arrays")
    page, drawn = page_of(run, evaluation, tmp_path)
    assert "There is no scalar parameter to scan" in page
    assert "certificate: 0 points along 0 parameters, better beyond the error along 0" in lines
    assert not {"certificate.svg", "refits.svg"} & drawn
    assert evaluation.robustness.refits.objective.deviation > 0


def test_without_being_asked_there_is_none_of_it(tmp_path):
    run, evaluation, lines = evaluated(tmp_path)
    robustness = evaluation.robustness
    assert (robustness.certificate, robustness.moves, robustness.refits) == (None, None, None)
    assert [*evaluation.points] == ["initial", "optimised"]
    page, _ = page_of(run, evaluation, tmp_path)
    assert "optimum?" not in page
    assert len(lines) == 6  # compiling, no pyhf, two points on two folds
