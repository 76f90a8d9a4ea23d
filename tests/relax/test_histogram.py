"""The histogram: np.histogram in the limit, derivatives three ways, chunks, flow, open ends, bad events."""

from functools import partial

import boost_histogram
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from pipeline.relax import Exact, Relaxed, histogram
from pipeline.relax.histogram import DIRECT_UP_TO, bias, sumw2

EDGES = np.array([-2.0, -0.5, 0.0, 1.0, 3.0])
events = st.lists(st.tuples(st.integers(-8, 8), st.integers(-3, 3)), min_size=6, max_size=6)


def with_flow(values, weights, edges, flow):
    """Return np.histogram with the last edge closed, its flow kept or folded."""
    contents, _ = np.histogram(values, edges, weights=weights)
    below, above = weights[values < edges[0]].sum(), weights[values > edges[-1]].sum()
    if flow == "keep":
        return np.concatenate([[below], contents, [above]])
    if flow == "fold":
        contents[0], contents[-1] = contents[0] + below, contents[-1] + above
    return contents


@eqx.filter_jit
def contents_of(relax, values, weights, flow):
    return relax.histogram(values, EDGES, bandwidth=1e-3, weights=weights, flow=flow)


def sample(key, n, variations=()):
    x, w = jax.random.split(key)
    return jax.random.normal(x, (*variations, n)), jax.random.normal(w, (n,)) + 0.3


@pytest.mark.parametrize("flow", ["drop", "fold", "keep"])
@given(events=events)
@settings(deadline=None, max_examples=25)
def test_exact_equals_numpy_on_the_edges_too(flow, events):
    values, weights = np.array(events, dtype=float).T
    values = values / 2  # halves: many sit on an edge, the last one too
    expected = with_flow(values, weights, EDGES, flow)
    assert np.array_equal(contents_of(Exact(), values, weights, flow), expected)
    assert np.array_equal(contents_of(Exact(), values, None, "drop"), np.histogram(values, EDGES)[0])


@given(events=events)
@settings(deadline=None, max_examples=25)
def test_exact_equals_boost_histogram_with_its_flow(events):
    values, weights = np.array(events, dtype=float).T
    values = np.where(values / 2 == EDGES[-1], EDGES[-1] - 0.1, values / 2)  # whose last edge is open
    peer = boost_histogram.Histogram(
        boost_histogram.axis.Variable(EDGES), storage=boost_histogram.storage.Weight()
    )
    peer.fill(values, weight=weights)
    assert np.array_equal(contents_of(Exact(), values, weights, "keep"), peer.view(flow=True)["value"])
    squares = Exact().sumw2(values, EDGES, weights=weights, flow="keep")
    assert np.array_equal(squares, peer.view(flow=True)["variance"])


@pytest.mark.parametrize("flow", ["drop", "fold", "keep"])
@given(events=events)
@settings(deadline=None, max_examples=25)
def test_narrow_bandwidth_equals_numpy(flow, events):
    values, weights = np.array(events, dtype=float).T
    values = values / 2 + 0.25
    contents = contents_of(Relaxed(1.0), values, weights, flow)
    np.testing.assert_allclose(contents, with_flow(values, weights, EDGES, flow), rtol=1e-13, atol=1e-13)


def test_exact_compares_float32_values_with_float64_edges_as_numpy_does():
    values, edges = np.float32([0.1, 0.2, 0.3]), np.array([0.1, 0.2, 0.3])
    assert np.array_equal(Exact().histogram(values, edges), np.histogram(values, edges)[0])


