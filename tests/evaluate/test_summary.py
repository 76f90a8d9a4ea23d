"""The result for other programs: what is in it, and that the page which explains it is complete."""

import json
import re

import contracts
import jsonschema
import pytest

from pipeline import config as configuration
from pipeline.data.progress import is_whole, kept, reached
from pipeline.data.record import Check, EpochRecord, SweepSeconds
from pipeline.data.written import parsed
from pipeline.errors import InputError
from pipeline.evaluate.change import change
from pipeline.evaluate.evaluation import (
    Bootstrap,
    Evaluation,
    FoldResult,
    Missing,
    Numbers,
    Place,
    YieldTables,
)
from pipeline.evaluate.flags import flags, flags_of_all
from pipeline.evaluate.summary import Seconds, Summary, schema, summary
from pipeline.gradient.loss import Described
from pipeline.optimise.convergence import unconverged
from pipeline.optimise.plateaus import Plateau

SECONDS = Seconds(optimise=3.0, evaluate=2.0)


@pytest.fixture
def run(request):
    return configuration.load(request.config.rootpath / "config" / "miniature.yaml")


@pytest.fixture
def evaluated():
    """Three numbers at each of two points, on both folds."""
    numbers = {"initial": (0.2, 0.21, 0.22), "optimised": (0.1, 0.11, 0.11)}
    rows = [
        contracts.row(
            point, fold, events=events, **dict(zip(("relaxed", "exact", "pyhf"), found, strict=True))
        )
        for fold, events in (("train", 70), ("held_out", 30))
        for point, found in numbers.items()
    ]
    points = {
        point: Place(parameters={"jet_pt": value}, edges={"4j1b": (0.0, 1.0)}, pseudodata=None)
        for point, value in (("initial", 30.0), ("optimised", 35.0))
    }
    resampled = Bootstrap(values={"initial": (0.2, 0.2, 0.2), "optimised": (0.1, 0.12, 0.14)}, failed=1)
    return contracts.evaluation(rows, points, resampled)


def record(epoch, **more):
    """An epoch of no interest but for some values."""
    nothing = dict.fromkeys(("forward", "centre", "pullback"), 0.0)
    return EpochRecord(
        epoch=epoch, objective=1.0, gradient_norm=1.0, parameters={"jet_pt": 30.0 + epoch}, gradient={"jet_pt": 1.0},
        sweeps=SweepSeconds(**nothing), events=70, seconds=1.0, events_per_second=70.0,
    ).changed(**more)  # fmt: skip


def check(value):
    return Check(objective=value, minimised=value)


RECORDS = (record(0, check=check(3.0)), record(1, last_check=check(2.0)))


@pytest.mark.parametrize(
    ("numbers", "steps", "is_told"),
    [
        ([2.0, 1.9, 1.8, 1.7, 1.6, 1.5], -0.1, True),
        ([2.0, 1.9, 1.8, 1.7, 1.6, 1.5], 0.0, False),  # the widths alone made it better
        ([2.0] * 6, -0.1, False),  # steps to and fro
        ([1.5, 1.6, 1.7, 1.8, 1.9, 2.0], -0.1, False),
        ([2.0, 1.9, 1.5, 1.5, 1.5, 1.5, 1.5], -0.1, False),  # it was over some epochs ago
    ],
)
@pytest.mark.parametrize("sense", [1.0, -1.0])
def test_a_run_that_still_improves_at_its_end_is_told(numbers, steps, is_told, sense):
    objective = Described(kind="k", label="l", unit="", sense="minimise" if sense > 0 else "maximise")
    records = [record(n, objective=sense * value, to_first_order=steps) for n, value in enumerate(numbers)]
    found = unconverged(objective, records)
    assert (found is not None) is is_told
    if is_told:
        assert f"in its last 5 epochs the objective still went from {sense * 1.9:.5g} to" in found


