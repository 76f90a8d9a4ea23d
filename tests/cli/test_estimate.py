"""An estimate of a run: what it counts is what the run finds, and what it costs grows as its chunks do."""

import contextlib
import json
import re

import numpy as np
import pytest
import rootfiles
from columnfiles import write_columns

from pipeline import config
from pipeline.cli import main
from pipeline.cli.estimate import stage, words
from pipeline.cli.estimate.numbers import Estimate
from pipeline.cli.estimate.pool import Together, shares
from pipeline.cli.estimate.prediction import Machine, Measured, predicted
from pipeline.cli.estimate.programs import ChunkSeconds, OfModel, Timed, ToySeconds
from pipeline.cli.estimate.shapes import chunks_in, seen, small_work
from pipeline.cli.estimate.traffic import Weighing
from pipeline.cluster import InProcess
from pipeline.data import store
from pipeline.data.datasets import ALL, HELD_OUT, TRAIN
from pipeline.data.written import parsed
from pipeline.gradient.resident import Resident
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at

FILES, EVENTS = 3, 3000
CLUSTER = {"executor": "in_process", "chunk_events": 64, "group_events": 500, "objects": {"jet": [1]}}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The configuration of six files, whose events are cut into chunks of two shapes."""
    folder = tmp_path_factory.mktemp("estimate")
    made = rootfiles.write_run(folder, files=FILES, events=EVENTS, cluster=CLUSTER)
    analysis = folder / "tiny.py"
    cut = '    collections = {"jet": ()}\n\n    def __init__'
    analysis.write_text(analysis.read_text().replace("    def __init__", cut))
    return made


@pytest.fixture
def folder(path, tmp_path):
    """A working directory without results."""
    with contextlib.chdir(tmp_path):
        yield tmp_path


@pytest.fixture
def run(path, folder):
    return config.load(path)


def estimate(run, *workers, seconds=1.0):
    return stage.estimate(run, workers or (1,), seconds=seconds)


def command(capsys, *arguments):
    """Exit code and standard output of the verb."""
    with pytest.raises(SystemExit) as end:
        main(["estimate", *map(str, arguments)])
    return end.value.code, capsys.readouterr()


def made(seconds, shapes):
    """A measurement in which a chunk of any shape takes so many seconds in each sweep."""
    timed = Timed(2.0, seconds)
    sweep = type("Sweep", (), {"sent": 1000, "shared": 5000, "received": 1000})
    model = OfModel(Timed(1.0, 0.5), "", 0.25, 10, 3.0, (sweep, sweep))
    pool = Together(2, 4.0, 0.0, 1.5, 1e8, 1e8)
    chunks = dict.fromkeys(shapes.shares, ChunkSeconds(timed, timed, timed))
    return Measured(shapes, chunks, model, pool, 1.0, 0.0, 60.0, 1e8, 1e8)


def planned(run, folder):
    """What a run does, and the chunks of a few files."""
    (folder / "scratch").mkdir()
    plan = stage.plan_of(run, folder / "scratch", 1.0)
    return plan.works, seen(Resident(), small_work(run, plan.samples, plan.works[TRAIN], TRAIN))


def test_the_events_are_those_of_the_run(run, folder):
    """With column files they are counted, without them they are concluded from files read in part."""
    concluded = estimate(run).events
    files = write_columns(run, store.Folder(run.run).root / "columns")
    counted = estimate(run).events
    for fold in (TRAIN, HELD_OUT):
        there = prepare_work(run, files, fold).events
        assert counted.preselected[fold] == there
        assert concluded.preselected[fold] == pytest.approx(there, rel=0.1)
    assert (concluded.files, concluded.jobs, concluded.jobs_left) == (6, 2, 2)
    assert (counted.jobs, counted.jobs_left) == (2, 0)
    assert concluded.entries == counted.entries == 2 * FILES * EVENTS


def test_groups_and_chunks_are_those_of_the_run(run, folder):
    files = write_columns(run, store.Folder(run.run).root / "columns")
    works, shapes = planned(run, folder)
    for fold in (TRAIN, ALL):
        work = prepare_work(run, files, fold)
        assert [g.events for g in works[fold].groups] == [g.events for g in work.groups]
        assert works[fold].problem == work.problem
        resident = Resident()
        there = sum(len(share.places) for share in resident.shares(work.groups, work.problem))
        assert len(shapes.shares) == 2
        assert sum(chunks_in(works[fold].groups, shapes).values()) == pytest.approx(there, rel=0.05)


def test_seconds_and_memory_grow_with_the_events(run, folder):
    """Twice the chunks take twice as long, each of them twice as many seconds too; what is no sweep stays."""
    works, shapes = planned(run, folder)
    machine = Machine(None, {1: np.inf, 2: np.inf, 4: 1000.0})
    twice = {fold: work._replace(groups=2 * work.groups) for fold, work in works.items()}
    one, more = (predicted(run, w, made(0.1, shapes), machine, 1) for w in (works, twice))
    slower = predicted(run, works, made(0.2, shapes), machine, 1)
    for found in (more, slower):
        assert found.epoch.forward == pytest.approx(2 * one.epoch.forward)
        assert found.epoch.pullback == pytest.approx(2 * one.epoch.pullback)
        assert found.epoch.centre == one.epoch.centre == 0.5
    assert more.memory_mb.optimise_events == pytest.approx(2 * one.memory_mb.optimise_events)
    assert one.epoch.between == 0.25
    assert one.compiling == 1.0 + 2 * 3 * 2.0  # two shapes, two sweeps and that of a check
    jobs = run.optimise.jobs * (1.0 + 4.0)
    epochs, settings = run.optimise.epochs * one.epoch.whole, run.optimise
    checks = len({*range(0, settings.epochs, settings.check_every), settings.epochs})
    looks = checks * (one.epoch.forward + one.epoch.centre)  # every sweep takes as long here
    assert one.seconds.optimise == pytest.approx(jobs + one.compiling + epochs + looks)
    expected = 60.0 + one.seconds.optimise + one.seconds.evaluate
    assert one.core_hours == pytest.approx(expected / 3600)


def test_toys_are_counted(run, folder):
    """The interval and the objective's test, three blocks each, which two workers share; compiling once."""
    works, shapes = planned(run, folder)
    machine, made_of = Machine(None, {1: np.inf, 2: np.inf}), made(0.1, shapes)
    measured = made_of._replace(model=made_of.model._replace(toys=ToySeconds(7.0, 0.5, 1000)), pool=None)
    changed = run.model_copy(update={"evaluate": run.evaluate.model_copy(update={"toys": 3000})})
    for workers, rounds in ((1, 3), (2, 2)):
        without, found = (
            predicted(changed, works, own, machine, workers).seconds.evaluate
            for own in (measured._replace(model=made_of.model), measured)
        )
        assert found - without == pytest.approx(7.0 + 2 * rounds * 0.5)


