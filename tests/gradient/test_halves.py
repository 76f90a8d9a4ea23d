"""The objective without the expected noise of varied templates: its gradient, its expectation, and its errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from noisy import noisy

from pipeline import cluster
from pipeline.analysis import EVENT_NUMBER
from pipeline.cluster import InProcess
from pipeline.containers import Columns, Templates
from pipeline.data import datasets, event_random
from pipeline.errors import ConfigError, FitError
from pipeline.gradient.chunks import cut, parted
from pipeline.gradient.halves import halved, of_optimisation, whole, without_noise
from pipeline.gradient.loss import Evaluated, Judge, centre_of, judge
from pipeline.gradient.sweeps import forward, value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.objective import Inputs, value_of
from pipeline.optimise.epochs import each_epoch
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.optimise.update import initial_state
from pipeline.templates.axes import Axes
from pipeline.templates.fill import EXACT, Recipe, fill

EVENTS = {"signal": 700, "background": 1500, "background__own": 1500}
CHUNKS = ["cluster.chunk_events=128", "cluster.group_events=400"]
AXES = Axes(("signal", "background", "background__own"), ("nominal", "tilt_up"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Configuration, column files."""
    return noisy(tmp_path_factory.mktemp("noisy"), EVENTS, *CHUNKS)


@pytest.fixture(scope="module")
def judged(run):
    """The plain objective, compiled once."""
    return judge(run[0], AXES)


def worked(run, judged, **settings):
    """Work in halves and the corrected objective, with other settings of the cluster."""
    config = run[0].model_copy(update={"cluster": run[0].cluster.model_copy(update=settings)})
    work = prepare_work(config, run[1], datasets.TRAIN)
    assert work.axes == AXES
    return of_optimisation(config, work, judged)


def stepped(run, executor, work, judged):
    return value_and_grad(executor, work, initial_parameters(run[0]), widths_at(run[0], 3), centre_of(judged))


def bits(step):
    return {name: np.asarray(slope).tobytes() for name, slope in step.gradient.items()}


# ---- the halves ------------------------------------------------------------------------------------------


def test_a_chunk_holds_events_of_one_half_and_every_event_is_there_once(run, judged):
    work, _ = worked(run, judged)
    plain = prepare_work(run[0], run[1], datasets.TRAIN)
    for group in work.groups:
        keys, seen = [], {0: 0, 1: 0}
        for chunk in cut(group, work.problem.layout):
            (half,) = set(event_random.half(chunk[EVENT_NUMBER]).tolist())
            real = chunk["weight"] != 0
            keys += chunk[EVENT_NUMBER][real].tolist()
            seen[half] += int(real.sum())
        expected = [
            key
            for chunk in cut(group, plain.problem.layout)
            for key in chunk[EVENT_NUMBER][chunk["weight"] != 0].tolist()
        ]
        assert sorted(keys) == sorted(expected)
        assert abs(seen[0] - seen[1]) < 5 * len(keys) ** 0.5


def test_the_half_of_an_event_says_nothing_of_its_copies_and_its_fold():
    numbers = np.arange(40_000)
    keys = event_random.keys(numbers, "file")
    half = event_random.half(keys)
    assert abs(half.mean() - 0.5) < 0.01
    for other in (
        event_random.poisson(keys, 0),
        event_random.uniform(numbers),
        event_random.half(keys + np.uint64(1)),
    ):
        assert abs(np.corrcoef(half, other)[0, 1]) < 0.02


def test_halves_add_up_to_the_templates_of_all_events(run, judged):
    work, _ = worked(run, judged)
    start = initial_parameters(run[0])
    for mode in (widths_at(run[0], 3), EXACT):
        expected = forward(InProcess(), prepare_work(run[0], run[1], datasets.TRAIN), start, mode)
        found = forward(InProcess(), work, start, mode)
        assert len(found.yields["all"]) == 6
        assert whole(expected, AXES) is expected
        added = whole(found, AXES)
        np.testing.assert_allclose(added.yields["all"], expected.yields["all"], rtol=1e-11)
        np.testing.assert_allclose(added.sumw2["all"], expected.sumw2["all"], rtol=1e-11)


def test_a_run_without_it_is_left_as_it_is(run, judged):
    config = run[0].model_copy(
        update={"objective": run[0].objective.model_copy(update={"template_noise": False})}
    )
    work = prepare_work(config, run[1], datasets.TRAIN)
    found = of_optimisation(config, work, judged)
    assert found[0] is work
    assert found[1] is judged
    assert not work.problem.layout.halves


def test_chunks_of_few_events_are_halved_with_them(run):
    work = prepare_work(run[0], run[1], datasets.TRAIN)
    layout = work.problem.layout
    assert halved(work).problem.layout == layout._replace(halves=True)  # groups of several chunks
    large = work._replace(
        problem=dataclasses.replace(work.problem, layout=layout._replace(chunk_events=4096))
    )
    largest = max(group.events for group in work.groups)
    assert largest / 2 < halved(large).problem.layout.chunk_events <= largest