def test_bins_of_few_simulated_events_are_told(run, evaluated):
    tables = YieldTables(
        yields={
            "4j1b": {"s": {"nominal": (1.0, 9.0)}, "b": {"nominal": (9.0, -6.0)}},
            "5j": {"s": {"nominal": (0.0, 3.0)}},
            "6j": {"s": {"nominal": (0.0, -0.5)}, "rare": {"nominal": (0.0, 0.0)}},
        },
        sumw2={
            "4j1b": {"s": (1.0, 1.0), "b": (7.9, 0.0)},
            "5j": {"s": (0.0, 0.5)},
            "6j": {"s": (1.0, 1.0), "rare": (0.0, 0.0)},
        },
    )
    found = contracts.with_rows(evaluated, lambda row: row.point == "optimised", templates=tables)
    absent, flag, other = flags(run, found, RECORDS)
    assert absent.text.startswith("Sample rare has no event in any channel on held-out events")
    assert flag.kind == other.kind == "noisy_bins"
    assert "Channel 6j: bins 0, 1 (counted from 0) rest on" in other.text
    assert "of up to 100 %" in other.text
    assert flag.text.startswith("Channel 4j1b: bin 1 (counted from 0) rests on few")
    assert "of up to 33 % on held-out events" in flag.text


def test_a_kept_epoch_before_the_last_is_no_sign_of_too_few_epochs():
    numbers = [2.0, 1.9, 1.8, 1.7, 1.6, 1.5]
    records = [
        record(n, objective=value, to_first_order=-0.1, check=check(3.0 if n else 1.0))
        for n, value in enumerate(numbers)
    ]
    assert unconverged(Described(kind="k", label="l", unit="", sense="minimise"), records) is None


def test_the_kept_epoch_is_the_first_of_the_best_that_were_checked():
    assert kept((record(0), record(1))) == kept(RECORDS) == (0, 2, 0)
    values = [3.0, 1.0, 2.0, 1.0]
    checked = [record(epoch, check=check(value)) for epoch, value in enumerate(values)]
    assert kept(checked).epoch == 1
    assert kept([*checked[:-1], record(3, last_check=check(0.5))]).epoch == 4


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, []),
        ({"optimised": (0.19, 0.1, 0.3)}, ["within_error"]),
        ({"pyhf": 0.3}, ["not_better", "pyhf_apart"]),
        ({"pyhf": 0.119}, []),
        ({"pyhf": 0.13}, ["pyhf_apart"]),
        ({"relaxed": 0.13}, ["relaxed_apart"]),
        ({"relaxed": None}, []),
        ({"jet_pt": 60.0}, ["at_bound"]),
        ({"gradient": (0.0, 0.0)}, ["no_derivative"]),
        ({"gradient": (1.0, 0.0)}, ["vanished_gradient"]),
        ({"gradient": (1.0, 1e-12)}, ["vanished_gradient"]),
        ({"gradient": (1e-12, 1.0)}, []),
        ({"gradient": (1.0, 1e-6)}, []),  # small, as it is at an optimum
        ({"path": (30.0, 30.00001)}, ["vanished_gradient"]),
        ({"path": (25.0, 25.0)}, []),  # kept there by its bound
        ({"plateau": True}, ["plateau"]),
        ({"kept": True}, ["start_kept"]),
        ({"checks": None}, ["no_exact_objective"]),
    ],
    ids=str,
)
def test_flags_say_what_to_know_before_the_number(run, evaluated, changes, kinds):
    found, records = evaluated, RECORDS
    if "optimised" in changes:
        found = found.changed(
            bootstrap=Bootstrap(
                values={"initial": (0.2, 0.2, 0.2), "optimised": changes["optimised"]}, failed=0
            )
        )
        found = contracts.with_rows(
            found, lambda row: row.point == "optimised", pyhf=0.21, exact=0.21, relaxed=0.2
        )
    if "pyhf" in changes:
        found = contracts.with_rows(found, lambda row: row.point == "optimised", pyhf=changes["pyhf"])
    if "relaxed" in changes:
        found = contracts.with_rows(found, lambda row: row.point == "optimised", relaxed=changes["relaxed"])
    if "jet_pt" in changes:
        place = found.points["optimised"].changed(parameters={"jet_pt": changes["jet_pt"]})
        found = found.changed(points={**found.points, "optimised": place})
    for key, field in (("gradient", "gradient"), ("path", "parameters")):
        if key in changes:
            records = [
                r.changed(**{field: {"jet_pt": v}}) for r, v in zip(records, changes[key], strict=True)
            ]
    if "plateau" in changes:
        found = found.changed(plateaus=(Plateau(parameter="jet_pt", value=35.0, width=0.5),))
    if "checks" in changes:
        records = [record(0), record(1)]
    if "kept" in changes:
        records = [record(0, check=check(1.0)), record(1, last_check=check(2.0))]
    said = flags(run, found, records)
    assert [flag.kind for flag in said] == kinds
    for flag in said:
        assert re.fullmatch(r"[A-Za-z].{40,}\.", flag.text), "a sentence"
        assert flag.parameter is None or flag.parameter in flag.text


