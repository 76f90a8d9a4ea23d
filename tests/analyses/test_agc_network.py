"""The network observable: starts as the triplet mass, its gradient is that of finite differences, exact mode agrees."""

import numpy as np
import pytest

from pipeline import config as configuration
from pipeline.analyses.agc_network import TOP_MASS, TOP_WIDTH
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import forward, value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.templates.fill import EXACT

pytestmark = pytest.mark.simulate
EDGES = (0.0, 0.3, 0.5, 0.7, 1.0)


@pytest.fixture(scope="module")
def network(request, simulated):
    """The miniature with the network of a few units; the columns are those of the miniature."""
    overrides = [
        "simulate=null",
        f"data.manifest={simulated}",
        "cluster.executor=in_process",
        "analysis.target=pipeline.analyses.agc_network:AgcTtbarNetwork",
        "analysis.options={jets: 12, hidden: 3}",
        f"channels.4j2b.edges={list(EDGES)}",
        "channels.4j2b.bandwidth={initial: 0.1, final: 0.05}",
    ]
    return configuration.load(request.config.rootpath / "config" / "miniature.yaml", overrides)


def test_it_starts_as_the_triplet_mass(network, miniature, miniature_columns):
    logits = np.log(np.array(EDGES[1:-1]) / (1 - np.array(EDGES[1:-1])))
    inner = TOP_MASS + TOP_WIDTH * logits
    channel = miniature.channels["4j2b"].model_copy(update={"edges": (-1e4, *inner.tolist(), 1e5)})
    mass = miniature.model_copy(update={"channels": {**miniature.channels, "4j2b": channel}})
    by_mass, by_network = (
        forward(
            InProcess(),
            prepare_work(run, miniature_columns, datasets.ALL),
            initial_parameters(run),
            EXACT,
        ).yields["4j2b"]
        for run in (mass, network)
    )
    np.testing.assert_allclose(by_network, by_mass, rtol=1e-12)
    assert by_network.sum() > 0


@pytest.mark.slow
def test_its_gradient_is_that_of_finite_differences(network, miniature_columns):
    work = prepare_work(network, miniature_columns, datasets.TRAIN)
    widths, start = widths_at(network, 0), initial_parameters(network)
    start["network_out"] = np.array([0.3, -0.2, 0.4])  # at 0 the first layer has no gradient
    evaluate = centre(network, work.axes)
    step = value_and_grad(InProcess(), work, start, widths, evaluate)
    random = np.random.default_rng(5)
    for name, h in (("network_in", 1e-3), ("network_bias", 1e-3), ("network_out", 1e-3), ("jet_pt", 1e-3)):
        direction = random.normal(size=np.shape(start[name]))
        moved = [{**start, name: start[name] + s * h * direction} for s in (+1, -1)]
        up, down = (evaluate(forward(InProcess(), work, p, widths), p)[0] for p in moved)
        slope = np.sum(step.gradient[name] * direction)
        np.testing.assert_allclose(slope, (up - down) / (2 * h), rtol=1e-3, atol=1e-8, err_msg=name)
        assert abs(slope) > 0
