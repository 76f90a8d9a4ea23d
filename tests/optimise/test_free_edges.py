"""Free bin edges: parameters of the sweeps, with the right derivative, exact where they end up."""

import jax
import numpy as np
import pytest

from pipeline import config as configuration
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.errors import ConfigError
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import forward, value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import edges_at, initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.optimise.update import initial_state, update_of
from pipeline.relax import ordered_edges
from pipeline.templates.binning import Binning
from pipeline.templates.fill import EXACT

pytestmark = pytest.mark.simulate
LOGITS = ("edges_4j1b", "edges_4j2b")


@pytest.fixture(scope="module", params=["value", "bin"])
def free(request, miniature):
    """The miniature with free edges, its kernels in either unit."""
    width = {"value": (40.0, 16.0), "bin": (0.4, 0.15)}[request.param]
    bandwidth = configuration.Bandwidth(initial=width[0], final=width[1], unit=request.param)
    edges = {
        "free_edges": type(miniature.channels["4j1b"])
        .model_fields["free_edges"]
        .annotation.__args__[0](smallest=20)
    }
    channels = {
        n: c.model_copy(update={**edges, "bandwidth": bandwidth}) for n, c in miniature.channels.items()
    }
    return miniature.model_copy(update={"channels": channels})


def test_they_start_where_the_configuration_says(free):
    start = initial_parameters(free)
    assert set(LOGITS) <= set(start)
    for channel, edges in edges_at(free, start).items():
        np.testing.assert_allclose(edges, free.channels[channel].edges, rtol=1e-12)


@pytest.mark.slow
def test_their_gradient_is_that_of_finite_differences(free, miniature_columns):
    work = prepare_work(free, miniature_columns, datasets.TRAIN)
    widths, start = widths_at(free, 0), initial_parameters(free)
    evaluate = centre(free, work.axes)
    random = np.random.default_rng(2)  # away from equal bins, where a fraction of the narrower one has a kink
    start |= {name: start[name] + random.normal(scale=0.2, size=3) for name in LOGITS}
    step = value_and_grad(InProcess(), work, start, widths, evaluate)
    for name in LOGITS:
        for i in range(len(start[name])):
            h = 1e-4 * np.eye(len(start[name]))[i]
            shifted = [{**start, name: start[name] + sign * h} for sign in (+1, -1)]
            up, down = (evaluate(forward(InProcess(), work, p, widths), p)[0] for p in shifted)
            np.testing.assert_allclose(step.gradient[name][i], (up - down) / 2e-4, rtol=2e-4, atol=1e-7)
    assert all(np.any(step.gradient[name] != 0) for name in LOGITS)


def test_an_epoch_moves_them_and_they_stay_ordered(free, miniature_columns):
    work = prepare_work(free, miniature_columns, datasets.TRAIN)
    start = initial_parameters(free)
    evaluate = centre(free, work.axes)
    state = initial_state(free, start)
    for epoch in range(2):
        step = value_and_grad(InProcess(), work, state.parameters, widths_at(free, epoch), evaluate)
        state = update_of(free, work.problem.analysis.parameters)(state, step.gradient)
    for channel, edges in edges_at(free, state.parameters).items():
        before = free.channels[channel].edges
        assert (edges[0], edges[-1]) == (before[0], before[-1])
        assert np.all(np.diff(edges) >= 20)
        assert np.any(np.abs(np.array(edges) - before) > 1e-3)


def test_exact_yields_are_those_of_the_edges(free, miniature_columns):
    """With moved edges the exact templates are those of a configuration that has these edges fixed."""
    start = initial_parameters(free)
    moved = {**start, "edges_4j1b": start["edges_4j1b"] + np.array([0.3, 0.0, -0.3])}
    found = forward(InProcess(), prepare_work(free, miniature_columns, datasets.ALL), moved, EXACT)
    edges = edges_at(free, moved)
    fixed = {
        name: channel.model_copy(update={"free_edges": None, "edges": tuple(edges[name])})
        for name, channel in free.channels.items()
    }
    run = free.model_copy(update={"channels": fixed})
    expected = forward(InProcess(), prepare_work(run, miniature_columns, datasets.ALL), start, EXACT)
    for channel, yields in expected.yields.items():
        np.testing.assert_allclose(found.yields[channel], yields, rtol=1e-12)


def test_smallest_must_leave_room(request):
    path = request.config.rootpath / "config" / "miniature.yaml"
    with pytest.raises(
        ConfigError, match=r"free_edges\.smallest 80\.0 must be below the narrowest bin of edges, 80"
    ):
        configuration.load(path, ["channels.4j2b.free_edges={smallest: 80}"])
    with pytest.raises(ConfigError, match="free_edges belongs to a channel with edges"):
        configuration.load(path, ["channels.4j2b={free_edges: {smallest: 8}}"])


def test_binning_makes_its_edges_from_its_parameter():
    logits = np.array([0.1, -0.2, 0.3])
    binning = Binning("a", (0.0, 1.0, 2.0, 4.0), 0.25, "value")
    np.testing.assert_allclose(
        jax.jit(lambda x: binning.edges_at({"edges_a": x}))(logits),
        ordered_edges(logits, 0.0, 4.0, smallest=0.25),
    )