def test_a_run_without_checks_lacks_no_exact_objective(run, evaluated):
    assert flags(_of(run, check_every=None), evaluated, (record(0), record(1))) == ()


def test_flags_are_of_the_start_that_is_kept(run, evaluated):
    """The derivative of the other one vanished."""
    first = [
        record(0, check=check(3.0)),
        record(1, gradient={"jet_pt": 0.0}, last_check=check(2.0)),
    ]
    second = [
        record(2, start=1, begun=2, check=check(1.5)),
        record(3, start=1, begun=2, last_check=check(1.0)),
    ]
    assert flags(run, evaluated, [*first, *second]) == ()
    worse = [second[0].changed(check=check(4.0)), second[1].changed(last_check=check(4.0))]
    assert [flag.kind for flag in flags(run, evaluated, [*first, *worse])] == ["vanished_gradient"]
    found = summary(_of(run, starts=2, epochs=2), evaluated, SECONDS, [*first, *second])
    assert (found.kept_start, found.kept_epoch) == (1, 2)
    assert [(start.initial, start.best, start.kept_epoch) for start in found.starts] == [
        *((3.0, 2.0, 2), (1.5, 1.0, 2)),
    ]


@pytest.mark.parametrize(
    ("settings", "ended"),
    [
        ({"epochs": 3}, "all_epochs"),
        ({"epochs": 9, "patience": 2}, "patience"),
        ({"epochs": 9, "patience": 3}, "no_objective"),
        ({"epochs": 9}, "no_objective"),
    ],
)
def test_how_a_start_ended(run, settings, ended):
    records = [record(epoch, check=check(value)) for epoch, value in enumerate((1.0, 1.0, 2.0))]
    assert [start.ended for start in reached(_of(run, **settings).optimise, records)] == [ended]
    assert is_whole(_of(run, **settings).optimise, records, 3) == (ended != "no_objective")
    assert not is_whole(_of(run, **settings).optimise, records, 4)
    assert not is_whole(_of(run, **settings).optimise, records[1:], 3)


def _of(run, **settings):
    return run.model_copy(update={"optimise": run.optimise.model_copy(update=settings)})


def test_the_numbers_are_those_of_the_evaluation(run, evaluated):
    found = summary(run, evaluated, SECONDS, RECORDS).as_json()
    jsonschema.validate(found, json.loads(schema()))
    assert found["run"] == "miniature"
    assert found["parameters"]["jet_pt"] == {
        "bounds": [25.0, 60.0], "unit": "GeV", "initial": 30.0, "optimised": 35.0, "polished": None,
    }  # fmt: skip
    assert found["values"]["optimised"]["held_out"]["pyhf"] == {"value": 0.11, "reason": None}
    assert found["values"]["initial"]["train"]["relaxed"]["value"] == 0.2
    assert found["events"] == {"train": 70, "held_out": 30}
    assert found["change"] == {
        "by": "pyhf", "fold": "held_out", "initial": 0.22, "optimised": 0.11, "value": pytest.approx(-0.5),
        "error": pytest.approx(0.1), "replicas": 3, "failed_replicas": 1, "is_better": True,
    }  # fmt: skip


def test_what_is_missing_says_why(run, evaluated, request):
    gone = Missing(kind="exact", model=None, reason="the fit did not converge")
    other = Missing(kind="exact", model="stat_only", reason="of another model")
    rows = contracts.with_rows(
        evaluated, lambda row: row.point == "initial", exact=None, pyhf=None, missing=(other, gone)
    )
    found = summary(run, rows, SECONDS, RECORDS)
    assert found.values["initial"]["train"].exact.reason == "the fit did not converge"
    assert (found.change.value, found.change.is_better) == (None, None)
    cross_entropy = configuration.load(
        request.config.rootpath / "config" / "miniature.yaml",
        ["channels.loss={in_fit: false}", "objective={kind: cross_entropy, channel: loss}"],
    )
    rows = contracts.with_rows(evaluated, lambda row: True, pyhf=None)
    found = summary(cross_entropy, rows, SECONDS, RECORDS)
    assert found.values["optimised"]["train"].pyhf.reason.startswith("cross_entropy: no number of a fit")
    assert found.change.by == "exact"


