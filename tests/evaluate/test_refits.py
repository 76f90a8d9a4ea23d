"""The uncertainty of the optimisation: refits are optimisations of bootstrap samples, and spread as theory says."""

import contextlib
import functools
import itertools
import json
import uuid

import numpy as np
import pytest
import rootfiles
import uproot
from columnfiles import write_columns
from squares import SIGMA, events_of, optimum, write_squares

from pipeline import config as configuration
from pipeline.cluster import InProcess
from pipeline.data import datasets, event_random
from pipeline.evaluate.robustness.refits import FIRST_REPLICA, Refit, SavedRefits, refits, refitted
from pipeline.gradient.loss import judge
from pipeline.gradient.work import prepare_work

REFITS = 100


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("squares"), f"evaluate.refits={REFITS}")


def all_refits(run, files, folder):
    """All refits of a run, judged on its last fold."""
    train = prepare_work(run, files, datasets.TRAIN)
    fold = datasets.folds(run)[-1]
    judged = judge(run, train.axes)
    saved = SavedRefits(folder, "this run")
    return refits(run, InProcess(), train, judged, (fold, prepare_work(run, files, fold), judged), saved)


def test_the_spread_is_that_of_theory(squares, tmp_path):
    run, files = squares
    found = all_refits(run, files, tmp_path)
    assert (len(found.done), found.failed, found.fold) == (REFITS, (), "held_out")
    assert found.parameters.keys() == SIGMA.keys()
    for name, (value, error) in optimum(files).items():
        spread = found.parameters[name]
        assert abs(spread.deviation / error - 1) < 4 / np.sqrt(2 * REFITS)
        assert abs(spread.mean - value) < 4 * error / np.sqrt(REFITS)


def test_each_is_the_optimum_of_its_replica_judged_on_events_held_out(squares, tmp_path):
    run, files = squares
    found = all_refits(
        run.model_copy(update={"evaluate": run.evaluate.model_copy(update={"refits": 3})}), files, tmp_path
    )
    train, keys = events_of(files, "train")
    unseen, _ = events_of(files, "held_out")
    for number, refit in enumerate(found.done):
        assert refit.number == number + 1
        copies = event_random.poisson(keys, FIRST_REPLICA + number)
        p, q = (np.sum(copies * train[branch]) / np.sum(copies) for branch in ("x", "y"))
        np.testing.assert_allclose((refit.parameters["p"], refit.parameters["q"]), (p, q), rtol=1e-9)
        value = np.mean((unseen["x"] - p) ** 2 + (unseen["y"] - q) ** 2)
        np.testing.assert_allclose(refit.objective, value, rtol=1e-9)
    values = [refit.objective for refit in found.done]
    np.testing.assert_allclose(
        (found.objective.mean, found.objective.deviation), (np.mean(values), np.std(values, ddof=1))
    )


def test_those_that_ended_already_are_not_made_again(squares, tmp_path):
    run, files = squares
    first, more = (
        run.model_copy(update={"evaluate": run.evaluate.model_copy(update={"refits": n})}) for n in (2, 4)
    )
    two = all_refits(first, files, tmp_path)
    one = Refit(number=1, parameters={"p": 7.0, "q": 8.0}, objective=9.0)
    SavedRefits(tmp_path, "this run").write(one)
    SavedRefits(tmp_path, "another run").write(one.changed(number=3))
    (tmp_path / "0004.json").write_text("{")
    found = all_refits(more, files, tmp_path)
    assert found.done[:2] == (one, two.done[1])
    assert one.parameters not in [refit.parameters for refit in found.done[2:]]
    assert all_refits(more, files, tmp_path) == found
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"000{n}.json" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(("check", "starts"), [("null", 1), ("2", 1), ("2", 2)])
def test_a_refit_is_an_ordinary_optimisation_of_the_events_repeated(tmp_path, monkeypatch, check, starts):
    """A cut, a likelihood with the simulation's statistics, adam; the best epoch that was looked at, or the last."""
    numbers = itertools.count(
        1
    )  # of files: the bootstrap knows events by them, so let it draw the same every time
    numbered = functools.partial(uproot.recreate, uuid_function=lambda: uuid.UUID(int=next(numbers)))
    monkeypatch.setattr(uproot, "recreate", numbered)
    overrides = ["data.held_out_fraction=0", "optimise.epochs=6", f"optimise.check_every={check}"]
    overrides.append(f"optimise.starts={starts}")
    with contextlib.chdir(tmp_path):
        run = configuration.load(rootfiles.write_run(tmp_path), overrides)
        files = write_columns(run, tmp_path / "columns")
        work = prepare_work(run, files, datasets.TRAIN)._replace(replica=FIRST_REPLICA)
        found = refitted(run, InProcess(), work, judge(run, work.axes))
        for sample, (seed, sample_files) in zip(
            ("signal", "background"), enumerate(files_of(files)), strict=True
        ):
            content = rootfiles.arrays(seed=seed)
            _, keys = events_of([sample_files], "train")
            copies = event_random.poisson(keys, FIRST_REPLICA).astype(int)
            assert copies.max() > 1
            repeated = {name: array[np.repeat(np.arange(200), copies)] for name, array in content.items()}
            rootfiles.write(tmp_path / f"{sample}.root", **repeated | {"number": np.arange(copies.sum())})
        overrides.append(f"data.manifest={write_manifest(tmp_path)}")
        again = configuration.load(tmp_path / "tiny.yaml", overrides)
        others = prepare_work(again, write_columns(again, tmp_path / "repeated"), datasets.TRAIN)
        assert others.events != work.events
        expected = refitted(again, InProcess(), others, judge(again, others.axes))
    assert abs(expected["cut"] - 0.5) > 0.02
    np.testing.assert_allclose(found["cut"], expected["cut"], rtol=1e-9)


def files_of(files):
    return [(sample, path) for name in ("signal", "background") for sample, path in files if sample == name]


def write_manifest(folder):
    """A manifest without promises of the files as they are now."""
    files = {s: {"nominal": {"files": [{"path": f"{s}.root"}]}} for s in ("signal", "background")}
    path = folder / "repeated.json"
    path.write_text(json.dumps(files))
    return path


def test_a_replica_without_events_is_named(tmp_path):
    run, files = write_squares(tmp_path, "evaluate.refits=30", "data.held_out_fraction=0", events=3, files=1)
    found = all_refits(run, files, tmp_path / "refits")
    assert all_refits(run, files, tmp_path / "refits") == found
    _, keys = events_of(files, "train")
    empty = [n + 1 for n in range(30) if not event_random.poisson(keys, FIRST_REPLICA + n).any()]
    assert empty
    assert [failed.number for failed in found.failed] == empty
    assert all("epoch 0" in failed.reason for failed in found.failed)
    assert len(found.done) == 30 - len(empty)
    assert found.fold == "train"
