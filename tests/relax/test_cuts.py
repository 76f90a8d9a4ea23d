"""Cuts and their logic: the exact limit, gradients two ways, safety far from the cut and under padding."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from pipeline.relax import Exact, Relaxed

NARROW = 1e-6  # below the distances the strategies leave between values and thresholds, by a factor of 1000
grid = st.lists(st.integers(-1000, 1000), min_size=12, max_size=12)


def values_of(numbers):
    return np.array(numbers, dtype=float).reshape(3, 4)


@eqx.filter_jit
def all_cuts(relax, x, low, high, real):
    plain = [relax.greater(x, low), relax.less(x, low), relax.between(x, low, high)]
    masked = [relax.greater(x, low, mask=real), relax.less(x, low, mask=real.astype(float))]
    return jnp.stack([*plain, *masked, relax.between(x, low, high, mask=real)])


@pytest.mark.parametrize("edge", ["logistic", "gaussian"])
@given(numbers=grid, low=st.integers(-1000, 1000), high=st.integers(-1000, 1000), mask=grid)
@settings(deadline=None, max_examples=50)
def test_narrow_cuts_equal_numpy(edge, numbers, low, high, mask):
    x, real = values_of(numbers), values_of(mask) > 0
    low, high = (
        np.array(low + 0.5),
        np.array(high + 0.5),
    )  # arrays, so that all examples share one compilation
    above, below, inside = x > low, x < low, (low < x) & (x < high)
    expected = [above, below, inside, above & real, below & real, inside & real]
    for relax in (Relaxed(NARROW, edge=edge), Exact()):
        assert np.array_equal(all_cuts(relax, x, low, high, real), expected)


@given(first=grid, second=grid)
@settings(deadline=None, max_examples=50)
def test_logic_of_hard_decisions_equals_numpy(first, second):
    a, b = values_of(first) > 0, values_of(second) > 0
    for relax in (Relaxed(1.0), Exact()):
        assert np.array_equal(relax.all(a, b), a & b)
        assert np.array_equal(relax.any(a.astype(float), b.astype(float)), a | b)
        assert np.array_equal(relax.not_(a.astype(float)), ~a)
        assert np.array_equal(relax.sum(values_of(first)), values_of(first).sum(axis=-1))


def test_exact_cuts_are_strict():
    x = jnp.array([1.0, 2.0, 3.0])
    assert Exact().greater(x, 2.0).tolist() == [0, 0, 1]
    assert Exact().less(x, 2.0).tolist() == [1, 0, 0]
    assert Exact().between(x, 1.0, 3.0).tolist() == [0, 1, 0]
    assert Relaxed(0.1).greater(x, 2.0)[1] == 0.5


def test_exact_compares_as_numpy_does():
    """Arrays in the wider dtype; a single threshold, of a free parameter too, as a Python number."""
    x, threshold = np.float32([0.1]), np.array(0.1)
    assert np.array_equal(Exact().greater(x, threshold[None]), x > threshold[None])
    for single in (threshold, jnp.asarray(threshold), 0.1):
        assert np.array_equal(Exact().greater(x, single), x > 0.1)
    assert Exact().greater(x, threshold).dtype == np.float32


@pytest.mark.parametrize("edge", ["logistic", "gaussian"])
def test_gradients_of_cuts(edge, key):
    x = jax.random.normal(key, (3, 4))

    @jax.jit
    def total(x, low, high, width):
        relax = Relaxed(width, edge=edge)
        decisions = (relax.greater(x, low), relax.less(x, high), relax.between(x, low, high))
        return jnp.sum(relax.any(relax.all(*decisions), relax.not_(decisions[0])) * x)

    at = (x, jnp.asarray(-0.3), jnp.asarray(0.8), jnp.asarray(0.4))
    check_grads(total, at, order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
    routes = (jax.jit(route(total, range(4)))(*at) for route in (jax.jacfwd, jax.jacrev))
    for forward, reverse in zip(*routes, strict=True):
        np.testing.assert_allclose(forward, reverse, rtol=1e-12, atol=1e-14)


def test_derivatives_at_the_cut_are_the_edges_own():
    def slope(edge):
        return jax.jit(jax.grad(lambda x: Relaxed(0.5, edge=edge).greater(x, 2.0)))(2.0)

    assert slope("logistic") == pytest.approx(1 / (4 * 0.5), rel=1e-14)
    assert slope("gaussian") == pytest.approx(1 / (0.5 * np.sqrt(2 * np.pi)), rel=1e-14)


@partial(jax.jit, static_argnames="edge")
@partial(jax.value_and_grad, argnums=(0, 1, 2))
def decide(x, threshold, width, edge):
    return jnp.sum(Relaxed(width, edge=edge).greater(x, threshold))


@pytest.mark.parametrize("edge", ["logistic", "gaussian"])
@pytest.mark.parametrize("distance", [-np.inf, -1e38, -1e4, -90.0, 90.0, 1e4, 1e38, np.inf])
def test_far_from_the_cut_float32_reaches_the_ends_with_finite_gradients(edge, distance):
    decision, gradients = decide(np.float32([distance]), np.float32(0), np.float32(1), edge=edge)
    assert decision.dtype == jnp.float32
    assert decision == pytest.approx(
        float(distance > 0), abs=1e-38 if edge == "gaussian" else 1e-37 + np.exp(-90)
    )
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


MASK = np.array([[1, 1, 0], [0, 0, 0]])


@jax.jit
@partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
def masked_cuts(x, threshold, width):
    relax = Relaxed(width)
    decisions = relax.greater(x, threshold, mask=MASK) + relax.between(x, 0.0, threshold, mask=MASK)
    return jnp.sum(decisions), (decisions, relax.less(x, threshold, mask=MASK))


@pytest.mark.parametrize("padding", [np.nan, np.inf, -np.inf])
def test_padded_objects_decide_zero_and_reach_no_gradient(padding):
    x = np.array([[1.0, 2.0, padding], [padding] * 3])
    (_, decisions), gradients = masked_cuts(x, 1.5, 0.5)
    assert all(np.all(np.asarray(decision)[MASK == 0] == 0) for decision in decisions)
    assert all(np.all(np.asarray(decision)[MASK == 1] > 0) for decision in decisions)
    assert np.all(np.asarray(gradients[0])[MASK == 0] == 0)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_nan_among_real_objects_stays_visible_when_relaxed_and_fails_when_exact():
    assert np.isnan(Relaxed(1.0).greater(jnp.array([np.nan]), 0.0)).all()
    assert Exact().greater(jnp.array([np.nan]), 0.0).tolist() == [0]


def test_thresholds_broadcast_by_numpys_rule(key):
    x = np.asarray(jax.random.normal(key, (5, 3)))
    per_object, scan = np.array([-0.1, 0.2, 0.3]), np.linspace(-1, 1, 4)
    for relax in (Relaxed(1e-12), Exact()):
        assert np.array_equal(jax.jit(relax.greater)(x, per_object), x > per_object)
        assert np.array_equal(jax.jit(relax.less)(x[:, :1], scan), x[:, :1] < scan)
        assert np.array_equal(relax.greater(np.array([1, 3]), 2), [0, 1])


def test_a_float64_parameter_cuts_a_float32_column():
    decisions = Relaxed({"pt": 1.0}).greater(jnp.float32([1, 2]), jnp.asarray(1.5), width="pt")
    gradient = jax.jit(jax.grad(lambda t: jnp.sum(Relaxed(1.0).greater(jnp.float32([1, 2]), t))))(1.5)
    assert (decisions.dtype, gradient.dtype) == (jnp.float32, jnp.float64)


def test_any_keeps_tiny_decisions():
    assert Relaxed(1.0).any(jnp.array(1e-30), jnp.array(2e-30)) == pytest.approx(3e-30, rel=1e-12)


@pytest.mark.parametrize("decisions", [(), (jnp.ones(3), jnp.ones((2, 3)))])
def test_logic_refuses_mixed_shapes(decisions):
    for relax in (Relaxed(1.0), Exact()):
        with pytest.raises(ValueError, match="one or more decisions of one shape"):
            relax.all(*decisions)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64])
def test_signed_and_unsigned_whole_numbers_compare_as_numbers(kind):
    """NumPy's own comparison goes through float64 and rounds; Python's does not."""
    limits = np.iinfo(kind)
    signed = np.array([limits.min, -1, 0, 1, 40, limits.max - 1, limits.max], dtype=kind)
    unsigned = np.array([0, 1, 40, 127, 2**31 - 1, 2**63 - 1, 2**63, 2**64 - 1], dtype=np.uint64)
    for first, second in (np.meshgrid(signed, unsigned), np.meshgrid(signed, unsigned)[::-1]):
        expected = [int(a) > int(b) for a, b in zip(first.ravel(), second.ravel(), strict=True)]
        found = Exact().greater(jnp.asarray(first.ravel()), jnp.asarray(second.ravel()), width="w")
        np.testing.assert_array_equal(found, np.array(expected, dtype=float))
