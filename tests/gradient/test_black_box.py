"""Stages without a derivative: the generator that stands in for one, its gradient, and what it is worth."""

import shutil

import jax
import numpy as np
import pytest
import scipy.integrate
import scipy.special
from chunked import assert_chunks_are_the_whole
from columnfiles import write_columns
from generated import generated

from pipeline import optimise
from pipeline.analyses import rosenbrock, three_hump
from pipeline.analysis import Simulated
from pipeline.cluster import InProcess
from pipeline.config import Surrogate as Settings
from pipeline.containers import Columns, Parameters
from pipeline.data import datasets
from pipeline.errors import ConfigError, FitError, InputError
from pipeline.gradient import black_box
from pipeline.gradient.chunks import parted
from pipeline.gradient.loss import centre
from pipeline.gradient.resident import Resident, in_order
from pipeline.gradient.sweeps import forward, value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.optimise.surrogate_calls import Calls, around, region
from pipeline.templates.fill import EXACT, Widths
from pipeline.templates.surrogate import Call, Scale, energy_score, fit

STAGE = Simulated(parameters=("a",), inputs=("x",), outputs=("y", "z"), noise=3)


def made(request, tmp_path, name, *overrides, events=4000):
    """A shipped configuration on few events, in double precision: the run, its column files."""
    path = request.config.rootpath / "config" / f"{name}.yaml"
    run = generated(path, {"draws": events}, tmp_path, ["cluster.precision=float64", *overrides])
    return run, write_columns(run, tmp_path)


def generator(run, files, epoch=0):
    """The generator at the start, and the work it is for."""
    work = prepare_work(run, files, datasets.TRAIN)
    surrogate, _ = Calls(run).learnt(InProcess(), work, epoch, initial_parameters(run))
    return work, surrogate


def expected_hump(a, b):
    """The mean loss of the three-hump problem, by quadrature over x1, x2 and the sum of the two smearings."""
    h = three_hump.hump(a, b)
    smearing, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()

    def mean(x):
        y = np.asarray(x)[..., None] * h + np.sqrt(2) * smearing
        return (scipy.special.expit(y - 10) - scipy.special.expit(y)) @ weights

    parts = [scipy.integrate.quad(mean, low, high)[0] / (high - low) for low, high in ((-2, 2), (0, 5))]
    share = abs(a) / (abs(a) + abs(b))
    return share * parts[0] + (1 - share) * parts[1]


def slope(function, point, h=1e-4):
    return np.array(
        [(function(*(point + h * e)) - function(*(point - h * e))) / (2 * h) for e in np.eye(len(point))]
    )


def test_the_energy_score_is_smallest_at_the_true_law():
    rng = np.random.default_rng(1)
    true = rng.standard_normal((100_000, 2))
    score = {
        (shift, width): float(energy_score(shift + width * rng.standard_normal((2, 100_000, 2)), true))
        for shift, width in ((0, 1), (0.2, 1), (0, 0.8), (0, 1.25), (0, 0))
    }
    assert min(score, key=score.get) == (0, 1)
    assert score[0, 0] > 1.2 * score[0, 1]  # the mean alone is no law


