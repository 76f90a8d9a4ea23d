"""Free bin edges: ordered whatever the logits, exact ends, the way back, derivatives, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jax.test_util import check_grads

from pipeline.relax.edges import edge_logits, ordered_edges

wild = st.lists(st.floats(-50, 50), min_size=6, max_size=6)
tame = st.lists(st.floats(-10, 10), min_size=6, max_size=6)
LOW, HIGH = 25.0, 300.0


@jax.jit
def made(logits, low, high, smallest):
    return ordered_edges(logits, low, high, smallest=smallest)


@jax.jit
def way_back(edges, smallest):
    return edge_logits(edges, smallest=smallest)


slopes_of = jax.jit(jax.jacrev(made))


@pytest.mark.parametrize("smallest", [0.0, 2.5])
def test_widths_follow_the_formula(key, smallest):
    logits = jax.random.normal(key, (5,))
    share = np.exp(logits) / np.exp(logits).sum()
    edges = ordered_edges(logits, LOW, HIGH, smallest=smallest)
    np.testing.assert_allclose(
        np.diff(edges), smallest + (HIGH - LOW - 5 * smallest) * share, rtol=1e-13, atol=0
    )


@given(logits=wild)
@example(logits=[50.0, -50.0, -50.0, -50.0, -50.0, 50.0])
@example(logits=[-50.0, -50.0, -50.0, -50.0, -50.0, 50.0])
def test_wild_logits_keep_the_order_and_the_ends(logits):
    for dtype in (np.float32, np.float64):
        low, high = dtype(-LOW), dtype(HIGH)
        apart = 8 * np.finfo(dtype).eps * high
        for smallest, least in ((dtype(0), 0), (apart, np.finfo(dtype).tiny), (dtype(20), 19.99)):
            edges = np.asarray(made(np.asarray(logits, dtype=dtype), low, high, smallest))
            assert edges.dtype == dtype
            assert np.all(np.diff(edges) >= least)
            assert edges[0] == low
            assert edges[-1] == high


@given(logits=wild)
def test_only_the_resolution_limits_a_narrow_bin(logits):
    # From 0 up, narrow bins first, floating-point numbers resolve every width.
    edges = made(np.sort(logits), 0.0, 1.0, 0.0)
    assert np.all(np.diff(edges[:-1]) > 0)
    assert edges[-1] >= edges[-2]


@pytest.mark.parametrize("smallest", [0.0, 3.0])
def test_the_logits_of_given_edges_reproduce_them(smallest):
    edges = np.array([-20.0, -3.0, 1.0, 5.5, 100.0])
    logits = edge_logits(edges, smallest=smallest)
    assert abs(float(np.mean(logits))) < 1e-15
    np.testing.assert_allclose(made(logits, -20.0, 100.0, smallest), edges, rtol=1e-13)


@given(logits=tame)
def test_the_edges_of_given_logits_give_them_back_up_to_a_constant(logits):
    back = way_back(made(np.array(logits), LOW, HIGH, 2.0), 2.0)
    np.testing.assert_allclose(back, np.array(logits) - np.mean(logits), atol=1e-6)


def test_integer_edges_start_at_their_widths():
    np.testing.assert_allclose(
        edge_logits(np.array([0, 1, 3, 7])), np.log([0.5, 1, 2]), rtol=1e-14, atol=1e-15
    )


def test_a_constant_in_the_logits_changes_nothing(key):
    logits = jax.random.normal(key, (4,))
    np.testing.assert_allclose(
        ordered_edges(logits + 7.5, LOW, HIGH), ordered_edges(logits, LOW, HIGH), rtol=1e-14
    )


def test_one_bin_has_the_two_ends():
    assert ordered_edges(np.array([3.0]), LOW, HIGH).tolist() == [LOW, HIGH]


def test_gradients(key):
    at = (jax.random.normal(key, (5,)), jnp.asarray(LOW), jnp.asarray(HIGH), jnp.asarray(4.0))
    check_grads(made, at, order=2, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
    forward, reverse = (jax.jit(route(made, (0, 1, 2, 3)))(*at) for route in (jax.jacfwd, jax.jacrev))
    for one, other in zip(forward, reverse, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    assert np.all(forward[0][1:-1] != 0)
    assert not np.any(forward[0][0])
    assert not np.any(forward[0][-1])


def test_derivative_of_two_bins():
    edges, slope = jax.jvp(lambda logit: made(jnp.stack([logit, 0.0]), 1.0, 5.0, 0.5), (0.3,), (1.0,))
    share = 1 / (1 + np.exp(-0.3))
    assert edges[1] == pytest.approx(1 + 0.5 + 3 * share, rel=1e-15)
    assert slope.tolist() == pytest.approx([0, 3 * share * (1 - share), 0], rel=1e-14)


@given(logits=tame)
def test_no_logit_is_dead(logits):
    assert np.all(slopes_of(np.array(logits), LOW, HIGH, 1.0)[1:-1] != 0)


@given(logits=wild)
def test_wild_logits_have_finite_gradients(logits):
    assert np.all(np.isfinite(slopes_of(np.array(logits), LOW, HIGH, 0.0)))


def test_edges_that_coincide_keep_their_gradient():
    logits = np.array([0.0, -45.0, -45.0, -45.0])
    assert made(logits, 0.0, HIGH, 0.0).tolist() == [0, HIGH, HIGH, HIGH, HIGH]
    slopes = slopes_of(logits, 0.0, HIGH, 0.0)[1]
    np.testing.assert_allclose(slopes[1:], -HIGH * np.exp(logits[1:]), rtol=1e-13)


def test_gradients_of_the_logits():
    edges = jnp.array([0.0, 1.0, 4.0, 6.0])
    check_grads(way_back, (edges, jnp.asarray(0.3)), order=1, atol=1e-6, rtol=1e-6)


def test_stacks_of_logits(key):
    logits = jax.random.normal(key, (3, 4))
    stacked = jax.jit(jax.vmap(lambda one: ordered_edges(one, LOW, HIGH)))(logits)
    for edges, one in zip(stacked, logits, strict=True):
        np.testing.assert_allclose(edges, made(one, LOW, HIGH, 0.0), rtol=1e-14)


@pytest.mark.parametrize(
    ("low", "high", "smallest"),
    [
        (1.0, 1.0, 0.0),
        (2.0, 1.0, 0.0),
        (0.0, 3.0, 1.0),
        (0.0, 3.0, -0.1),
        (0.0, np.inf, 0.0),
        (np.nan, 1.0, 0.0),
    ],
)
def test_no_room_is_refused_and_shows_when_traced(low, high, smallest):
    with pytest.raises(ValueError, match="3 bins of at least"):
        ordered_edges(np.zeros(3), low, high, smallest=smallest)
    if smallest >= 0:
        assert np.all(np.isnan(made(np.zeros(3), low, high, smallest)[1:-1]))


def test_no_logits_are_refused():
    with pytest.raises(ValueError, match="one per bin"):
        ordered_edges(np.zeros(0), 0.0, 1.0)


@pytest.mark.parametrize(
    ("edges", "smallest"),
    [([0.0, 1, 1], 0.0), ([0.0, 2, 1], 0.0), ([0.0, 1, 3], 1.0), ([0.0, 1, np.inf], 0.0)],
)
def test_edges_without_logits_are_refused_and_show_when_traced(edges, smallest):
    with pytest.raises(ValueError, match="each above the one before"):
        edge_logits(np.array(edges), smallest=smallest)
    assert np.all(np.isnan(way_back(np.array(edges), smallest)))


def test_a_single_edge_is_refused():
    with pytest.raises(ValueError, match="2 or more"):
        edge_logits(np.zeros(1))