# ---- the gradient ----------------------------------------------------------------------------------------


def reference(run):
    """What is minimised, as one traced function of the parameters: no chunks, sweeps or cotangents."""
    config, widths = run[0], widths_at(run[0], 3)
    plain = prepare_work(config, run[1], datasets.TRAIN)
    tables = {(sample, half): [] for sample in AXES.samples for half in (0, 1)}
    for group in plain.groups:
        for chunk in cut(group, plain.problem.layout):
            halves = event_random.half(chunk[EVENT_NUMBER])
            for half in (0, 1):
                own = {n: a[halves == half] for n, a in chunk.items() if n != EVENT_NUMBER}
                tables[group.sample, half].append(own)
    recipe = Recipe(plain.problem.analysis, plain.problem.binnings, AXES.variations[1:])
    specifier = Specifier.of_run(config, AXES)

    def templates(p, sample, half):
        parts = tables[sample, half]
        columns = {n: jnp.asarray(np.concatenate([t[n] for t in parts]).astype(float)) for n in parts[0]}
        seen = parted(Columns(columns))
        return fill(recipe, p, seen.columns, widths, seen.factor)

    def value(yields, sumw2):
        of = Templates({"all": jnp.stack(yields)}, {"all": jnp.stack(sumw2)})
        stacked = specifier.stacked(specifier.side_by_side(of))
        return value_of(config.objective.quantity, Inputs(specifier.model, stacked)).value

    def minimised(p):
        a, b = ([templates(p, sample, half) for sample in AXES.samples] for half in (0, 1))
        ya, yb = ([t.yields["all"] for t in half] for half in (a, b))
        sumw2 = [s.sumw2["all"] + t.sumw2["all"] for s, t in zip(a, b, strict=True)]
        nominal, nothing = ya[1][0] + yb[1][0], jnp.zeros_like(ya[0][0])

        def changed(half):
            tilt, own = half[1][1] - half[1][0], half[2][0] - half[1][0]
            return [
                jnp.stack([ya[0][0] + yb[0][0], nothing]),
                jnp.stack([nominal, nominal + 2 * tilt]),
                jnp.stack([nominal + 2 * own, nothing]),
            ]

        everything = [one + other for one, other in zip(ya, yb, strict=True)]
        return 2 * value(everything, sumw2) - (value(changed(ya), sumw2) + value(changed(yb), sumw2)) / 2

    return jax.jit(jax.value_and_grad(minimised))(initial_parameters(config))


def test_the_gradient_over_chunks_is_that_of_the_whole_and_of_finite_differences(run, judged):
    work, corrected = worked(run, judged)
    step = stepped(run, InProcess(), work, corrected)
    value, gradient = reference(run)
    start, widths = initial_parameters(run[0]), widths_at(run[0], 3)

    def minimised(name="high", by=0.0):
        moved = {**start, name: start[name] + by}
        return corrected(forward(InProcess(), work, moved, widths), moved)

    here = minimised()
    np.testing.assert_allclose(here.minimised, value, rtol=1e-10)
    plain = judged(whole(forward(InProcess(), work, start, widths), AXES), start)
    assert here.objective == plain.objective == step.objective
    assert abs(here.minimised / plain.minimised - 1) > 1e-3  # there is something to correct
    for name, h in {"high": 1e-4, "low": 1e-4}.items():
        np.testing.assert_allclose(step.gradient[name], gradient[name], rtol=1e-9)
        near, far = (minimised(name, k * h).minimised - minimised(name, -k * h).minimised for k in (1, 2))
        np.testing.assert_allclose(step.gradient[name], (8 * near - far) / (12 * h), rtol=1e-5)


def test_groups_of_any_size_give_the_same_gradient(run, judged):
    expected = stepped(run, InProcess(), *worked(run, judged))
    for size in (150, 5000):
        found = stepped(run, InProcess(), *worked(run, judged, group_events=size))
        for name, slope in expected.gradient.items():
            np.testing.assert_allclose(found.gradient[name], slope, rtol=1e-10)


@pytest.mark.dask
def test_any_number_of_workers_gives_the_same_bits(run, judged, tmp_path):
    work, corrected = worked(run, judged)
    expected = bits(stepped(run, InProcess(), work, corrected))
    backwards = work._replace(groups=tuple(reversed(work.groups)))
    assert bits(stepped(run, InProcess(), backwards, corrected)) == expected
    settings = run[0].cluster.model_copy(update={"executor": "local", "wait_minutes": 1.0})
    with cluster.executor(settings, 2, tmp_path) as executor:
        assert bits(stepped(run, executor, work, corrected)) == expected


# ---- the expectation -------------------------------------------------------------------------------------


