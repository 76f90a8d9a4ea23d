"""Whether a result is an optimum: certificate and polish, where the optimum and its error are known."""

import numpy as np
import pytest
from messages import heard
from squares import events_of, optimum, write_squares

from pipeline import cluster
from pipeline import config as configuration
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.errors import ConfigError
from pipeline.evaluate.robustness.certificate import Compared, ExactLooks, certificate, values_around
from pipeline.evaluate.robustness.polish import polished
from pipeline.evaluate.robustness.together import Judged, robustness_of
from pipeline.gradient.loss import judge
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters

SCAN = ("evaluate.certificate=16", "evaluate.certificate_replicas=20", "evaluate.polish=5")


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """A run and its column files."""
    return write_squares(tmp_path_factory.mktemp("squares"), *SCAN)


def looks_of(squares, **changes):
    """Looks at the training events."""
    run, files = squares
    run = run.model_copy(update={"evaluate": run.evaluate.model_copy(update=changes)})
    work = prepare_work(run, files, datasets.TRAIN)
    return ExactLooks(run, InProcess(), work, judge(run, work.axes))


def held_out(squares):
    return prepare_work(*squares, datasets.HELD_OUT)


def off(squares, **errors):
    """The optimum, and parameters so many of its errors away."""
    best = optimum(squares[1])
    away = {name: value + errors.get(name, 0.0) * error for name, (value, error) in best.items()}
    return best, {name: np.float64(value) for name, value in away.items()}


def test_at_the_optimum_nothing_is_better(squares):
    best, start = off(squares)
    found = certificate(looks_of(squares), start, held_out(squares))
    assert found.better == ()
    assert [curve.parameter for curve in found.curves] == ["p", "q"]
    assert found.evaluations == 2 * 16
    for curve in found.curves:
        distances = [point.value - best[curve.parameter][0] for point in curve.scanned]
        assert min(distances) < 0 < max(distances)
        differences = [point.difference for point in curve.scanned]
        np.testing.assert_allclose(differences, np.square(distances), rtol=1e-9, atol=1e-12)


def test_a_little_beside_the_optimum_nothing_is_better_beyond_the_error(squares):
    _, start = off(squares, q=1.0)
    found = certificate(looks_of(squares), start, held_out(squares))
    assert found.better == ()
    assert any(point.difference < 0 for curve in found.curves for point in curve.scanned)


def test_away_from_the_optimum_it_says_which_parameter_and_where(squares):
    best, start = off(squares, q=8.0)
    found = certificate(looks_of(squares), start, held_out(squares))
    (better,) = found.better
    assert better.parameter == "q"
    value, error = best["q"]
    assert abs(better.scanned.value - value) < 0.3 * abs(start["q"] - value)
    assert better.scanned.value == min(found.curves[1].scanned, key=lambda point: point.difference).value
    y, x = (events_of(squares[1], "held_out")[0][name] for name in ("y", "x"))
    expected = np.mean((x - start["p"]) ** 2 + (y - better.scanned.value) ** 2)
    np.testing.assert_allclose(better.held_out, expected, rtol=1e-12)
    np.testing.assert_allclose(
        found.held_out, np.mean((x - start["p"]) ** 2 + (y - start["q"]) ** 2), rtol=1e-12
    )
    assert error < 0.1  # there is room for points


def test_errors_are_those_of_theory(squares):
    """d[(m - q')^2 - (m - q)^2] = 2 (q - q') dm, where dm is the error of the mean m of y."""
    best, start = off(squares)
    replicas = 200
    found = certificate(looks_of(squares, certificate=4, certificate_replicas=replicas), start, None)
    assert (found.held_out, found.better) == (None, ())
    for curve in found.curves:
        for point in curve.scanned:
            expected = 2 * abs(point.value - curve.centre) * best[curve.parameter][1]
            assert point.replicas == replicas
            assert abs(point.error / expected - 1) < 4 / np.sqrt(2 * replicas)


def test_few_replicas_or_ones_without_any_difference_prove_nothing():
    found = Compared(value=1.0, objective=1.0, difference=-1.0, error=0.1, replicas=8)
    assert found.is_better
    assert not found.changed(error=0.0).is_better
    assert not found.changed(replicas=4).is_better


