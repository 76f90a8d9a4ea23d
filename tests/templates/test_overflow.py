"""Outermost bins that count what lies beyond them: exactly, relaxed, with free edges, with a finite gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.analysis import Analysis, FlatTree
from pipeline.containers import Columns, Observation
from pipeline.relax import edge_logits
from pipeline.templates.binning import Binning
from pipeline.templates.fill import EXACT, Recipe, Widths, fill

EDGES = (0.0, 0.25, 0.5, 1.0)


class Values(Analysis):
    """Observes the column x, moved by the free array `by`."""

    reads = FlatTree(("x",))
    parameters = {}  # noqa: RUF012

    def columns(self, events, dataset):
        return {"x": events.x, "weight": np.ones(len(events.x))}

    def observe(self, p, c, relax):
        return {"region": Observation(value=c.x + p.by, weight=c.weight)}


def contents(x, parameters, *, overflow, bandwidth=None, unit="value", smallest=None):
    """Bin contents at a point, exact without a bandwidth."""
    binnings = (Binning("region", EDGES, smallest, unit, overflow=overflow),)
    mode = EXACT if bandwidth is None else Widths({}, {"region": jnp.asarray(bandwidth)})
    columns = Columns({"x": x, "weight": jnp.ones(len(x))})
    return fill(Recipe(Values(), binnings, ()), parameters, columns, mode).yields["region"][0]


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(1).normal(0.5, 1.0, 500))


def test_exact_contents_are_numpy_s(x):
    at = {"by": jnp.asarray(0.0)}
    expected = np.histogram(x, (-np.inf, *EDGES[1:-1], np.inf))[0]
    np.testing.assert_array_equal(contents(x, at, overflow=True), expected)
    np.testing.assert_array_equal(contents(x, at, overflow=False), np.histogram(x, EDGES)[0])


@pytest.mark.parametrize(("unit", "bandwidth"), [("value", 0.1), ("bin", 0.3)])
@pytest.mark.parametrize("smallest", [None, 0.05])
def test_nothing_leaks_and_the_gradient_is_that_of_differences(x, unit, bandwidth, smallest):
    edges = {} if smallest is None else {"edges_region": edge_logits(np.asarray(EDGES), smallest=smallest)}

    def last(by):
        at = {"by": by, **edges}
        return contents(x, at, overflow=True, bandwidth=bandwidth, unit=unit, smallest=smallest)

    np.testing.assert_allclose(last(jnp.asarray(0.1)).sum(), len(x), rtol=1e-12)
    gradient = jax.jacrev(last)(jnp.asarray(0.1))
    difference = (last(jnp.asarray(0.1 + 1e-5)) - last(jnp.asarray(0.1 - 1e-5))) / 2e-5
    np.testing.assert_allclose(gradient, difference, rtol=1e-6)
    assert np.abs(gradient).min() > 0
