"""Contents from a grid against the direct formula in float64: values, all gradients, where it gives up."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.relax import histogram
from pipeline.relax.direct import direct_contents
from pipeline.relax.grid import (
    CELLS,
    MOST_UNEQUAL,
    SINGLE,
    accuracy_of,
    edgewise_contents,
    grid_contents,
    lay_out,
)
from pipeline.relax.histogram import DIRECT_UP_TO

EVENTS = 500
REGULAR = np.linspace(-1.0, 1.0, 8)
UNEVEN = np.array([-1.0, -0.9, 0.0, 0.35, 0.4, 1.0, 2.5, 2.6])


@partial(jax.jit, static_argnames="unequal")
def on_grid(values, weights, edges, bandwidth, unequal=1):
    grid = lay_out(edges, bandwidth, accuracy_of(values.dtype), unequal)
    contents = grid_contents(values, weights, edges, bandwidth, grid=grid, unequal=unequal)
    return jnp.where(grid.resolved, contents, jnp.nan)


edgewise = jax.jit(edgewise_contents)


def sample(key, n=EVENTS, dtype=np.float64):
    x, w = jax.random.split(key)
    values = np.asarray(0.9 * jax.random.normal(x, n), dtype=dtype)
    return values, np.asarray(0.2 + jax.random.uniform(w, n), dtype=dtype)


def close(found, expected, relative):
    """Whether the largest difference is below ``relative`` of the largest value."""
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected)
    assert np.all(np.isfinite(found))
    assert np.max(np.abs(found - expected)) < relative * np.max(np.abs(expected))


@pytest.mark.parametrize("route", [on_grid, edgewise])
@pytest.mark.parametrize("ends", ["closed", "open"])
@pytest.mark.parametrize("edges", [REGULAR, UNEVEN])
@pytest.mark.parametrize(("dtype", "share", "slope"), [(np.float32, 3e-7, 1e-4), (np.float64, 1e-12, 1e-9)])
def test_contents_and_gradients_are_those_of_the_formula(route, ends, edges, dtype, share, slope, key):
    values, weights = sample(key, dtype=dtype)
    edges = np.asarray(edges, dtype=dtype)
    if ends == "open":
        edges[0], edges[-1] = -np.inf, np.inf
    at = (values, weights, edges, np.full(edges.size, 0.15, dtype=dtype))
    exact = tuple(jnp.asarray(array, dtype=jnp.float64) for array in at)
    cotangent = np.asarray(jax.random.normal(key, edges.size - 1))
    contents, pull = jax.vjp(route, *at)
    expected, pull_exact = jax.vjp(direct_contents, *exact)
    close(contents, expected, share)
    for found, wanted in zip(pull(cotangent.astype(dtype)), pull_exact(cotangent), strict=True):
        close(found, wanted, slope)


@given(
    steps=st.lists(st.floats(0.001, 3.0), min_size=1, max_size=12),
    bandwidth=st.floats(0.01, 5.0),
    shift=st.floats(-10.0, 10.0),
)
def test_any_binning_in_float64(steps, bandwidth, shift):
    steps = np.pad(steps, (0, 12 - len(steps)), constant_values=0.7)  # one shape, one compilation
    edges = np.cumsum(steps) - 5 + shift
    values = np.linspace(-6.0, 6.0, 97) + shift
    weights = np.where(np.arange(97) % 3 == 0, -0.5, 1.0)
    s = np.full(edges.size, bandwidth)
    expected = direct_contents(jnp.asarray(values), jnp.asarray(weights), jnp.asarray(edges), jnp.asarray(s))
    np.testing.assert_allclose(on_grid(values, weights, edges, s), expected, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(edgewise(values, weights, edges, s), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("unequal", [1, MOST_UNEQUAL])
def test_bandwidths_per_edge(unequal, key):
    values, weights = sample(key)
    bandwidth = np.linspace(0.1, 0.1 * (0.9 * MOST_UNEQUAL), UNEVEN.size)
    expected = direct_contents(*map(jnp.asarray, (values, weights, UNEVEN, bandwidth)))
    if unequal == 1:  # too unequal to share a grid
        assert np.all(np.isnan(on_grid(values, weights, UNEVEN, bandwidth)))
    else:
        close(on_grid(values, weights, UNEVEN, bandwidth, unequal=unequal), expected, 1e-12)
    close(edgewise(values, weights, UNEVEN, bandwidth), expected, 1e-12)


def test_second_derivatives_are_those_of_the_formula(key):
    values, weights = (jnp.asarray(array) for array in sample(key, 40))
    bandwidth = jnp.full(UNEVEN.size, 0.2)

    def curvature(route):
        def total(shift, scale):
            return jnp.sum(route(values * scale + shift, weights, UNEVEN + 0.1 * scale, bandwidth) ** 2)

        return jax.jit(jax.hessian(total, argnums=(0, 1)))(jnp.zeros(()), jnp.ones(()))

    expected = curvature(direct_contents)
    for route in (on_grid, edgewise):
        np.testing.assert_allclose(curvature(route), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("spread", "bandwidth", "resolved"),
    [
        (1.0, 1.0, True),
        (1.0, 1.01 * SINGLE.cells_per_bandwidth / (CELLS - 110), True),
        (1.0, 0.99 * SINGLE.cells_per_bandwidth / CELLS, False),
        (1e7, 1.0, False),
        (1.0, 0.0, False),
    ],
)
def test_the_grid_says_what_it_resolves(spread, bandwidth, resolved):
    edges = jnp.asarray([0.0, 0.5, 1.0], dtype=jnp.float32) * jnp.float32(spread)
    grid = lay_out(edges, jnp.full(3, bandwidth, dtype=jnp.float32), SINGLE, 1)
    assert bool(grid.resolved) == resolved


def test_edges_far_from_zero_compared_with_the_bandwidth_are_not_resolved_in_float32():
    edges, s = np.float32([1e6, 1e6 + 1]), np.full(2, 0.1)
    assert not lay_out(jnp.asarray(edges), jnp.asarray(s, dtype=jnp.float32), SINGLE, 1).resolved
    assert lay_out(jnp.asarray(edges, dtype=float), jnp.asarray(s), accuracy_of(float), 1).resolved


@pytest.mark.parametrize("bandwidth", [4.1, 1.1])
@pytest.mark.parametrize("closure", [False, True])
def test_edges_far_from_zero_are_not_rounded_in_float32(bandwidth, closure, key):
    values = np.float32(1e6 + 10 * jax.random.normal(key, DIRECT_UP_TO))
    edges, s = np.float32(1e6 + np.linspace(-30, 30, 13)), np.float32(bandwidth)
    exact = [jnp.asarray(a, dtype=float) for a in (values, np.ones(DIRECT_UP_TO), edges, np.full(13, s))]
    if closure:  # which XLA folds, without the fused multiply-add that saves a traced product
        found = jax.jit(lambda x: histogram(x, edges, bandwidth=s))(values)
    else:
        found = jax.jit(lambda x, e, s: histogram(x, e, bandwidth=s))(values, edges, s)
    np.testing.assert_allclose(found, direct_contents(*exact), atol=1e-6 * DIRECT_UP_TO)


def test_a_wide_bin_of_many_cells_does_not_drift_without_float64(key):
    values = np.float32(np.linspace(0, 100, 20_000))
    with jax.enable_x64(False):
        found = histogram(
            values, np.float32([0, 100]), bandwidth=0.062, weights=np.full(20_000, 1e-3, np.float32)
        )
        np.testing.assert_allclose(found, 20.0 - 1e-3 * (0.06 / 0.005 / 1.2), rtol=2e-4)
        ones = histogram(values, np.float32([-50, 150]), bandwidth=0.12)
        assert ones[0] == 20_000


@pytest.mark.parametrize("bandwidth", [1e-3, 1e-9])
def test_narrow_kernels_of_many_events_are_hard_bins(bandwidth):
    values = np.linspace(-2.0, 3.0, DIRECT_UP_TO) + 1e-5
    assert not lay_out(*map(jnp.asarray, (UNEVEN, np.full(8, bandwidth / 10))), SINGLE, 1).resolved
    narrow = histogram(values, UNEVEN, bandwidth=bandwidth / 10)
    np.testing.assert_allclose(narrow, np.histogram(values, UNEVEN)[0], atol=0.8)  # the events at the edges


def test_far_from_all_events_contents_are_tiny_but_never_negative():
    edges = np.float32(np.linspace(0.0, 10.0, 41))
    contents = histogram(np.full(DIRECT_UP_TO, 5, dtype=np.float32), edges, bandwidth=0.3)
    assert np.all(contents >= 0)
    assert contents[0] == 0


@pytest.mark.parametrize("x64", [False, True])
def test_many_events_keep_float32s_precision_whatever_the_setting(x64, key):
    values, weights = sample(key, 300_000, np.float32)
    edges = np.float32(np.linspace(-2.0, 2.0, 101))
    exact = [jnp.asarray(array, dtype=jnp.float64) for array in (edges, np.full(101, np.float32(0.02)))]
    expected = sum(
        direct_contents(jnp.asarray(x, dtype=jnp.float64), jnp.asarray(w, dtype=jnp.float64), *exact)
        for x, w in zip(np.split(values, 30), np.split(weights, 30), strict=True)
    )
    with jax.enable_x64(x64):
        contents = histogram(values, edges, bandwidth=0.02, weights=weights)
        assert contents.dtype == jnp.float32
        np.testing.assert_allclose(contents, expected, rtol=1e-6)


@pytest.mark.parametrize("bandwidth", [0.01, 1e-4])  # either route
def test_memory_is_that_of_a_block_of_events(bandwidth):
    n, edges = 2_000_000, jnp.linspace(0.0, 1.0, 201, dtype=jnp.float32)

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1, 2, 3))
    def step(values, weights, edges, bandwidth):
        return jnp.sum(histogram(values, edges, bandwidth=bandwidth, weights=weights) ** 2)

    events = jax.ShapeDtypeStruct((n,), jnp.float32)
    memory = step.lower(events, events, edges, jnp.float32(bandwidth)).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * n  # not one array of the events
