"""The sweeps of a bootstrap sample: the gradient is that of the sample, and chunks are the whole."""

import contextlib

import numpy as np
import pytest
import rootfiles
from columnfiles import write_columns

from pipeline import config as configuration
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import forward, value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.templates.fill import EXACT

REPLICA = 2**32 + 1  # beyond 32 bits too


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A run with one cut, its column files."""
    folder = tmp_path_factory.mktemp("tiny")
    with contextlib.chdir(folder):
        run = configuration.load(rootfiles.write_run(folder), ["cluster.precision=float64"])
        yield run, write_columns(run, folder)


def sample_of(tiny, replica, chunk_events=1 << 16):
    run, files = tiny
    cluster = run.cluster.model_copy(update={"chunk_events": chunk_events, "group_events": chunk_events})
    changed = run.model_copy(update={"cluster": cluster})
    return prepare_work(changed, files, datasets.TRAIN)._replace(replica=replica)


def test_the_gradient_is_that_of_the_sample(tiny):
    run, work = tiny[0], sample_of(tiny, REPLICA)
    start, widths, evaluate = initial_parameters(run), widths_at(run, 0), centre(tiny[0], work.axes)

    def objective(step):
        moved = {**start, "cut": start["cut"] + step}
        return evaluate(forward(InProcess(), work, moved, widths), moved)[0]

    found, h = value_and_grad(InProcess(), work, start, widths, evaluate), 1e-4
    near, far = (objective(k * h) - objective(-k * h) for k in (1, 2))
    slope = -(8 * near - far) / (12 * h)  # a significance: what is minimised is its negative
    np.testing.assert_allclose(found.gradient["cut"], slope, rtol=1e-8)
    others = value_and_grad(InProcess(), sample_of(tiny, None), start, widths, evaluate)
    assert abs(found.gradient["cut"] / others.gradient["cut"] - 1) > 1e-3


def test_chunks_of_a_sample_are_the_whole(tiny):
    run = tiny[0]
    start, widths = initial_parameters(run), widths_at(run, 0)
    whole, parts = (sample_of(tiny, REPLICA, events) for events in (1 << 16, 32))
    evaluate = centre(run, whole.axes)
    expected, found = (value_and_grad(InProcess(), w, start, widths, evaluate) for w in (whole, parts))
    np.testing.assert_allclose(found.objective, expected.objective, rtol=1e-12)
    np.testing.assert_allclose(found.gradient["cut"], expected.gradient["cut"], rtol=1e-10)


def test_a_sweep_s_own_replica_is_the_work_s(tiny):
    run, work = tiny[0], sample_of(tiny, None)
    start = initial_parameters(run)
    asked = forward(InProcess(), work, start, EXACT, replica=REPLICA).yields["all"]
    given = forward(InProcess(), work._replace(replica=REPLICA), start, EXACT).yields["all"]
    np.testing.assert_array_equal(given, asked)
    assert np.any(asked != forward(InProcess(), work, start, EXACT).yields["all"])