def test_a_generator_knows_mean_width_and_correlation_where_it_was_taught():
    rng = np.random.default_rng(2)

    def call(a):
        x, common, own = rng.standard_normal((3, 2000))
        return Call(
            np.array([a]), x[:, None], np.stack([a * x + 0.5 * common, 3 + common + 0.1 * own], axis=1)
        )

    box = Scale(np.array([1.0]), np.array([0.5]))
    calls = [call(a) for a in (1.0, 0.6, 0.8, 1.2, 1.4)]
    learnt = fit(STAGE, Settings(steps=800, hidden=(32, 32)), calls, box, (3,))
    found = jax.tree.map(lambda array: np.asarray(array, dtype=np.float64), learnt)
    x, events = 0.7, 20_000
    columns = Columns({"x": np.full(events, x), "noise": rng.standard_normal((events, 3))})
    for a in (0.8, 1.3):
        drawn = found.completed(Parameters({"a": np.float64(a)}), columns)
        y, z = np.asarray(drawn.y), np.asarray(drawn.z)
        assert y.mean() == pytest.approx(a * x, abs=0.08)
        assert z.mean() == pytest.approx(3, abs=0.08)
        assert (y.std(), z.std()) == pytest.approx((0.5, 1.005), rel=0.15)
        assert np.corrcoef(y, z)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("name", "true"),
    [
        ("three_hump", lambda: slope(expected_hump, np.array([2.0, -0.3]))),
        ("rosenbrock", lambda: slope(lambda *p: rosenbrock.rosenbrock(np.array(p)), np.full(10, 2.0))),
    ],
)
def test_its_gradient_at_the_start_points_where_the_true_one_does(request, tmp_path, name, true):
    start = "parameters={b: -0.3}" if name == "three_hump" else "parameters={}"  # |b| has a kink at 0
    run, files = made(request, tmp_path, name, start, events=20_000)
    work, surrogate = generator(run, files)
    smooth = Widths({}, {}, surrogate)
    parameters = initial_parameters(run)
    found = value_and_grad(InProcess(), work, parameters, smooth, centre(run, work.axes)).gradient
    gradient, known = np.array([found[n] for n in surrogate.stage.parameters]), true()
    assert gradient @ known > 0.9 * np.linalg.norm(gradient) * np.linalg.norm(known)


@pytest.mark.parametrize("name", ["three_hump", "rosenbrock"])
def test_the_gradient_over_chunks_is_that_of_the_whole(request, tmp_path, name):
    run, files = made(request, tmp_path, name, "surrogate.steps=20", events=1000)
    _, surrogate = generator(run, files)
    assert_chunks_are_the_whole(run, files, surrogate=surrogate)


def test_exact_mode_is_the_stage_itself(request, tmp_path):
    """Event by event, with the random numbers of its group and chunk."""
    run, files = made(request, tmp_path, "three_hump", "cluster.chunk_events=256", events=1000)
    work = prepare_work(run, files, datasets.TRAIN)
    parameters = initial_parameters(run)
    resident = Resident()

    def completed():
        return in_order(black_box.events(resident, work.groups, work.problem, parameters, stand_in=False))

    assert len(work.groups) == 1
    chunks = completed()
    assert len(chunks) > 1
    total = sum(
        float(
            np.sum(c.weight * parted(c).factor * (scipy.special.expit(c.y - 10) - scipy.special.expit(c.y)))
        )
        for c in chunks
    )
    found = forward(InProcess(), work, parameters, EXACT)
    np.testing.assert_allclose(found.yields["losses"].sum(), total, rtol=1e-12)
    assert all(np.array_equal(a.y, b.y) for a, b in zip(chunks, completed(), strict=True))
    many = forward(InProcess(), work, parameters, widths_at(run, 0))  # no generator: the stage, softly cut
    np.testing.assert_allclose(many.yields["losses"].sum(), total, rtol=1e-12)
    with pytest.raises(TypeError, match="surrogate"):
        value_and_grad(InProcess(), work, parameters, widths_at(run, 0), centre(run, work.axes))


def run_until(run, files, folder, until):
    work = prepare_work(run, files, datasets.TRAIN)
    return optimise.run(
        run, InProcess(), work, optimise.initial_state(run, initial_parameters(run)),
        until=until, checkpoints=folder / "checkpoints", fingerprint="of this run", progress=lambda _: None,
    )  # fmt: skip


def test_a_run_that_is_continued_learns_from_the_same_calls(request, tmp_path):
    run, files = made(request, tmp_path, "three_hump", "surrogate.steps=20", events=1000)
    whole, _ = run_until(run, files, tmp_path / "whole", 4)
    run_until(run, files, tmp_path / "parts", 2)
    parts, records = run_until(run, files, tmp_path / "parts", 4)
    assert [r.epoch for r in records] == [0, 1, 2, 3]
    assert whole.parameters == parts.parameters
    (tmp_path / "parts/calls/epoch_000003.npz").write_bytes(b"damaged")  # so epoch 3 is computed again
    again, _ = run_until(run, files, tmp_path / "parts", 4)
    assert again.parameters == whole.parameters
    shutil.copy(tmp_path / "parts/calls/epoch_000001.npz", tmp_path / "parts/calls/epoch_000000.npz")
    calls = Calls(run, tmp_path / "parts/calls", "of this run")
    with pytest.raises(InputError, match="epoch_000000"):
        calls.learnt(InProcess(), prepare_work(run, files, datasets.TRAIN), 2, whole.parameters)