def halves_of(seed, events, sign=1):
    """Templates of halves: nominal ones without noise, varied ones of so many simulated events for the background.

    The variation is like the signal, but for its noise; of sign -1 is the opposite noise.
    """
    rng, bins = np.random.default_rng(seed), np.arange(8, 0, -1) / 36
    signal, background = 300 * bins[::-1], 10000 * bins
    rows = np.zeros((2, 3, 2, 8))
    rows[:, 0, 0], rows[:, 1, 0] = signal / 2, background / 2
    for half in (0, 1):
        expected = (background + 0.8 * signal) / 2
        noise = 0.0 if seed is None else rng.poisson(expected * events / 10000) * 10000 / events - expected
        rows[half, 2, 0] = expected + sign * noise
        rows[half, 1, 1] = background / 2 * (1 + 0.015 * np.arange(8))
    return Templates({"all": rows.reshape(6, 2, 8)}, {"all": rows[:, :, 0].reshape(6, 8)})


def means_of(judged, events, pairs):
    """Means of the objective and of what is minimised, and their errors; opposite noise side by side."""
    found = [[judged(halves_of(seed, events, sign), {})[:2] for sign in (1, -1)] for seed in range(pairs)]
    means = np.mean(found, axis=1)
    return means.mean(axis=0), means.std(axis=0) / pairs**0.5


@pytest.mark.parametrize(("events", "left"), [(80_000, 0.5), (320_000, 0.25)])
def test_the_expectation_is_that_of_templates_without_noise(run, judged, events, left):
    """What is left is of second order: a smaller share of the bias, the more events there are."""
    truth = judged(whole(halves_of(None, events), AXES), {}).minimised
    (plain, free), errors = means_of(without_noise(run[0], AXES, judged), events, 200)
    assert plain < truth - 10 * errors[0]  # the likelihood takes the noise for knowledge
    assert abs(free - truth) < left * abs(plain - truth)


def test_what_is_quadratic_in_the_changes_has_no_noise_in_its_expectation(run):
    root = np.random.default_rng(4).normal(size=(8, 8))
    matrix = root @ root.T

    def of_changes(templates, parameters, pruned):
        del parameters, pruned
        yields = jnp.asarray(templates.yields["all"])
        change = yields[2, 0] - yields[1, 0]
        value = float(change @ matrix @ change + jnp.sum(yields[0, 0] ** 2))
        return Evaluated(value, value, jax.tree.map(jnp.zeros_like, templates), {})

    quadratic = Judge(of_changes, lambda templates: None)
    corrected = without_noise(run[0], AXES, quadratic)
    truth = quadratic(whole(halves_of(None, 5000), AXES), {}).minimised
    mean, error = means_of(corrected, 5000, 300)
    assert abs(mean[0] - truth) > 5 * error[0]
    assert abs(mean[1] - truth) < 3 * error[1]


# ---- errors ----------------------------------------------------------------------------------------------


def test_a_half_without_a_fit_says_whose_it_is_and_what_to_do(run):
    calls = []

    def failing(templates, parameters, pruned):
        del parameters, pruned
        calls.append(templates)
        if len(calls) == 3:
            raise FitError("objective poi_uncertainty: the fit did not converge.")
        return Evaluated(1.0, 1.0, jax.tree.map(jnp.zeros_like, templates), {})

    cure = "changes of the second half of the events, doubled: objective poi_uncertainty: .*simulate more, or set"
    with pytest.raises(FitError, match=cure):
        without_noise(run[0], AXES, Judge(failing, lambda templates: None))(halves_of(1, 5000), {})


def test_epochs_minimise_it_and_record_the_objective_of_all_events(run, judged):
    config, work = run[0], prepare_work(run[0], run[1], datasets.TRAIN)
    state = initial_state(config, initial_parameters(config))
    (after, record), *_ = each_epoch(config, InProcess(), work, state, until=2, judged=judged)
    in_halves, corrected = of_optimisation(config, work, judged)
    start = initial_parameters(config)
    step = value_and_grad(InProcess(), in_halves, start, widths_at(config, 0), centre_of(corrected))
    assert record.gradient == {name: float(slope) for name, slope in step.gradient.items()}
    assert record.objective == step.objective
    exact = corrected(forward(InProcess(), in_halves, start, EXACT), start)
    assert (record.check.objective, record.check.minimised) == (exact.objective, exact.minimised)
    assert exact.objective != exact.minimised
    assert float(after.best.minimised) == exact.minimised


@pytest.mark.parametrize(
    ("override", "message"),
    {
        "model.systematics=[]": "needs an objective of a fit, and a model with a systematic of type NormPlusShape",
        "optimise.leading=1": "needs all varied templates in every epoch, and optimise.leading is 1; set that to all",
        "surrogate={}": "not for a stage without a derivative",
        "evaluate.also={other: {model: {poi: mu, normfactors: [{name: mu, samples: [signal]}]}, objective: "
        "{kind: poi_uncertainty, template_noise: true}}}": "evaluate.also.other: objective.template_noise is of an",
    }.items(),
)
def test_what_does_not_go_together_is_refused(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        noisy(tmp_path, EVENTS, override)
