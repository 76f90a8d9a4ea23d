"""Optimising with the systematics that matter most: what is held, what is chosen, and that all are there at the end."""

import numpy as np
import pytest

from pipeline import config as configuration
from pipeline import optimise
from pipeline.cluster import InProcess
from pipeline.containers import Templates
from pipeline.data import datasets
from pipeline.data.fingerprint import fingerprint_of
from pipeline.evaluate.at_point import work_of_all_models
from pipeline.gradient.held import HeldTemplates, Watched
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import forward, value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.optimise import leading
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.templates.axes import Axes
from pipeline.templates.fill import EXACT

AXES = Axes(("ttbar", "ttbar__scale", "wjets"), ("nominal", "jes", "jer"))
SHAPES = ("PS variation", "Jet energy scale", "Jet energy resolution")


def templates_of(rng):
    yields = rng.uniform(1.0, 2.0, (3, 3, 4))
    yields[1, 1:] = 0.0  # a sample that is a variation has none of its own
    return Templates({"region": yields}, {"region": rng.uniform(1.0, 2.0, (3, 4))})


def test_held_templates_keep_their_ratio_to_the_nominal():
    rng = np.random.default_rng(1)
    before, now = templates_of(rng), templates_of(rng)
    before.yields["region"][2, 0, 0] = 0.0  # a bin without nominal events keeps the difference
    found = HeldTemplates(Watched(("jer",), ()), AXES, before.yields).completed(now).yields["region"]
    was, given = before.yields["region"], now.yields["region"]
    for row in ((0, 0), (0, 2), (2, 0), (2, 2)):
        np.testing.assert_array_equal(found[row], given[row])
    np.testing.assert_allclose(found[0, 1] / found[0, 0], was[0, 1] / was[0, 0])
    np.testing.assert_allclose(found[1, 0] / found[0, 0], was[1, 0] / was[0, 0])
    np.testing.assert_allclose(found[2, 1, 1:] / found[2, 0, 1:], was[2, 1, 1:] / was[2, 0, 1:])
    np.testing.assert_allclose(found[2, 1, 0] - found[2, 0, 0], was[2, 1, 0])


def test_the_derivative_through_held_templates_is_the_transpose():
    rng = np.random.default_rng(2)
    held = HeldTemplates(Watched(("jes",), ()), AXES, templates_of(rng).yields)
    now, moved, slopes = (templates_of(rng) for _ in range(3))
    observed = np.ones((3, 3, 4), dtype=bool)
    observed[:, 2] = observed[1] = False
    change = np.where(observed, moved.yields["region"], 0.0)
    there = Templates({"region": now.yields["region"] + change}, now.sumw2)
    difference = held.completed(there).yields["region"] - held.completed(now).yields["region"]
    through = held.pulled_back(slopes).yields["region"]
    np.testing.assert_allclose(np.sum(slopes.yields["region"] * difference), np.sum(through * change))


@pytest.fixture(scope="module")
def few(simulated, request):
    """The miniature with three systematics that have templates, one of them a sample of its own, and one without."""
    overrides = ["objective.kind=inferno", "optimise.epochs=5", "optimise.leading_every=3"]  # compiles fast
    settings = [*overrides, "simulate=null", f"data.manifest={simulated}", "cluster.executor=in_process"]
    found = configuration.load(request.config.rootpath / "config" / "miniature.yaml", settings)
    kept = tuple(s for s in found.model.systematics if s.name in SHAPES or s.type == "Normalization")
    return found.model_copy(update={"model": found.model.model_copy(update={"systematics": kept})})


def with_leading(config, number):
    return config.model_copy(update={"optimise": config.optimise.model_copy(update={"leading": number})})


def run(config, columns, folder, until=5, state=None):
    work = prepare_work(config, columns, datasets.TRAIN)
    state = state or optimise.initial_state(config, initial_parameters(config))
    return optimise.run(
        config, InProcess(), work, state, until=until, checkpoints=folder,
        fingerprint=fingerprint_of(config, columns), progress=lambda record: None,
    )  # fmt: skip


def bits(state):
    return {name: np.asarray(p).tobytes() for name, p in state.parameters.items()}


@pytest.fixture(scope="module")
def one_leads(few, miniature_columns, tmp_path_factory):
    """The end of a run that observes one systematic, its records, and what it was configured with."""
    config = with_leading(few, 1)
    return *run(config, miniature_columns, tmp_path_factory.mktemp("one")), config


@pytest.mark.simulate
def test_as_many_as_there_are_is_all_of_them_bit_for_bit(few, miniature_columns, one_leads, tmp_path):
    state, records = run(few, miniature_columns, tmp_path / "all")
    as_many, noted = run(with_leading(few, 3), miniature_columns, tmp_path / "three")
    assert bits(as_many) == bits(state)
    assert [r.objective for r in noted] == [r.objective for r in records]
    assert not any(record.leading for record in noted)
    found = one_leads[1]
    assert found[0].objective == records[0].objective  # at its first epoch all are observed
    assert found[0].gradient == records[0].gradient
    assert bits(one_leads[0]) != bits(state)
    np.testing.assert_allclose([r.objective for r in found], [r.objective for r in records], rtol=0.1)