def test_calls_count_and_stay_in_the_allowed_part_of_the_box(request, tmp_path):
    run, files = made(
        request, tmp_path, "three_hump", "parameters={a: 2.9, b: -3}", "surrogate.draws=301", events=1000
    )
    work = prepare_work(run, files, datasets.TRAIN)
    box, bounds = region(run, 0, initial_parameters(run))
    points = around(box, bounds, 4, (1, 0))
    assert len({tuple(p) for p in points}) == 5
    assert np.all(points >= bounds[0])
    assert np.all(points <= bounds[1])
    groups = {"cluster": run.cluster.model_copy(update={"group_events": 100, "chunk_events": 64})}
    parted = prepare_work(run.model_copy(update=groups), files, datasets.TRAIN)
    for some in (work, parted):
        shares = InProcess().sweep(black_box.draw, some, points, 301, (1, 0))
        assert [sum(len(share[call].inputs) for share in shares) for call in range(5)] == [301] * 5


def test_outputs_of_the_stage_are_inside_the_memory_budget(request, tmp_path):
    run, files = made(request, tmp_path, "three_hump", "cluster.chunk_events=256", events=1000)
    work = prepare_work(run, files, datasets.TRAIN)
    start = initial_parameters(run)
    free, resident, ends = Resident(), Resident(1000.0, tmp_path), {}
    for step in (0.0, 0.1, 0.2):
        parameters = {name: value + step for name, value in start.items()}
        expected, found = (forward(InProcess(r), work, parameters, EXACT) for r in (free, resident))
        np.testing.assert_array_equal(expected.yields["losses"], found.yields["losses"])
        assert resident.used <= 1000
        assert resident._scratch._end == ends.setdefault(
            "first", resident._scratch._end
        )  # room is used again


def test_the_three_hump_problem_is_solved(request, tmp_path):
    """A shorter run than the shipped one; -0.51 at the start, -0.858 at best."""
    overrides = ["optimise.epochs=20", "surrogate.steps=200"]
    run, files = made(request, tmp_path, "three_hump", *overrides, events=10_000)
    state, records = run_until(run, files, tmp_path, 20)
    assert sum(r.surrogate.calls for r in records) == 100
    assert expected_hump(*(float(state.parameters[n]) for n in "ab")) < -0.75


class Wrong(three_hump.ThreeHump):
    """Makes what `outcome` says."""

    def __init__(self, outcome):
        self.outcome = outcome

    def simulate(self, p, c, rng):
        made = {"y": np.zeros(len(c["x1"]))}
        return {"nothing": {}, "short": {"y": made["y"][1:]}, "nan": {"y": made["y"] * np.nan}}[self.outcome]


@pytest.mark.parametrize(
    ("outcome", "error", "message"),
    [
        ("nothing", ConfigError, "output 'y' is not there"),
        ("short", ConfigError, "output 'y' has shape"),
        ("nan", FitError, "output 'y' is not finite"),
    ],
)
def test_a_stage_that_does_not_make_what_it_declares_is_refused(request, tmp_path, outcome, error, message):
    overrides = [f"analysis.target={__file__}:Wrong", f"analysis.options={{outcome: {outcome}}}"]
    run, files = made(request, tmp_path, "three_hump", *overrides, events=200)
    work = prepare_work(run, files, datasets.TRAIN)
    with pytest.raises(error, match=message):
        forward(InProcess(), work, initial_parameters(run), EXACT)


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("three_hump", "surrogate=null", "add a section `surrogate`"),
        ("planes", "surrogate={}", "remove the section"),
    ],
)
def test_a_stage_needs_the_section_and_the_section_a_stage(request, tmp_path, name, override, message):
    events = {"three_hump": {"draws": 100}, "planes": {"tracks": 100}}[name]
    run = generated(request.config.rootpath / "config" / f"{name}.yaml", events, tmp_path, [override])
    with pytest.raises(ConfigError, match=message):
        prepare_work(run, write_columns(run, tmp_path), datasets.TRAIN)
