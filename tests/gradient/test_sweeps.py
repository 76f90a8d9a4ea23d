"""The gradient over chunks is the gradient of the whole, whatever the chunks and workers."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline import config as config_module
from pipeline.analysis import analysis_of
from pipeline.cluster import InProcess
from pipeline.containers import Columns
from pipeline.data import datasets
from pipeline.data.column_file import read_sources
from pipeline.errors import FitError
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import forward, pullback, value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.likelihood import HistFactory
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.objective import Inputs, value_of
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.optimise.update import in_ranges
from pipeline.templates.axes import variations_of
from pipeline.templates.fill import EXACT, Recipe, fill

pytestmark = pytest.mark.simulate


def chunked(config, chunk_events, group_events=1 << 20):
    settings = config.cluster.model_copy(update={"chunk_events": chunk_events, "group_events": group_events})
    return config.model_copy(update={"cluster": settings})


def largest_group(work):
    return max(group.events for group in work.groups)


def whole(config, work, widths):
    """Objective of all events in one traced function: no chunks, groups, sweeps or cotangents."""
    tables = [
        (work.axes.samples.index(group.sample), group.scale, columns)
        for group in work.groups
        for file in group.files
        for _, columns in read_sources(Path(file.path), [file.source], group.folds, file.content)
    ]
    columns = {n: np.concatenate([t[n] for _, _, t in tables]).astype(np.float64) for n in tables[0][2]}
    sample = np.concatenate([np.full(len(t["weight"]), row) for row, _, t in tables])
    scale = np.concatenate([np.full(len(t["weight"]), factor) for _, factor, t in tables])
    weights = [
        np.where(sample == row, columns["weight"] * scale, 0.0) for row in range(len(work.axes.samples))
    ]
    everything = Columns({name: jnp.asarray(array) for name, array in columns.items()})

    def templates(parameters):
        def of_sample(weight):
            found = everything.replace(weight=weight)
            problem = work.problem
            recipe = Recipe(problem.analysis, problem.binnings, work.axes.variations[1:])
            return fill(recipe, parameters, found, widths)

        return jax.vmap(of_sample)(jnp.stack(weights))

    start = initial_parameters(config)
    model = HistFactory.from_workspace(workspace(jax.jit(templates)(start), work.axes, config))

    def objective(parameters):
        found = templates(parameters)
        spec = Specifier.of(found, work.axes, config).named(found)
        return value_of(config.objective.quantity, Inputs(model, spec)).value

    return jax.jit(jax.value_and_grad(objective))(start)


def test_the_miniature_has_all_that_the_shipped_analysis_has(miniature, request):
    """Every variation the analysis makes, one that is a sample of its own, a normalisation, MC statistics."""
    shipped = config_module.load(request.config.rootpath / "config" / "agc_samples.yaml")
    for sample in miniature.data.samples:
        assert set(variations_of(shipped, sample)) <= set(variations_of(miniature, sample))
    for run in (shipped, miniature):
        kinds = {s.type for s in run.model.systematics}
        assert kinds == {"NormPlusShape", "Normalization"}
        assert any(sample.variations for sample in run.data.samples.values())
        assert run.model.mc_statistics
        assert run.model.pseudodata
        assert run.cluster.objects


@pytest.fixture(scope="module")
def work(miniature, miniature_columns):
    """The training events."""
    return prepare_work(miniature, miniature_columns, datasets.TRAIN)


@pytest.fixture(scope="module")
def evaluate(miniature, work):
    """The centre, compiled once."""
    return centre(miniature, work.axes)


@pytest.fixture(scope="module")
def reference(miniature, work):
    """Objective and jax.grad over all events in one process."""
    return whole(miniature, work, widths_at(miniature, 1))


@pytest.fixture(scope="module", params=[1, 2, 7])
def pieces(request, miniature, miniature_columns, work):
    """The same events in 1, 2 and 7 chunks a group."""
    config = chunked(miniature, -(-largest_group(work) // request.param))
    return prepare_work(config, miniature_columns, datasets.TRAIN)


def test_chunks_equal_whole(miniature, evaluate, reference, pieces):
    start, widths = initial_parameters(miniature), widths_at(miniature, 1)
    step = value_and_grad(InProcess(), pieces, start, widths, evaluate)
    value, gradient = reference
    np.testing.assert_allclose(step.objective, value, rtol=1e-10)
    # As a vector, in units of the allowed ranges: a component far smaller than the others is the difference of large
    # terms, and the inverse Hessian of the fit multiplies the templates' rounding by its condition number.
    free = analysis_of(miniature).parameters
    found, expected = (np.array(list(in_ranges(g, free).values())) for g in (step.gradient, gradient))
    assert list(step.gradient) == list(gradient)
    assert np.all(np.abs(expected) > 0)
    assert np.linalg.norm(found - expected) <= 1e-10 * np.linalg.norm(expected)


def test_sweeps_over_chunks_equal_one_chunk(miniature, work, evaluate, pieces):
    start, widths = initial_parameters(miniature), widths_at(miniature, 1)
    templates = forward(InProcess(), work, start, widths)
    again = forward(InProcess(), pieces, start, widths)
    for channel, yields in templates.yields.items():
        np.testing.assert_allclose(again.yields[channel], yields, rtol=1e-12)
        np.testing.assert_allclose(again.sumw2[channel], templates.sumw2[channel], rtol=1e-12)
    cotangent = evaluate(templates, start)[1]
    expected = pullback(InProcess(), work, start, widths, cotangent)
    for name, gradient in pullback(InProcess(), pieces, start, widths, cotangent).items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-11, err_msg=name)


def test_finite_differences_of_the_whole_chain(miniature, work, evaluate):
    widths, start = widths_at(miniature, 1), initial_parameters(miniature)

    def objective(**moved):
        parameters = {**start, **{name: start[name] + step for name, step in moved.items()}}
        return evaluate(forward(InProcess(), work, parameters, widths), parameters)[0]

    gradient = value_and_grad(InProcess(), work, start, widths, evaluate).gradient
    for name, h in {"lepton_pt": 1e-3, "jet_pt": 1e-3, "btag": 1e-5}.items():
        near, far = (objective(**{name: k * h}) - objective(**{name: -k * h}) for k in (1, 2))
        np.testing.assert_allclose(gradient[name], (8 * near - far) / (12 * h), rtol=1e-5, err_msg=name)


def test_small_widths_tend_to_exact(miniature, work):
    parameters = initial_parameters(miniature)
    exact = forward(InProcess(), work, parameters, EXACT)
    distances = []
    for factor in (1e-1, 1e-3, 1e-6):
        widths = jax.tree.map(lambda w, f=factor: w * f, widths_at(miniature, 10_000))
        relaxed = forward(InProcess(), work, parameters, widths)
        distances.append(max(np.abs(exact.yields[c] - relaxed.yields[c]).max() for c in exact.yields))
    assert distances[0] > distances[1] >= distances[2]
    assert distances[2] < 1e-6 * max(y.max() for y in exact.yields.values())


def test_a_template_that_is_not_finite_is_named(miniature, work, evaluate):
    parameters = {**initial_parameters(miniature), "jet_pt": np.float64("nan")}
    with pytest.raises(FitError, match=r"template '4j1b' \(sample 'wjets', .* bin 0\) is not finite"):
        value_and_grad(InProcess(), work, parameters, widths_at(miniature, 0), evaluate)


def test_single_precision_gives_the_same_within_its_rounding(miniature, miniature_columns, work, evaluate):
    start, widths = initial_parameters(miniature), widths_at(miniature, 0)
    cluster_section = miniature.cluster.model_copy(update={"precision": "float32"})
    single = prepare_work(
        miniature.model_copy(update={"cluster": cluster_section}), miniature_columns, datasets.TRAIN
    )
    assert single.problem.precision == "float32"
    expected = value_and_grad(InProcess(), work, start, widths, evaluate)
    found = value_and_grad(InProcess(), single, start, widths, evaluate)
    np.testing.assert_allclose(found.objective, expected.objective, rtol=1e-4)
    for name, gradient in expected.gradient.items():
        assert found.gradient[name].dtype == np.float64
        np.testing.assert_allclose(found.gradient[name], gradient, rtol=1e-2, atol=1e-4)
    assert found.objective != expected.objective