def test_certificate_polish_and_refits_are_counted(run, folder):
    """A parameter, 8 points and 3 replicas: 36 looks; a round of polish, 8 and 4; refits, the epochs twice."""
    works, shapes = planned(run, folder)
    seconds, machine = made(0.1, shapes), Machine(None, {1: np.inf})

    def judged(**asked):
        changed = run.model_copy(update={"evaluate": run.evaluate.model_copy(update=asked)})
        return predicted(changed, works, seconds, machine, 1).seconds.evaluate

    look = (judged(certificate=1, certificate_replicas=2) - judged()) / 6
    assert look > 0
    asked = {"certificate": 8, "certificate_replicas": 3}
    assert judged(**asked) - judged() == pytest.approx(36 * look)
    further = judged(**asked, polish=1) - judged(**asked)
    assert further > 12 * look  # the third point is evaluated, too
    assert judged(**asked, polish=2) - judged(**asked, polish=1) == pytest.approx(8 * look)
    epochs = run.optimise.epochs * predicted(run, works, seconds, machine, 1).epoch.whole
    assert judged(refits=2) - judged() == pytest.approx(2 * epochs)


def test_workers_share_the_work(run, folder):
    works, shapes = planned(run, folder)
    alone, both = (predicted(run, works, made(0.1, shapes), Machine(None, {n: np.inf}), n) for n in (1, 2))
    assert both.epoch.forward == pytest.approx(alone.epoch.forward / 2 * 1.5, rel=0.15)
    assert both.traffic_kb.from_worker == 5 * alone.traffic_kb.from_worker
    narrow = predicted(run, works, made(0.1, shapes), Machine(1, {2: np.inf}), 2)
    assert narrow.epoch.forward == pytest.approx(alone.epoch.forward)
    each = shares(works[TRAIN].groups, 2, shapes, dict.fromkeys(shapes.shares, 1.0))
    assert sum(each) == pytest.approx(sum(chunks_in(works[TRAIN].groups, shapes).values()))