def test_exact_under_jit_with_stacked_values_and_weights(key):
    values, weights = sample(key, 50, (3,))
    contents = jax.jit(lambda x, w: Exact().histogram(x, EDGES, bandwidth=0.1, weights=w))(values, weights)
    expected = [np.histogram(row, EDGES, weights=weights)[0] for row in values]
    np.testing.assert_allclose(contents, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("n", [100, DIRECT_UP_TO])
def test_contents_follow_the_formula_for_few_and_many_events(n, key):
    values, weights = sample(key, n)
    bandwidth = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    cdf = jax.scipy.stats.norm.cdf((EDGES[None, :] - values[:, None]) / bandwidth[None, :])
    expected = weights @ jnp.diff(cdf, axis=1)
    contents = histogram(values, EDGES, bandwidth=bandwidth, weights=weights)
    np.testing.assert_allclose(contents, expected, rtol=1e-12, atol=1e-11)


PER_EDGE = [0.2, 0.3, 0.4, 0.5, 0.6]


@pytest.mark.parametrize(("flow", "bandwidth"), [("drop", 0.4), ("fold", PER_EDGE), ("keep", PER_EDGE)])
def test_gradients_in_all_four_arrays(flow, bandwidth, key):
    values, weights = sample(key, 7, (2,))

    @jax.jit
    def contents(values, weights, edges, bandwidth):
        return Relaxed(1.0).histogram(values, edges, bandwidth=bandwidth, weights=weights, flow=flow)

    at = (values, weights, jnp.asarray(EDGES), jnp.asarray(bandwidth))
    check_grads(contents, at, order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
    forward, reverse = (jax.jit(route(contents, range(4)))(*at) for route in (jax.jacfwd, jax.jacrev))
    for first, second in zip(forward, reverse, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("half", [1000, DIRECT_UP_TO])
def test_chunks_add_up_to_the_whole(half, key):
    values, weights = sample(key, 2 * half)

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 2))
    def slopes(values, weights, edges):
        return jnp.sum(histogram(values, edges, bandwidth=0.3, weights=weights) * jnp.arange(1.0, 5.0))

    edges = jnp.asarray(EDGES)
    whole, by_whole = slopes(values, weights, edges)
    first, by_first = slopes(values[:half], weights[:half], edges)
    second, by_second = slopes(values[half:], weights[half:], edges)
    np.testing.assert_allclose(whole, first + second, rtol=1e-12)
    np.testing.assert_allclose(by_whole[0], jnp.concatenate([by_first[0], by_second[0]]), rtol=1e-12)
    np.testing.assert_allclose(by_whole[1], by_first[1] + by_second[1], rtol=1e-11)


def test_analytic_derivative_of_a_gaussian_bin():
    mean, sigma, s, low, high = 0.3, 0.8, 0.25, -0.2, 0.9
    uniform = (jnp.arange(20_000.0) + 0.5) / 20_000
    quantiles = jax.scipy.stats.norm.ppf(uniform)

    def content(mean):
        return histogram(mean + sigma * quantiles, jnp.array([low, high]), bandwidth=s)[0] / uniform.size

    spread = np.hypot(sigma, s)  # the smeared Gaussian is a Gaussian

    def density(edge):
        return np.exp(-0.5 * ((edge - mean) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))

    assert jax.jit(jax.grad(content))(mean) == pytest.approx(density(low) - density(high), rel=1e-6)


def test_one_event_in_one_bin_has_the_gaussians_own_derivatives():
    def content(x, edges, s):
        return histogram(x.reshape(1), edges, bandwidth=s)[0]

    x, edges, s = jnp.asarray(0.4), jnp.array([0.0, 1.0]), jnp.asarray(0.5)
    z = (np.asarray(edges) - 0.4) / 0.5
    phi = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    by_x, by_edges, by_s = jax.jit(jax.grad(content, argnums=(0, 1, 2)))(x, edges, s)
    assert by_x == pytest.approx((phi[0] - phi[1]) / 0.5, rel=1e-13)
    np.testing.assert_allclose(by_edges, [-phi[0] / 0.5, phi[1] / 0.5], rtol=1e-13)
    assert by_s == pytest.approx((z[0] * phi[0] - z[1] * phi[1]) / 0.5, rel=1e-13)


def test_an_event_on_an_edge_has_a_derivative():
    slope = jax.grad(lambda x: histogram(x, jnp.array([0.0, 9.0]), bandwidth=0.5)[0])(jnp.zeros(1))
    assert slope[0] == pytest.approx(1 / (0.5 * np.sqrt(2 * np.pi)), rel=1e-12)


def test_tails_keep_their_relative_precision_in_float32():
    values = jnp.float32([-8.0, 0.0, 8.0])
    contents = histogram(values[:1], jnp.float32([0.0, 1.0]), bandwidth=1.0)
    mirrored = histogram(values[2:], jnp.float32([-1.0, 0.0]), bandwidth=1.0)
    assert contents[0] == pytest.approx(6.2209605e-16 - 1.1285884e-19, rel=1e-5)
    assert mirrored[0] == contents[0]


def test_infinite_edges_are_fold(key):
    values, weights = sample(key, 20)
    opened = np.concatenate([[-np.inf], EDGES[1:-1], [np.inf]])

    def total(values, weights, edges, bandwidth):
        return jnp.sum(histogram(values, edges, bandwidth=bandwidth, weights=weights) * jnp.arange(1.0, 5.0))

    contents = histogram(values, opened, bandwidth=0.3, weights=weights)
    folded = histogram(values, EDGES, bandwidth=0.3, weights=weights, flow="fold")
    gradients = jax.jit(jax.grad(total, argnums=range(4)))(values, weights, jnp.asarray(opened), 0.3)
    assert np.array_equal(contents, folded)
    np.testing.assert_allclose(np.sum(contents), np.sum(weights), rtol=1e-12)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
    assert gradients[2][0] == gradients[2][-1] == 0


@jax.jit
@partial(jax.grad, argnums=range(3), has_aux=True)
def with_flow_bins(values, edges, bandwidth):
    contents = histogram(values, edges, bandwidth=bandwidth, flow="keep")
    return jnp.sum(contents * jnp.arange(1.0, 7.0, dtype=jnp.float32)), contents


@pytest.mark.parametrize("far", [-np.inf, -1e38, -1e4, 1e4, 1e38, np.inf])
def test_far_events_are_outside_with_finite_gradients_in_float32(far):
    gradients, contents = with_flow_bins(np.float32([far]), np.float32(EDGES), np.float32(0.5))
    assert contents.tolist() == ([1, 0, 0, 0, 0, 0] if far < 0 else [0, 0, 0, 0, 0, 1])
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize("where", ["value", "weight", "infinite weight"])
@pytest.mark.parametrize("edges", [EDGES, np.array([-np.inf, np.inf])])
@pytest.mark.parametrize("n", [6, DIRECT_UP_TO])
def test_a_bad_event_poisons_all_bins_of_its_set(where, edges, n, key):
    values, weights = sample(key, n, (2,))
    weights = jnp.broadcast_to(weights, values.shape).at[1, 3].set(0.0)  # of weight 0, too
    if where == "value":
        values = values.at[1, 3].set(jnp.nan)
    else:
        weights = weights.at[1, 3].set(jnp.nan if where == "weight" else jnp.inf)
    for relax in (Relaxed(1.0), Exact()):
        contents = relax.histogram(values, edges, bandwidth=0.3, weights=weights)
        assert np.all(np.isfinite(contents[0]))
        assert np.all(np.isnan(contents[1]))


@pytest.mark.parametrize("n", [5, DIRECT_UP_TO])
def test_shapes_of_values_and_weights(n, key):
    values, weights = sample(key, n, (3,))
    stacked = jnp.stack([weights, 2 * weights, -weights])
    for relax in (Relaxed(1.0), Exact()):
        rows = [
            relax.histogram(row, EDGES, bandwidth=0.3, weights=w)
            for row, w in zip(values, stacked, strict=True)
        ]
        np.testing.assert_allclose(
            relax.histogram(values, EDGES, bandwidth=0.3, weights=stacked), jnp.stack(rows)
        )
        one_set = relax.histogram(values[0], EDGES, bandwidth=0.3, weights=stacked)
        np.testing.assert_allclose(one_set[1], 2 * one_set[0], rtol=1e-14)
        assert relax.histogram(values[:, :0], EDGES, bandwidth=0.3).tolist() == [[0] * 4] * 3


def test_float64_weights_are_not_rounded_to_float32_values():
    contents = Relaxed(1.0).histogram(
        jnp.zeros(2, dtype=jnp.float32), EDGES, bandwidth=0.1, weights=jnp.ones(2)
    )
    assert contents.dtype == jnp.float64


def test_permuting_events_changes_nothing_beyond_rounding(key):
    values, weights = sample(key, 500)
    order = jax.random.permutation(key, 500)
    whole = histogram(values, EDGES, bandwidth=0.2, weights=weights)
    shuffled = histogram(values[order], EDGES, bandwidth=0.2, weights=weights[order])
    np.testing.assert_allclose(whole, shuffled, rtol=1e-12)


def test_bias_is_what_the_relaxation_adds(key):
    values, weights = sample(key, 300)
    hard, _ = np.histogram(values, EDGES, weights=weights)
    relaxed = histogram(values, EDGES, bandwidth=0.2, weights=weights)
    found = bias(values, EDGES, bandwidth=0.2, weights=weights)
    np.testing.assert_allclose(found, relaxed - hard, rtol=1e-12, atol=1e-14)
    assert np.max(np.abs(bias(values, EDGES, bandwidth=1e-12, weights=weights))) < 1e-12


@pytest.mark.parametrize("flow", ["drop", "keep"])
def test_sum_of_squared_weights_is_that_of_hard_bins_in_the_limit(flow, key):
    values, weights = sample(key, 200)
    expected = with_flow(values, weights**2, EDGES, flow)
    exact = Exact().sumw2(values, EDGES, weights=weights, flow=flow)
    relaxed = Relaxed(1.0).sumw2(values, EDGES, bandwidth=1e-9, weights=weights, flow=flow)
    np.testing.assert_allclose(exact, expected, rtol=1e-13)
    np.testing.assert_allclose(relaxed, expected, rtol=1e-12)
    np.testing.assert_allclose(sumw2(values, EDGES, bandwidth=0.3), histogram(values, EDGES, bandwidth=0.3))


@pytest.mark.parametrize("flow", ["drop", "fold", "keep"])
@pytest.mark.parametrize("n", [3, DIRECT_UP_TO])
def test_wrong_traced_arguments_make_everything_nan(flow, n):
    outer = EDGES.copy()
    outer[0] = 10.0
    for relax in (Relaxed(1.0), Exact()):
        for edges in (EDGES[::-1], outer, np.where(EDGES == 0, np.nan, EDGES)):
            contents = jax.jit(lambda e, r=relax: r.histogram(jnp.zeros(n), e, bandwidth=0.1, flow=flow))(
                edges
            )
            assert np.all(np.isnan(contents))
    for bandwidth in (0.0, -0.2, np.array([0.1, 0.1, -0.1, 0.1, 0.1])):
        contents = jax.jit(lambda s: histogram(jnp.zeros(n), EDGES, bandwidth=s, flow=flow))(bandwidth)
        assert np.all(np.isnan(contents))


@pytest.mark.parametrize("x64", [False, True])
def test_exact_contents_of_many_float32_weights_do_not_drift(x64):
    n, edges = 300_000, np.array([-1.0, 1.0], dtype=np.float32)
    values, weights = np.zeros(n, dtype=np.float32), np.full(n, 0.1, dtype=np.float32)
    with jax.enable_x64(x64):
        exact = Exact().histogram(values, edges, weights=weights)
        relaxed = histogram(values, edges, bandwidth=0.01, weights=weights)
        np.testing.assert_allclose(exact, n * weights[:1].astype(float), rtol=1e-7)
        np.testing.assert_allclose(relaxed, exact, rtol=1e-7)


def test_second_derivatives_survive_sentinels_in_few_float32_events():
    values = np.float32([0.1, 1e20, -1e20, 0.4])
    curvature = jax.hessian(lambda s: histogram(values, np.float32([-1, 0, 1]), bandwidth=s)[0])(
        np.float32(0.5)
    )
    assert np.isfinite(curvature)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"edges": np.array([1.0])}, "allowed: one axis of 2 or more"),
        ({"edges": EDGES[::-1]}, r"\[3.0, 1.0, .* allowed: rising numbers"),
        ({"bandwidth": 0.0}, "bandwidth 0.0; allowed: above 0"),
        ({"bandwidth": np.ones(3)}, "one per edge"),
        ({"weights": np.ones(4)}, "with the same events"),
        ({"flow": "wrap"}, "allowed: drop, fold, keep|flow"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    usual = {"edges": EDGES, "bandwidth": 0.1, "weights": np.ones(5), "flow": "drop"} | arguments
    with pytest.raises((ValueError, TypeError), match=message):
        histogram(np.zeros(5), **usual)
