"""Bandwidths: of the bins, of the events with SciPy as the reference, and their annealing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy.stats import gaussian_kde

from pipeline.relax.bandwidths import anneal, fraction_of_bin, fraction_of_narrowest, scott, silverman

RULES = {"scott": scott, "silverman": silverman}
COMPILED = {name: jax.jit(rule) for name, rule in RULES.items()}
SLOPES = {name: jax.jit(jax.value_and_grad(rule, (0, 1))) for name, rule in RULES.items()}
INF = np.inf


@jax.jit
def both_fractions(edges):
    slopes = jax.jacrev(fraction_of_bin)(edges, 0.25)
    return fraction_of_bin(edges, 0.25), slopes, fraction_of_narrowest(edges, 0.25)


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ([0.0, 4.0, 6.0, 7.0, 17.0], [4, 2, 1, 1, 10]),
        ([0.0, 3.0], [3, 3]),
        ([-INF, 0.0, 4.0, 5.0], [4, 4, 1, 1]),
        ([-INF, 0.0, 1.0, INF], [1, 1, 1, 1]),
        ([0.0, 4.0, 6.0, INF], [4, 2, 2, 2]),
        ([0.0, 1.0, INF], [1, 1, 1]),
    ],
)
def test_fractions_of_the_narrower_bin(edges, expected):
    per_edge, slopes, narrowest = both_fractions(np.array(edges))
    assert per_edge.tolist() == [width / 4 for width in expected]
    assert narrowest == min(expected) / 4
    assert np.all(np.isfinite(slopes))


def test_fractions_in_the_dtype_of_the_edges():
    assert fraction_of_bin(np.float32([0, 1, 3]), 0.1).dtype == np.float32
    assert fraction_of_narrowest(np.array([0, 2, 5]), 0.5) == 1


def test_gradients_of_the_fractions():
    edges = jnp.array([0.0, 4.0, 6.0, 7.0, 17.0])
    for rule in (fraction_of_bin, fraction_of_narrowest):
        check_grads(
            jax.jit(rule), (edges, jnp.asarray(0.3)), order=1, modes=("fwd", "rev"), atol=1e-8, rtol=1e-8
        )


@pytest.mark.parametrize("rule", [fraction_of_bin, fraction_of_narrowest])
@pytest.mark.parametrize("edges", [[0.0, 1, 1], [0.0, 2, 1], [-INF, INF], [-INF, 0.0, INF], [0.0, np.nan, 1]])
def test_edges_without_a_bandwidth_are_refused_and_show_when_traced(rule, edges):
    with pytest.raises(ValueError, match="strictly rising"):
        rule(np.array(edges), 0.5)
    assert np.any(np.isnan(jax.jit(rule)(np.array(edges), 0.5)))


@pytest.mark.parametrize("rule", [fraction_of_bin, fraction_of_narrowest])
def test_bad_fractions_and_single_edges_are_refused(rule):
    for fraction in (0.0, -1.0, np.nan, INF):
        with pytest.raises(ValueError, match="finite and above 0"):
            rule(np.array([0.0, 1.0]), fraction)
    with pytest.raises(ValueError, match="2 or more"):
        rule(np.array([0.0]), 0.5)


def reference(rule, values, weights=None):
    """Return the kernel's standard deviation of SciPy's density estimate."""
    return np.sqrt(gaussian_kde(values, bw_method=rule, weights=weights).covariance[0, 0])


def sample(key, n=40):
    x, w = jax.random.split(key)
    return 100 + 15 * jax.random.normal(x, (n,)), jax.random.uniform(w, (n,), minval=0.1, maxval=3)


@pytest.mark.parametrize("rule", RULES)
@given(
    events=st.lists(
        st.tuples(st.integers(-1000, 1000), st.integers(1, 100)),
        min_size=5,
        max_size=5,
        unique_by=lambda e: e[0],
    )
)
def test_rules_equal_scipy(rule, events):
    values, weights = np.array(events, dtype=float).T / 7
    np.testing.assert_allclose(COMPILED[rule](values), reference(rule, values), rtol=1e-12)
    weighted = COMPILED[rule](values, weights)
    np.testing.assert_allclose(weighted, reference(rule, values, weights), rtol=1e-11)


@pytest.mark.parametrize("rule", RULES)
def test_rules_by_their_formula(key, rule):
    x, w = (np.asarray(array) for array in sample(key))
    effective = w.sum() ** 2 / (w**2).sum()
    variance = np.cov(x, aweights=w / w.sum())
    factor = {"scott": 1, "silverman": (4 / 3) ** 0.2}[rule]
    expected = factor * np.sqrt(variance) * effective**-0.2
    assert RULES[rule](x, w) == pytest.approx(expected, rel=1e-13)
    assert RULES[rule](x + 1e6, 1e3 * w) == pytest.approx(expected, rel=1e-9)
    assert RULES[rule](x.astype(np.float32), w.astype(np.float32)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("padding", [np.nan, INF, -INF, 1e300])
@pytest.mark.parametrize("rule", RULES)
def test_padding_changes_nothing(key, rule, padding):
    x, w = sample(key, 10)
    padded = np.concatenate([[padding], x, [padding]]), np.concatenate([[0], w, [0]])
    value, slopes = SLOPES[rule](*padded)
    expected, bare = SLOPES[rule](x, w)
    assert value == pytest.approx(float(expected), rel=1e-14)
    for slope, real in zip(slopes, bare, strict=True):
        np.testing.assert_allclose(slope, np.concatenate([[0], real, [0]]), rtol=1e-11, atol=1e-16)


@pytest.mark.parametrize("rule", RULES)
def test_gradients_of_the_rules(key, rule):
    x, w = sample(key, 8)
    w = w.at[3].multiply(-0.2)  # a negative weight is one like others
    check_grads(COMPILED[rule], (x, w), order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
    forward, reverse = (jax.jit(route(RULES[rule], (0, 1)))(x, w) for route in (jax.jacfwd, jax.jacrev))
    for one, other in zip(forward, reverse, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-14)


def test_derivative_of_two_events():
    # sigma = (b - a) / sqrt(2), n_eff = 2
    value, slopes = jax.value_and_grad(scott)(jnp.array([1.0, 4.0]))
    assert value == pytest.approx(3 / np.sqrt(2) * 2**-0.2, rel=1e-15)
    assert slopes.tolist() == pytest.approx([-(0.5**0.5) * 2**-0.2, 0.5**0.5 * 2**-0.2], rel=1e-14)


@pytest.mark.parametrize(
    ("values", "weights"),
    [
        ([], []),
        ([1.0, 2.0], [0.0, 0.0]),
        ([1.0, 2.0], [0.0, 3.0]),
        ([0.1, 0.1, 0.1], [1.0, 2.0, 0.3]),
        ([1.0, 2.0, 4.0], [1.0, 1.0, -2.0]),
        ([1.0, 2.0, 4.0], [-1.0, -1.0, -2.0]),
        ([1.0, 2.0, 4.0], [3.0, -1.0, -1.0]),  # n_eff below 1
        ([0.0, 10.0, 5.0, 5.0], [1.0, 1.0, 1.0, -1.0]),  # n_eff of 1
        ([0.0, 5.0, 10.0], [-1.0, 4.0, -1.0]),  # negative variance
        ([1.0, np.nan, 4.0], [1.0, 1.0, 1.0]),
    ],
)
def test_what_defines_no_bandwidth_is_nan(values, weights):
    for rule in COMPILED.values():
        assert np.isnan(rule(np.array(values), np.array(weights)))


def test_rules_refuse_weights_of_another_shape():
    with pytest.raises(ValueError, match="one weight per value"):
        scott(np.ones(3), np.ones(2))


positive = st.floats(1e-6, 1e6)
compiled_anneal = jax.jit(anneal)


@given(initial=positive, final=positive, progress=st.floats(0, 1, exclude_max=True))
def test_annealing_is_geometric(initial, final, progress):
    expected = initial * (final / initial) ** progress
    assert anneal(initial, final, progress) == expected
    np.testing.assert_allclose(expected, initial ** (1 - progress) * final**progress, rtol=1e-14)
    np.testing.assert_allclose(compiled_anneal(initial, final, progress), expected, rtol=1e-14)


@given(initial=positive, final=positive)
def test_annealing_has_exact_ends(initial, final):
    for route in (anneal, compiled_anneal):
        assert [float(route(initial, final, t)) for t in (-0.5, 0.0)] == [initial] * 2
        assert [float(route(initial, final, t)) for t in (1.0, 1.5, INF)] == [final] * 3


def test_annealing_takes_integers_and_float32():
    assert anneal(4, 1, 0.5) == 2
    assert anneal(4, 1, 2) == 1
    half = anneal(jnp.float32(4), 1.0, jnp.asarray(0.5))
    assert half.dtype == np.float32
    assert half == 2
    assert np.isnan(anneal(4.0, 1.0, np.nan))


def test_gradients_of_annealing():
    at = (jnp.asarray(20.0), jnp.asarray(8.0), jnp.asarray(0.3))
    check_grads(compiled_anneal, at, order=2, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
    width, slopes = jax.jit(jax.value_and_grad(anneal, (0, 1, 2)))(*at)
    expected = [0.7 * width / 20, 0.3 * width / 8, width * np.log(8 / 20)]
    np.testing.assert_allclose(slopes, expected, rtol=1e-14)
    assert [float(slope) for slope in jax.grad(anneal, (0, 1))(20.0, 8.0, 1.2)] == [0, 1]


@pytest.mark.parametrize("name", ["initial", "final"])
def test_annealing_refuses_widths_of_zero(name):
    with pytest.raises(ValueError, match=rf"anneal: {name} 0.0"):
        anneal(**{"initial": 1.0, "final": 1.0, "progress": 0.5, name: 0.0})
