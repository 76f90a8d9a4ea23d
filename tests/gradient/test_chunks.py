"""Chunks of few shapes hold every event once; trimmed to their objects they give the same templates."""

import numpy as np
import pytest

from pipeline.analysis import EVENT_NUMBER
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.errors import ConfigError
from pipeline.gradient.chunks import copies, cut
from pipeline.gradient.sweeps import forward, pullback
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.templates.fill import EXACT

pytestmark = pytest.mark.simulate


def work_of(miniature, files, **cluster):
    settings = miniature.cluster.model_copy(update=cluster)
    return prepare_work(miniature.model_copy(update={"cluster": settings}), files, datasets.TRAIN)


def events_of(work):
    """Columns of the events with weight, their objects filled up to 12, in an order of their own."""
    rows = []
    for group in work.groups:
        for chunk in cut(group, work.problem.layout):
            present = chunk["weight"] > 0
            jets = chunk["jet_pt"][present]
            padded = np.pad(jets, ((0, 0), (0, 12 - jets.shape[1])))
            rows.append(np.column_stack([chunk["weight"][present], padded]))
    found = np.concatenate(rows)
    return found[np.lexsort(found.T)]


@pytest.mark.parametrize("objects", [{}, {"jet": (5,)}, {"jet": (4, 5, 6, 7, 30)}])
def test_trimmed_chunks_hold_the_same_events(miniature, miniature_columns, objects):
    plain = work_of(miniature, miniature_columns, objects={})
    trimmed = work_of(miniature, miniature_columns, objects=objects, chunk_events=64)
    np.testing.assert_array_equal(events_of(trimmed), events_of(plain))
    shapes = {
        chunk["jet_pt"].shape for group in trimmed.groups for chunk in cut(group, trimmed.problem.layout)
    }
    sizes = [*(n for n in objects.get("jet", ()) if n < 12), 12]
    assert shapes <= {(64 >> step, size) for step, size in enumerate(sizes)}
    assert len(shapes) >= min(2, len(sizes))


@pytest.mark.slow
def test_trimmed_chunks_give_the_same_templates_and_gradient(miniature, miniature_columns):
    start, widths = initial_parameters(miniature), widths_at(miniature, 0)
    found = []
    for objects in ({}, {"jet": (5, 6)}):
        work = work_of(miniature, miniature_columns, objects=objects, chunk_events=256)
        templates = forward(InProcess(), work, start, widths)
        gradient = pullback(InProcess(), work, start, widths, templates)
        exact = forward(InProcess(), work, start, EXACT)
        found.append((templates, gradient, exact))
    for channel in miniature.channels:
        for i in (0, 2):
            a, b = (entry[i].yields[channel] for entry in found)
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * a.max())
    for name, gradient in found[0][1].items():
        np.testing.assert_allclose(found[1][1][name], gradient, rtol=1e-9)


def test_an_unknown_collection_is_named(miniature, miniature_columns):
    with pytest.raises(ConfigError, match=r"cluster\.objects\.jets: .* no such collection; nearest: 'jet'"):
        work_of(miniature, miniature_columns, objects={"jets": (5,)})


def test_replicas_are_poisson_reproducible_and_paired(miniature, miniature_columns):
    work = work_of(miniature, miniature_columns, objects={})
    group = max(work.groups, key=lambda group: group.events)
    (chunk, *_) = cut(group, work.problem.layout)
    real = chunk["weight"] > 0
    factors = [copies(chunk[EVENT_NUMBER], replica)[real] for replica in (0, 0, 1)]
    np.testing.assert_array_equal(factors[0], factors[1])
    assert np.any(factors[0] != factors[2])
    np.testing.assert_array_equal(factors[0], np.round(factors[0]))
    assert abs(np.mean(factors) - 1) < 5 / real.sum() ** 0.5
    assert abs(np.var(factors[0]) - 1) < 10 / real.sum() ** 0.5
    start = initial_parameters(miniature)
    nominal = forward(InProcess(), work, start, EXACT).yields["4j2b"]
    again = forward(InProcess(), work, start, EXACT, replica=3).yields["4j2b"]
    assert 0.3 < again.sum() / nominal.sum() < 3
    assert np.any(again != nominal)
