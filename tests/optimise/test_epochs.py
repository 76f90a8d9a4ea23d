"""Epochs: updates inside the bounds, checkpoints, and restarts that give the same bits."""

import itertools
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import config as configuration
from pipeline import optimise
from pipeline.analysis import analysis_of
from pipeline.cluster import InProcess
from pipeline.data import datasets, progress
from pipeline.data.fingerprint import fingerprint_of
from pipeline.errors import InputError
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import forward, pullback, value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.optimise.checkpoints import load, save
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.optimise.update import update_of
from pipeline.templates.fill import EXACT

pytestmark = pytest.mark.simulate

COUNTING = [
    "objective.kind=asimov_significance",
    "optimise.epochs=6",
]


@pytest.fixture(scope="module")
def quick(simulated, request):
    """The miniature with a counting objective, which compiles fast."""
    folder = request.config.rootpath / "config"
    overrides = [*COUNTING, "simulate=null", f"data.manifest={simulated}", "cluster.executor=in_process"]
    return configuration.load(folder / "miniature.yaml", overrides)


def run(config, columns, folder, until, state=None):
    work = prepare_work(config, columns, datasets.TRAIN)
    state = state or optimise.initial_state(config, initial_parameters(config))
    seen = []
    result = optimise.run(
        config, InProcess(), work, state, until=until, checkpoints=folder,
        fingerprint=fingerprint_of(config, columns), progress=seen.append,
    )  # fmt: skip
    return *result, seen


def bits(state):
    return {name: np.asarray(p).tobytes() for name, p in state.parameters.items()}