def test_values_are_inside_the_bounds_and_on_the_free_side_of_one(squares):
    run = squares[0]
    assert all(-4 < value < 4 for value in values_around(run, "p", 0.0))
    assert values_around(run, "p", 4 - 1e-9)[-1] < 4 - 1e-9  # as good as at the bound
    at_bound = values_around(run, "p", 4.0)
    assert len(at_bound) == len(set(at_bound)) == 16
    assert max(at_bound) < 4
    assert min(at_bound) == 2  # a quarter of the range away
    steps = np.diff(values_around(run, "p", 0.0)[8:])
    assert np.all(np.diff(steps) > 0)


def test_a_width_of_its_name_says_how_far(squares):
    run = configuration.load(
        squares[1][0][1].parents[1] / "squares.yaml", ["widths.p={initial: 0.05, final: 0.01}"]
    )
    run = run.model_copy(update={"evaluate": squares[0].evaluate})
    values = values_around(run, "p", 0.0)
    assert (min(values), max(values)) == (-0.5, 0.5)


def test_polish_moves_to_what_is_better(squares):
    best, start = off(squares, p=9.0, q=-8.0)
    looks = looks_of(squares)
    found = polished(looks, start)
    assert {move.parameter for move in found.moves} == {"p", "q"}
    assert all(move.after.difference < 0 and move.after.is_better for move in found.moves)
    assert max(move.round for move in found.moves) < 5  # it ended by itself
    for name, (value, error) in best.items():
        assert abs(found.parameters[name] - value) < 3 * error
    gained = sum(move.after.difference for move in found.moves)
    np.testing.assert_allclose(looks(found.parameters).minimised - looks(start).minimised, gained, rtol=1e-9)
    again = certificate(looks, found.parameters, None)
    assert again.better == ()  # it ends where a certificate finds nothing


def test_polish_stays_at_the_optimum_and_keeps_to_its_rounds(squares):
    _, start = off(squares)
    assert polished(looks_of(squares), start) == (start, ())
    _, start = off(squares, p=40.0, q=40.0)
    once = polished(looks_of(squares, polish=1), start)
    assert [(move.round, move.parameter) for move in once.moves] == [(1, "p"), (1, "q")]


@pytest.mark.dask
def test_the_bits_do_not_depend_on_workers(squares, tmp_path):
    run, files = squares
    settings = run.model_copy(
        update={
            "evaluate": run.evaluate.model_copy(
                update={"certificate": 6, "certificate_replicas": 6, "refits": 2}
            ),
            "cluster": run.cluster.model_copy(update={"executor": "local"}),
        }
    )
    _, start = off(squares, p=30.0)
    works = {fold: prepare_work(settings, files, fold) for fold in datasets.folds(settings)}
    assert len(works["train"].groups) > 2
    judged = Judged(works, judge(settings, works["train"].axes))

    def robust(executor):
        looks = ExactLooks(settings, executor, works["train"], judged.judge)
        moves = polished(looks, start).moves
        return robustness_of(looks, files, judged, start, moves)

    alone = robust(InProcess())
    assert alone.moves
    assert alone.refits.done
    for workers in (1, 2):
        with cluster.executor(settings.cluster, workers, tmp_path) as executor:
            assert robust(executor) == alone


def test_with_arrays_alone_there_is_nothing_to_scan(tmp_path):
    run, files = write_squares(tmp_path, *SCAN, f"analysis.target={tmp_path}/squares.py:Arrays")
    looks, start = looks_of((run, files)), initial_parameters(run)
    assert [*start] == ["places"]
    found = certificate(looks, start, None)
    assert (found.curves, found.better, found.evaluations) == ((), (), 0)
    assert polished(looks, start) == (start, ())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluate.polish=1"], "set evaluate.certificate"),
        (
            ["evaluate.certificate=8", "data.held_out_fraction=0", "data.folds=2"],
            "evaluate.certificate: it is about one",
        ),
        (
            ["evaluate.refits=2", "data.held_out_fraction=0", "data.folds=2"],
            "evaluate.refits: it is about one",
        ),
        (["evaluate.refits=1", "surrogate={}"], "evaluate.refits: not for a stage without a derivative"),
    ],
)
def test_settings_that_cannot_be_are_refused(squares, overrides, message):
    with pytest.raises(ConfigError, match=message), heard():
        configuration.load(squares[1][0][1].parents[1] / "squares.yaml", overrides)