def test_without_a_bootstrap_there_is_no_error(evaluated):
    assert change(evaluated.changed(bootstrap=None)).error is None
    one = Bootstrap(values={"initial": (0.2,), "optimised": (0.1,)}, failed=0)
    assert change(evaluated.changed(bootstrap=one)).error is None


def test_a_start_of_nothing_has_no_change(evaluated):
    """A relative one, that is: such replicas are left out and counted."""
    made = Bootstrap(values={"initial": (0.2, 0.0, 0.2), "optimised": (0.1, 0.1, 0.1)}, failed=1)
    found = change(evaluated.changed(bootstrap=made))
    assert (found.replicas, found.failed_replicas, found.error) == (2, 2, 0.0)
    nothing = Bootstrap(values={"initial": (0.0,), "optimised": (0.1,)}, failed=0)
    assert change(evaluated.changed(bootstrap=nothing)).error is None


def test_keys_of_a_later_version_pass_the_schema(run, evaluated):
    found = summary(run, evaluated, SECONDS, RECORDS).as_json()
    found["values"]["optimised"]["train"]["later"] = found["later"] = 1
    jsonschema.validate(found, json.loads(schema()))


def test_every_key_is_explained(request):
    page = (request.config.rootpath / "docs" / "summary.md").read_text()
    explained = {part for key in re.findall(r"`([\w.<>]+)`", page) for part in key.split(".")}
    content = Summary.model_json_schema()
    sections = [content, *content["$defs"].values()]
    assert {key for section in sections for key in section["properties"]} <= explained


def test_an_evaluation_comes_back_as_it_was(evaluated):
    content = json.loads(json.dumps(evaluated.as_json()))
    assert parsed(Evaluation, content, "a.json", "run again") == evaluated
    with pytest.raises(InputError, match=r"a\.json: key 'luck' is not known; another version .*, run again"):
        parsed(Evaluation, {**content, "luck": 7}, "a.json", "run again")


def in_folds(evaluated, *cuts):
    """The same, cross-fitted, with a value of the cut for each fold."""
    rows = [row.changed(fold="cross_fitted") if row.fold == "held_out" else row for row in evaluated.rows]
    folds = [
        FoldResult(
            fold=f"fold_{number}", inside=15, outside=35,
            optimised=Place(parameters={"jet_pt": cut}, edges={"4j1b": (0.0, 1.0)}, pseudodata=None),
            training=dict.fromkeys(("initial", "optimised"), Numbers(exact=0.1 * number, relaxed=0.1, pyhf=None)),
        )
        for number, cut in enumerate(cuts, start=1)
    ]  # fmt: skip
    return evaluated.changed(rows=tuple(rows), folds=tuple(folds))


def test_flags_of_folds_are_said_once_or_with_the_fold(run, evaluated):
    found = flags_of_all(run, in_folds(evaluated, 60.0, 60.0), (RECORDS, RECORDS))
    assert [(flag.kind, flag.text.startswith("jet_pt ended at its upper bound")) for flag in found] == [
        ("at_bound", True)
    ]
    found = flags_of_all(run, in_folds(evaluated, 35.0, 60.0), (RECORDS, RECORDS))
    assert [flag.text.split(",")[0] for flag in found] == ["fold 2: jet_pt ended at its upper bound"]
    worse = contracts.with_rows(
        in_folds(evaluated, 35.0, 40.0), lambda row: row.point == "optimised", pyhf=0.3
    )
    flag, _ = flags_of_all(run, worse, (RECORDS, RECORDS))
    assert flag.text == (
        "The optimisation has not improved the result on cross-fitted events: 0.22 at the start, 0.3 at the end."
    )


def test_the_summary_of_folds_has_what_each_found(run, evaluated):
    checked = [record(0, check=check(1.0)), record(1, check=check(2.0))]
    found = summary(run, in_folds(evaluated, 35.0, 45.0), SECONDS, RECORDS, checked).as_json()
    jsonschema.validate(found, json.loads(schema()))
    assert found["kept_epoch"] is None
    assert [own["kept_epoch"] for own in found["folds"]] == [2, 0]
    assert [own["kept_start"] for own in found["folds"]] == [0, 0]
    assert [own["parameters"]["jet_pt"] for own in found["folds"]] == [35.0, 45.0]
    assert [own["training"] for own in found["folds"]] == [0.1, 0.2]
    assert [own["training_events"] for own in found["folds"]] == [35, 35]
    assert set(found["values"]["optimised"]) == {"train", "cross_fitted"}
    assert "held_out" not in json.dumps(found)