@pytest.mark.simulate
def test_what_is_chosen_is_in_the_records(one_leads):
    chosen = {record.epoch: record.leading for record in one_leads[1] if record.leading}
    assert list(chosen) == [0, 3]
    for found in chosen.values():
        assert found.of == 3
        assert len(found.names) == 1
        assert set(found.names) < set(SHAPES)
        assert 1 / 3 < found.share <= 1


@pytest.mark.simulate
@pytest.mark.parametrize("kept", [1, 4])
def test_a_run_that_goes_on_gives_the_same_bits(one_leads, miniature_columns, tmp_path, kept):
    final, records, config = one_leads
    run(config, miniature_columns, tmp_path, until=kept)
    state, again = run(config, miniature_columns, tmp_path)
    assert bits(state) == bits(final)
    assert [(r.objective, r.leading) for r in again] == [(r.objective, r.leading) for r in records]


@pytest.mark.simulate
def test_a_block_hands_on_what_was_chosen(one_leads, miniature_columns, tmp_path):
    final, _, config = one_leads
    state, records = run(config, miniature_columns, tmp_path / "a", until=2)
    mark, start = fingerprint_of(config, miniature_columns), initial_parameters(config)
    optimise.save(tmp_path / "block_1.npz", state, mark, records, 1)
    twos = config.model_copy(update={"optimise": config.optimise.model_copy(update={"epochs_per_job": 2})})
    loaded, _ = optimise.load(tmp_path / "block_1.npz", twos, start, mark, 1)
    assert bits(run(config, miniature_columns, tmp_path / "b", state=loaded)[0]) == bits(final)


@pytest.mark.simulate
def test_the_gradient_is_that_of_the_objective_with_held_templates(few, miniature_columns):
    config = with_leading(few, 1)
    work, start, widths = (
        prepare_work(config, miniature_columns, datasets.TRAIN),
        initial_parameters(config),
        widths_at(config, 0),
    )
    evaluate, executor = centre(config, work.axes), InProcess()
    before = forward(executor, work, start, widths).yields
    held = leading.held(config, work.axes, leading.Chosen(np.array([False, True, False]), before))
    assert held.watched == Watched(("pt_scale_up",), tuple(config.data.samples))
    # away from where they are held
    point = {**start, "jet_pt": start["jet_pt"] + 3.0}
    gradient = value_and_grad(executor, work, point, widths, evaluate, held).gradient

    def objective(name, step):
        there = {**point, name: point[name] + step}
        return value_and_grad(executor, work, there, widths, evaluate, held).objective

    for name, step in (("jet_pt", 1e-3), ("btag", 1e-5)):
        slope = (objective(name, step) - objective(name, -step)) / (2 * step)
        np.testing.assert_allclose(gradient[name], slope, rtol=1e-5)


def test_a_share_takes_the_fewest_that_make_it_and_of_equal_ones_the_first():
    worth = np.array([1.0, 5.0, 1.0, 3.0])
    assert leading._first(worth, 1).tolist() == [False, True, False, False]
    assert leading._first(worth, 3).tolist() == [True, True, False, True]
    assert leading._first(worth, 0.5).tolist() == [False, True, False, False]
    assert leading._first(worth, 0.81).tolist() == [True, True, False, True]
    assert leading._first(np.zeros(2), 0.9).tolist() == [True, False]


def test_a_choice_stays_where_another_is_hardly_worth_more():
    first, second = np.array([True, False, False]), np.array([False, True, False])
    assert leading._kept(first, second, np.array([0.95, 1.0, 0.1])) is first
    assert leading._kept(first, second, np.array([0.85, 1.0, 0.1])) is second
    assert leading._kept(first | second, second, np.array([0.95, 1.0, 0.1])) is second  # twice as many
    assert leading._kept(np.zeros(0, dtype=bool), second, np.ones(3)) is second


@pytest.mark.simulate
def test_the_evaluation_has_all(few, miniature_columns):
    """Its events, variations and likelihood are those of a run that observes all."""
    config = with_leading(few, 1)
    for fold in (datasets.TRAIN, datasets.HELD_OUT):
        assert work_of_all_models(config, miniature_columns, fold) == work_of_all_models(
            few, miniature_columns, fold
        )
    work = work_of_all_models(config, miniature_columns, datasets.HELD_OUT)
    exact = forward(InProcess(), work, initial_parameters(config), EXACT)
    spec = workspace(exact, work.axes, config)
    names = {m["name"] for c in spec["channels"] for s in c["samples"] for m in s["modifiers"]}
    assert set(SHAPES) < names
