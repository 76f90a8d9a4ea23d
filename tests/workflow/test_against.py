"""Gradients against black-box searches in miniature: every search sees what the run itself sees at a point."""

import importlib
import importlib.util

import numpy as np
import pytest
from columnfiles import write_columns

from pipeline import config
from pipeline.cluster import InProcess
from pipeline.evaluate.robustness.certificate import ExactLooks

BUDGET = 9  # evaluations


@pytest.fixture(scope="module")
def against(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(request.config.rootpath / "tests/benchmarks")
        yield importlib.import_module("against_black_box")


@pytest.fixture(scope="module")
def problem(shared_data, request, against, tmp_path_factory):
    """Two cuts on real simulation."""
    few = ["analysis.options={cuts: 2}", "cluster.executor=in_process", "optimise.epochs=6"]
    settings = config.load(request.config.rootpath / "tests/benchmarks/against/ww.yaml", few)
    return against.Problem(settings, write_columns(settings, tmp_path_factory.mktemp("against")))


@pytest.fixture(scope="module")
def by_the_run(problem):
    """The exact objective that the run looks at to keep its best epoch."""
    looks = ExactLooks(problem.settings, InProcess(), problem.train.work, problem.judged)
    return lambda parameters: looks(parameters).objective


def watched(problem, monkeypatch):
    """All points that a search asks for, with what it is told."""
    seen, own = [], type(problem.train).__call__

    def call(judge, parameters, replica=None):
        found = own(judge, parameters, replica)
        if judge is problem.train:
            seen.append((parameters, found))
        return found

    monkeypatch.setattr(type(problem.train), "__call__", call)
    return seen


def test_every_search_is_told_what_the_run_says_of_a_point(against, problem, by_the_run, monkeypatch):
    start = by_the_run(problem.unit.start)
    seen = watched(problem, monkeypatch)
    compared = set()
    for name in against.SEARCHES:
        peer = against.PEERS.get(name)
        if peer and not importlib.util.find_spec(peer):
            continue
        compared.add(name)
        seen.clear()
        numbers, point = against.by_search(problem, name, BUDGET, seed=3)
        told = seen[-BUDGET:]  # what came before says what an evaluation costs
        assert numbers["passes"] == BUDGET
        best = min(told, key=lambda point: point[1][1])
        assert numbers["train"] == best[1][0]
        np.testing.assert_allclose(by_the_run(point), numbers["train"], rtol=1e-12)
        if name != "grid":
            assert any(np.isclose(found[0], start, rtol=1e-12) for _, found in told) == (name[:3] != "cma")
            assert against.by_search(problem, name, BUDGET, seed=3)[0]["train"] == numbers["train"]
    assert {"grid", "random", "differential_evolution"} <= compared


def test_gradients_are_judged_by_the_same(against, problem, by_the_run):
    numbers, best = against.by_gradients(problem)
    exact = by_the_run(best)
    np.testing.assert_allclose(numbers["train"], exact, rtol=1e-12)
    sign = 1 if problem.train(best)[1] > 0 else -1
    assert sign * exact <= sign * by_the_run(problem.unit.start)
    assert numbers["updates"] == problem.settings.optimise.epochs
    assert 1 < numbers["epoch_passes"] < 50
    assert numbers["train.1000"] == numbers["train"]  # it ended before


def test_the_box_holds_the_start_and_nothing_outside_of_the_bounds(problem):
    unit = problem.unit
    point = unit.point(unit.start)
    for name, value in unit.parameters(point).items():
        np.testing.assert_allclose(value, unit.start[name], rtol=1e-12, atol=1e-12)
    for name, value in unit.parameters(point + 2).items():
        np.testing.assert_array_equal(value, unit.bounds[name][1])
