"""Moments on grids and their transposes: NumPy's sums, adjoint pairs, derivatives of any order, blocks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from pipeline.relax.cells import BLOCK, Cells
from pipeline.relax.moments import moments, polynomials, sums

NUMBER, ORDER = 12, 4
CELLS = Cells(jnp.array([0.0, 0.3]), jnp.array([-6, -5], dtype=jnp.int32), jnp.array([0.25, 0.5]))
of_events = partial(moments, cells=CELLS, number=NUMBER, order=ORDER)


def located(values, cells, grid):
    origin, first, width = (float(constant[grid]) for constant in cells)
    place = (np.asarray(values) - origin) / width - first
    inside = (place >= 1) & (place < NUMBER - 1)
    cell = np.where(inside, np.floor(place), np.where(place < 1, 0, NUMBER - 1)).astype(int)
    return cell, np.where(inside, 2 * (place - cell) - 1, 0)


def reference(values, weights, cells=CELLS):
    sums = np.zeros((cells.origin.size, NUMBER, ORDER))
    for grid in range(cells.origin.size):
        cell, u = located(values, cells, grid)
        for k in range(ORDER):
            sums[grid, :, k] = np.bincount(cell, np.asarray(weights) * u**k, NUMBER)
    return sums


def sample(key, n):
    x, w = jax.random.split(key)
    return jax.random.uniform(x, n, minval=-2.0, maxval=2.0), jax.random.normal(w, n)


@pytest.mark.parametrize("n", [0, 1, 1000, BLOCK, 2 * BLOCK + 77])
def test_moments_are_numpys_sums_over_any_number_of_blocks(n, key):
    values, weights = sample(key, (n,))
    expected = reference(values, weights)
    np.testing.assert_allclose(of_events(values, weights), expected, rtol=1e-10, atol=1e-10)
    one = Cells(*(constant[:1] for constant in CELLS))
    np.testing.assert_allclose(
        moments(values, weights, one, number=NUMBER, order=ORDER), expected[:1], rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("n", [1000, BLOCK + 5])
def test_polynomials_are_the_transpose_of_moments(n, key):
    values, weights = sample(key, (n,))
    coefficients = jax.random.normal(key, (2, NUMBER, ORDER))
    factor = jax.random.normal(jax.random.fold_in(key, 1), (n,))
    by_moments = jnp.sum(of_events(values, weights, factor=factor) * coefficients)
    by_polynomials = jnp.sum(weights * polynomials(values, coefficients, CELLS, factor=factor))
    assert float(by_moments) == pytest.approx(float(by_polynomials), rel=1e-10)


def test_derivatives_of_both_to_second_order(key):
    values, weights = sample(key, (6,))
    values = jnp.floor(values / 0.05) * 0.05 + 0.02  # on no boundary of cells of either grid
    coefficients = jax.random.normal(key, (2, NUMBER, ORDER))
    factor = jnp.linspace(0.5, 2.0, 6)
    check = partial(check_grads, order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5, eps=1e-4)

    @jax.jit
    def sums(values, weights, factor):
        return of_events(values, weights, factor=factor)

    @jax.jit
    def places(values, coefficients, factor):
        return polynomials(values, coefficients, CELLS, factor=factor)

    check(sums, (values, weights, factor))
    check(places, (values, coefficients, factor))


def test_batches_equal_one_after_the_other(key):
    values, weights = sample(key, (3, 50))
    rows = [of_events(x, w) for x, w in zip(values, weights, strict=True)]
    np.testing.assert_array_equal(jax.jit(jax.vmap(of_events))(values, weights), jnp.stack(rows))
    shared = jax.vmap(of_events, in_axes=(None, 0))(values[0], weights)
    np.testing.assert_array_equal(shared[1], of_events(values[0], weights[1]))


def test_what_lies_outside_is_in_the_outermost_cells_without_a_derivative():
    values = jnp.array([-jnp.inf, -1e300, 1e300, jnp.inf])
    sums = of_events(values, jnp.array([1.0, 2.0, 4.0, 8.0]))
    assert sums[:, 0, 0].tolist() == [3, 3]
    assert sums[:, -1, 0].tolist() == [12, 12]
    assert np.count_nonzero(sums) == 4
    slope = jax.grad(lambda x: jnp.sum(of_events(x, jnp.ones(4)) ** 2))(values)
    assert slope.tolist() == [0, 0, 0, 0]


def test_a_nan_is_seen_and_others_are_not_touched():
    sums = of_events(jnp.array([jnp.nan, 0.1]), jnp.array([0.0, 1.0]))
    assert np.all(np.isnan(sums[:, 0, 1:]))
    assert np.all(np.isfinite(sums[:, 1:]))


@pytest.mark.parametrize("x64", [False, True])
def test_float32_sums_do_not_drift_whatever_the_setting(x64):
    n = 3 * BLOCK
    with jax.enable_x64(x64):
        cells = Cells(jnp.zeros(1), jnp.array([-1], dtype=jnp.int32), jnp.ones(1))
        weights = jnp.full(n, 0.1, dtype=jnp.float32)
        sums = moments(jnp.full(n, 0.5, dtype=jnp.float32), weights, cells, number=3, order=2)
        assert sums.dtype == (jnp.float64 if x64 else jnp.float32)
        assert float(sums[0, 1, 0]) == pytest.approx(n * float(np.float32(0.1)), rel=1e-7)
        assert float(sums[0, 1, 1]) == 0


@pytest.mark.parametrize("x64", [False, True])
def test_sums_of_slots_are_bincounts_with_a_derivative_in_the_weights(x64, key):
    slots = np.arange(1000) % 7
    with jax.enable_x64(x64):
        weights = np.float32(np.linspace(-1, 2, 1000))
        found = sums(jnp.asarray(weights), jnp.asarray(slots), 9)
        np.testing.assert_allclose(found, np.bincount(slots, weights, 9), rtol=1e-6, atol=1e-5)
        slope = jax.grad(lambda w: jnp.sum(sums(w, jnp.asarray(slots), 9) ** 2))(jnp.asarray(weights))
        np.testing.assert_allclose(slope, 2 * np.asarray(found)[slots], rtol=1e-6)


def test_without_jit_it_still_runs():
    with jax.disable_jit():
        assert of_events(jnp.zeros(3), jnp.ones(3)).sum() > 0