def test_what_has_no_room_goes_to_disk(run, folder):
    works, shapes = planned(run, folder)
    found = predicted(run, works, made(0.1, shapes), Machine(None, {1: 1000.0}), 1).memory_mb
    free = predicted(run, works, made(0.1, shapes), Machine(None, {1: np.inf}), 1).memory_mb
    assert found.optimise_events == found.evaluate_events == 1e-3
    assert found.scratch == pytest.approx(free.evaluate_events - 1e-3)


def test_weighing_changes_no_number(run, folder):
    files = write_columns(run, folder)
    work, point = prepare_work(run, files, TRAIN), initial_parameters(run)
    weighing = Weighing(Resident())
    found = forward(weighing, work, point, widths_at(run, 0))
    expected = forward(InProcess(), work, point, widths_at(run, 0))
    np.testing.assert_array_equal(found.yields["all"], expected.yields["all"])
    assert weighing.sent > 0
    assert weighing.shared > weighing.received >= found.yields["all"].nbytes


def test_the_verb_prints_a_table_and_writes_the_same_numbers(path, folder, capsys):
    code, said = command(capsys, path, "--seconds", 1, "--json", "out/estimate.json")
    assert code == 0
    found = parsed(Estimate, json.loads((folder / "out/estimate.json").read_text()), "estimate", "")
    (only,) = found.by_workers
    assert only.workers == 1
    assert found.epochs == 2
    assert 0 < only.epoch.forward < only.epoch.whole < only.seconds.optimise < only.seconds.run
    assert f"preselected: {found.events.preselected['train']} train" in said.out
    assert re.search(r"^workers +1$", said.out, re.MULTILINE)
    assert re.search(r"^an epoch, s +[\d.e-]+$", said.out, re.MULTILINE)
    for title in ("measured:", "extrapolated:", "not known:"):
        assert title in said.out
    assert not (folder / "results").exists()


@pytest.mark.dask
def test_real_workers_are_looked_at(path, folder, capsys):
    arguments = ["--workers", 1, 2, 64, "--set", "cluster.executor=local", "--json", "estimate.json"]
    code, said = command(capsys, path, "--seconds", 1, *arguments)
    assert code == 0
    found = parsed(Estimate, json.loads((folder / "estimate.json").read_text()), "estimate", "")
    assert [own.workers for own in found.by_workers] == [1, 2, 64]
    assert all(own.memory_mb.optimise > 50 for own in found.by_workers)
    assert "workers of this machine: " in said.out
    assert "there are 6 groups of events" in said.out


def test_a_centre_without_a_value_is_said_and_not_counted(run, folder):
    works, shapes = planned(run, folder)
    whole = made(0.1, shapes)
    lacking = whole._replace(model=whole.model._replace(centre=None, reason="no event passes"))
    machine = Machine(None, {1: np.inf})
    with_it, without = (predicted(run, works, m, machine, 1).epoch for m in (whole, lacking))
    assert with_it.whole - without.whole == pytest.approx(0.5)
    assert any("no event passes" in line for line in words.unknown(run, works, lacking, [1]))
    assert not any("no event passes" in line for line in words.unknown(run, works, whole, [1]))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (
            ["--workers", "2"],
            1,
            "cluster.executor is in_process, which is one process; 2 workers need another",
        ),
        (["--workers", "0"], 2, "'0' is not a whole number of 1 or more"),
        (["--workers", "1", "many"], 2, "'many' is not a whole number of 1 or more"),
        (["--seconds", "0"], 2, "'0' is not a whole number of 1 or more"),
    ],
)
def test_wrong_options(path, folder, capsys, arguments, code, says):
    found, said = command(capsys, path, *arguments)
    assert found == code
    assert says in said.err


def test_files_that_are_not_here_are_named(tmp_path, capsys):
    path = rootfiles.write_run(tmp_path)
    (tmp_path / "background.root").unlink()
    with contextlib.chdir(tmp_path):
        code, said = command(capsys, path, "--seconds", 1)
    assert code == 1
    assert re.search(r"error: sample 'background'.*background\.root.*correct the manifest", said.err)
    assert said.out == ""