@pytest.fixture(scope="module")
def undisturbed(quick, miniature_columns, tmp_path_factory):
    """State, records and checkpoint folder of a run without interruption."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return *run(quick, miniature_columns, folder, 6), folder


def test_the_objective_improves(undisturbed):
    _, records, seen, _ = undisturbed
    assert records == seen
    assert [r.epoch for r in records] == list(range(6))
    assert records[-1].objective != records[0].objective
    assert all(r.gradient_norm > 0 and r.events_per_second > 0 for r in records)


@pytest.mark.parametrize("kept", [1, 3, 5])
def test_restart_from_any_checkpoint_gives_the_same_bits(
    quick, miniature_columns, undisturbed, tmp_path, kept
):
    final, records, _, _ = undisturbed
    run(quick, miniature_columns, tmp_path, kept)
    state, again, computed = run(quick, miniature_columns, tmp_path, 6)
    assert [r.epoch for r in computed] == list(range(kept, 6))
    assert bits(state) == bits(final)
    assert [r.objective for r in again] == [r.objective for r in records]


def test_two_blocks_equal_one(quick, miniature_columns, undisturbed, tmp_path):
    final = undisturbed[0]
    state, records, _ = run(quick, miniature_columns, tmp_path / "a", 3)
    mark = fingerprint_of(quick, miniature_columns)
    optimise.save(tmp_path / "block_1.npz", state, mark, records, 1)
    halves = quick.model_copy(update={"optimise": quick.optimise.model_copy(update={"epochs_per_job": 3})})
    start = initial_parameters(quick)
    loaded, stored = optimise.load(tmp_path / "block_1.npz", halves, start, mark, 1)
    assert stored == records
    assert bits(run(quick, miniature_columns, tmp_path / "b", 6, loaded)[0]) == bits(final)


def test_a_damaged_checkpoint_is_computed_again(quick, miniature_columns, undisturbed, tmp_path):
    final, _, _, folder = undisturbed
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    damaged = tmp_path / "epoch_000006.npz"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    state, _, computed = run(quick, miniature_columns, tmp_path, 6)
    assert [r.epoch for r in computed] == [5]
    assert bits(state) == bits(final)


def test_checkpoints_of_another_configuration_are_not_used(quick, miniature_columns, undisturbed, tmp_path):
    final, _, _, folder = undisturbed
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    faster = quick.model_copy(update={"optimise": quick.optimise.model_copy(update={"learning_rate": 0.08})})
    state, _, computed = run(faster, miniature_columns, tmp_path, 6)
    assert len(computed) == 6
    assert bits(state) != bits(final)


def test_a_block_of_another_configuration_is_refused(quick, miniature_columns, undisturbed, tmp_path):
    state = undisturbed[0]
    optimise.save(tmp_path / "block_1.npz", state, "another", [], 1)
    with pytest.raises(InputError, match="belongs to another configuration"):
        optimise.load(
            tmp_path / "block_1.npz",
            quick,
            initial_parameters(quick),
            fingerprint_of(quick, miniature_columns),
            1,
        )


@given(st.floats(-1e6, 1e6), st.integers(0, 5))
def test_updates_stay_inside_the_bounds(quick, size, epoch):
    free = analysis_of(quick).parameters
    state = optimise.initial_state(quick, initial_parameters(quick))._replace(epoch=epoch)
    moved = update_of(quick, free)(state, {name: np.float64(size) for name in free})
    assert moved.epoch == epoch + 1
    for name, parameter in moved.parameters.items():
        low, high = free[name].bounds
        assert low <= parameter <= high
        assert np.sign(state.parameters[name] - parameter) in (0, np.sign(size))


def test_widths_shrink_to_the_final_ones(quick):
    path = [widths_at(quick, epoch) for epoch in range(quick.optimise.epochs + 1)]
    for name, anneal in quick.widths.items():
        values = [float(w.operations[name]) for w in path]
        assert values[0] == anneal.initial
        np.testing.assert_allclose(values[-1], anneal.final, rtol=1e-12)
        assert all(a >= b for a, b in itertools.pairwise(values))


@pytest.fixture(scope="module")
def checked(quick):
    """The same with a look at exact cuts at every other epoch, and steps so large that the last is not the best."""
    update = {"check_every": 2, "learning_rate": 0.4, "epochs": 7}
    return quick.model_copy(update={"optimise": quick.optimise.model_copy(update=update)})


def test_the_best_checked_epoch_is_kept_also_over_blocks_and_restarts(checked, miniature_columns, tmp_path):
    work = prepare_work(checked, miniature_columns, datasets.TRAIN)
    state, records, _ = run(checked, miniature_columns, tmp_path / "whole", 7)
    found = {moment.epoch: check for moment, check in progress.checks(records).items()}
    assert sorted(found) == [0, 2, 4, 6, 7]
    kept = progress.kept(records).epoch
    assert state.best.epoch == kept
    assert found[kept].minimised == min(check.minimised for check in found.values())
    exact = centre(checked, work.axes)(forward(InProcess(), work, state.result, EXACT), state.result)[0]
    assert exact == found[kept].objective
    assert found[kept].objective >= found[0].objective  # a significance
    first, _, _ = run(checked, miniature_columns, tmp_path / "parts", 3)
    save(tmp_path / "block.npz", first, {"kind": "block"})
    again, _ = load(tmp_path / "block.npz", optimise.initial_state(checked, initial_parameters(checked)), {})
    second, _, _ = run(checked, miniature_columns, tmp_path / "others", 7, again)
    assert second.best.epoch == kept
    assert bits(second) == bits(state)
    for name, value in second.result.items():
        assert np.asarray(value).tobytes() == np.asarray(state.result[name]).tobytes()


def test_exact_values_are_differentiated_at_exact_templates(quick, miniature_columns):
    work = prepare_work(quick, miniature_columns, datasets.TRAIN)
    parameters, widths = initial_parameters(quick), widths_at(quick, 0)
    evaluate = centre(quick, work.axes)
    step = value_and_grad(InProcess(), work, parameters, widths, evaluate, exact=True)
    templates = forward(InProcess(), work, parameters, EXACT)
    value, slopes, _ = evaluate(templates, parameters)
    assert step.objective == value
    expected = pullback(InProcess(), work, parameters, widths, slopes)
    relaxed = value_and_grad(InProcess(), work, parameters, widths, evaluate)
    for name, gradient in expected.items():
        assert np.array_equal(step.gradient[name], gradient)
    assert relaxed.objective != step.objective


def test_a_run_of_exact_values_says_so_and_needs_no_more_sweeps(checked, miniature_columns, tmp_path):
    update = {"values": "exact", "epochs": 2}
    settings = checked.model_copy(update={"optimise": checked.optimise.model_copy(update=update)})
    _, records, _ = run(settings, miniature_columns, tmp_path, 2)
    assert {record.values for record in records} == {"exact"}
    assert records[0].objective == records[0].check.objective
