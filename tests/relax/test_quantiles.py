"""Quantiles: NumPy's in the equal-weight case, a plain reference for weights, padding, ties, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from pipeline.relax.quantiles import equal_yield_edges, quantiles

PROBABILITIES = np.array([0.0, 0.04, 0.25, 0.37, 0.5, 0.8, 0.99, 1.0])
values_of_events = st.lists(st.integers(-20, 20), min_size=7, max_size=7)  # often equal ones
weights_of_events = st.lists(st.integers(0, 5), min_size=7, max_size=7)


@jax.jit
def found(values, weights=None, probabilities=PROBABILITIES):
    return quantiles(values, probabilities, weights=weights)


yield_edges = jax.jit(equal_yield_edges, static_argnames="bins")
slopes_of = jax.jit(jax.jacrev(found, (0, 1, 2)))


def plain(values, weights, probabilities=PROBABILITIES):
    """Return the weighted quantiles one by one, events of weight 0 removed beforehand."""
    knots = sorted((x, w) for x, w in zip(values, weights, strict=True) if w != 0)
    total, below, result = sum(w for _, w in knots), 0.0, []
    positions = []
    for _, w in knots:
        positions.append((below + w / 2) / total)
        below += w
    for p in probabilities:
        after = [i for i, position in enumerate(positions) if position >= p]
        if not after or after[0] == 0:
            result.append(knots[-1 if not after else 0][0])
            continue
        i = after[0]
        t = (p - positions[i - 1]) / (positions[i] - positions[i - 1])
        result.append(knots[i - 1][0] * (1 - t) + knots[i][0] * t)
    return result


def sample(key, n):
    x, w = jax.random.split(key)
    return jax.random.normal(x, (n,)), jax.random.uniform(w, (n,), minval=0.2, maxval=2)


@given(values=values_of_events)
def test_equal_weights_give_hazen(values):
    values = np.array(values, dtype=float)
    expected = np.quantile(values, PROBABILITIES, method="hazen")
    np.testing.assert_allclose(found(values), expected, atol=1e-13)
    np.testing.assert_allclose(found(values, np.full(7, 0.3)), expected, atol=1e-13)


@given(values=st.lists(st.floats(-1e3, 1e3), min_size=7, max_size=7), p=st.floats(0, 1))
def test_hazen_at_any_probability(values, p):
    expected = np.quantile(values, [p], method="hazen")
    np.testing.assert_allclose(found(np.array(values), None, np.array([p])), expected, atol=1e-11)


@given(values=values_of_events, weights=weights_of_events)
def test_weights_follow_the_formula(values, weights):
    values, weights = np.array(values, dtype=float), np.array(weights, dtype=float)
    if not weights.any():
        assert np.all(np.isnan(found(values, weights)))
        return
    np.testing.assert_allclose(found(values, weights), plain(values, weights), atol=1e-12)


@given(weights=st.lists(st.integers(1, 5), min_size=7, max_size=7))
def test_integer_weights_are_repeated_events_at_the_knots(weights):
    # In between a repeated value is flat over its weight, a weighted one is a single knot in its middle.
    values, weights = np.arange(7.0) ** 2, np.array(weights)
    middles = (np.cumsum(weights) - weights / 2) / weights.sum()
    np.testing.assert_allclose(found(values, weights, middles), values, atol=1e-11)
    repeated = np.quantile(np.repeat(values, weights), middles, method="hazen")
    np.testing.assert_allclose(repeated, values, atol=1e-11)
    between = np.quantile(np.repeat(values, weights), PROBABILITIES, method="hazen")
    assert np.all(np.abs(found(values, weights) - between) <= 36 - 25)  # both lie between the same two knots


@given(values=values_of_events, weights=weights_of_events, order=st.permutations(range(7)))
def test_the_order_of_the_events_does_not_matter(values, weights, order):
    values, weights = np.array(values, dtype=float), np.array(weights, dtype=float)
    shuffled = found(values[order], weights[order])
    assert np.array_equal(found(values, weights), shuffled, equal_nan=True)


@pytest.mark.parametrize("padding", [np.nan, np.inf, -np.inf, 0.0, 1e300])
def test_padding_is_not_seen(key, padding):
    x, w = sample(key, 5)
    padded = np.concatenate([[padding], x, [padding]]), np.concatenate([[0], w, [0]])
    np.testing.assert_allclose(found(*padded), found(x, w), rtol=1e-13)
    slopes, bare = slopes_of(*padded, PROBABILITIES), slopes_of(x, w, PROBABILITIES)
    for slope, expected in zip(slopes[:2], bare[:2], strict=True):
        np.testing.assert_allclose(slope, np.pad(expected, ((0, 0), (1, 1))), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(slopes[2], bare[2], rtol=1e-11, atol=1e-12)


def test_ends_are_exact_and_one_event_is_every_quantile():
    ends = np.array([0.0, 1.0])
    lost = np.array([1.0, 1e-20, 1e-20])  # the last two are, in the sum
    assert found(np.array([-0.1, 0.7, 0.9]), lost, ends).tolist() == [-0.1, 0.9]
    assert found(np.array([-0.3, 1e-17]), None, ends).tolist() == [-0.3, 1e-17]  # their distance is rounded
    assert found(np.array([0.1]), None, np.array([0.0, 0.3, 1.0])).tolist() == [0.1] * 3


@given(values=values_of_events, weights=weights_of_events)
def test_gradients_are_finite_with_ties_and_padding(values, weights):
    values, weights = np.array(values, dtype=float), np.array(weights, dtype=float)
    weights[0] += 1
    slopes = slopes_of(values, weights, PROBABILITIES)
    assert all(np.all(np.isfinite(slope)) for slope in slopes)
    np.testing.assert_allclose(slopes[0].sum(axis=1), 1, rtol=1e-13)  # a shift of all events shifts all


def test_gradients(key):
    x, w = sample(key, 7)
    at = (x, w, jnp.array([0.13, 0.22, 0.31, 0.44, 0.52, 0.68, 0.77, 0.91]))
    check_grads(found, at, order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
    for one, other in zip(jax.jit(jax.jacfwd(found, (0, 1, 2)))(*at), slopes_of(*at), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)


def test_derivatives_of_a_quartile():
    # Positions 1/8, 3/8, ...: the quartile is the mean of the first two, its slope 4 times their distance.
    x = jnp.array([5.0, 1.0, 3.0, 2.0])
    p = jnp.array([0.25])
    value, (dx, dp) = jax.value_and_grad(lambda x, p: found(x, None, p)[0], (0, 1))(x, p)
    assert value == 1.5
    assert dx.tolist() == [0, 0.5, 0, 0.5]
    assert dp.tolist() == [4]


@pytest.mark.parametrize(
    ("values", "weights"),
    [
        ([1.0, 2.0], [1.0, -0.1]),
        ([1.0, 2.0], [1.0, np.nan]),
        ([1.0, 2.0], [1.0, np.inf]),
        ([1.0, np.nan], [1.0, 1.0]),
        ([1.0, 2.0], [0.0, 0.0]),
        ([], []),
    ],
)
def test_bad_events_and_no_events_are_nan(values, weights):
    result = found(np.array(values), np.array(weights))
    assert result.shape == PROBABILITIES.shape
    assert np.all(np.isnan(result))


def test_an_infinite_value_spoils_its_neighbourhood_only():
    result = found(np.array([1.0, 2.0, 3.0, np.inf]), None, np.array([0.2, 0.6, 0.8]))
    assert np.isfinite(result).tolist() == [True, True, False]


def test_stacks_and_dtypes(key):
    x, w = sample(key, 7)
    stack = jnp.stack([x, -x, x**2])
    stacked = jax.jit(jax.vmap(found, (0, None)))(stack, w)
    for one, expected in zip(stack, stacked, strict=True):
        np.testing.assert_allclose(found(one, w), expected, rtol=1e-13)
    single = found(np.float32(x), np.float32(w))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, found(x, w), atol=1e-5)
    assert found(np.float32(x), w).dtype == np.float64
    assert quantiles(np.array([3, 1, 2]), np.array([0.5])).tolist() == [2]


@given(seed=st.integers(0, 1000), bins=st.sampled_from([1, 5]))
def test_equal_yield_within_the_weight_of_one_event(seed, bins):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=60), rng.uniform(size=60)
    w[::7] = 0
    edges = np.asarray(yield_edges(x, bins, weights=w))
    contents, _ = np.histogram(x, edges, weights=w)
    assert np.all(np.abs(contents - w.sum() / bins) <= w.max() * (1 + 1e-9))
    assert edges[0] == x[w > 0].min()
    assert edges[-1] == x[w > 0].max()
    assert np.all(np.diff(edges) > 0)


def test_equal_yield_of_equal_weights_is_exact(key):
    x = np.asarray(sample(key, 60)[0])
    assert np.histogram(x, yield_edges(x, 5, weights=np.ones(60)))[0].tolist() == [12] * 5


def test_what_is_refused():
    with pytest.raises(ValueError, match="one weight per value"):
        quantiles(np.ones(3), PROBABILITIES, weights=np.ones(2))
    with pytest.raises(ValueError, match="divide percentages by 100"):
        quantiles(np.ones(3), np.array([25.0]))
    with pytest.raises(ValueError, match="0 bins"):
        equal_yield_edges(np.ones(3), 0)
