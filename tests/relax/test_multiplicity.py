"""Counting: the Poisson-binomial recursion against enumeration, gradients, tiny numbers, the exact limit."""

import inspect
from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from pipeline.relax import Exact, Relaxed, multiplicity

OPERATIONS = {"exactly": np.equal, "at_least": np.greater_equal, "at_most": np.less_equal}
relax, exact = Relaxed(1.0), Exact()


def all_outcomes(passes):
    """All 2^objects outcomes, and the probability of each."""
    outcomes = np.array(list(product([0, 1], repeat=passes.shape[-1]))).reshape(-1, passes.shape[-1])
    chances = np.where(outcomes == 1, passes[..., None, :], 1 - passes[..., None, :]).prod(axis=-1)
    return outcomes, chances


def enumerate_outcomes(passes, accept):
    """Sum the probabilities of all outcomes whose count is accepted."""
    outcomes, chances = all_outcomes(passes)
    return (chances * accept(outcomes.sum(axis=-1))).sum(axis=-1)


def nth_of_outcome(outcome, n):
    """1 at the n-th object of one outcome that passes."""
    weights = np.zeros(len(outcome))
    weights[np.flatnonzero(outcome)[n - 1 : n]] = 1
    return weights


def nth_by_enumeration(passes, n):
    outcomes, chances = all_outcomes(passes)
    return chances @ np.array([nth_of_outcome(outcome, n) for outcome in outcomes])


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("n", range(7))
def test_probabilities_equal_enumeration(name, n, key):
    passes = jax.random.uniform(key, (2, 3, 5))
    expected = enumerate_outcomes(np.asarray(passes), lambda count: OPERATIONS[name](count, n))
    found = jax.jit(getattr(relax, name), static_argnums=1)(passes, n)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


@eqx.filter_jit
def counted(operations, name, passes, n):
    return getattr(operations, name)(passes, n)


@pytest.mark.parametrize("name", OPERATIONS)
@given(bits=st.lists(st.booleans(), min_size=12, max_size=12), n=st.integers(0, 5))
@settings(deadline=None, max_examples=25)
def test_hard_decisions_count_exactly(name, bits, n):
    passes = np.array(bits, dtype=float).reshape(3, 4)
    expected = OPERATIONS[name](passes.sum(axis=-1), n)
    for operations in (relax, exact):
        assert np.array_equal(counted(operations, name, passes, n), expected)
    assert np.array_equal(relax.count(passes), passes.sum(axis=-1))
    assert np.array_equal(exact.count(0.2 + 0.6 * passes), passes.sum(axis=-1))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("n", [0, 1, 3])
def test_gradients(name, n, key):
    passes = jax.random.uniform(key, (2, 4)).at[0, 0].set(0.0).at[1, 1].set(1.0)

    @jax.jit
    def probability(passes):
        return getattr(relax, name)(passes, n)

    check_grads(probability, (passes,), order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
    forward, reverse = (jax.jit(route(probability))(passes) for route in (jax.jacfwd, jax.jacrev))
    np.testing.assert_allclose(forward, reverse, rtol=1e-13, atol=1e-15)


def test_derivative_is_the_probability_that_the_object_decides(key):
    passes = jax.random.uniform(key, (5,))
    gradient = jax.grad(lambda p: relax.at_least(p, 3))(passes)
    decides = [relax.exactly(jnp.delete(passes, j), 2) for j in range(5)]
    np.testing.assert_allclose(gradient, decides, rtol=1e-13)


def test_tiny_probabilities_keep_their_precision_in_float32():
    passes = jnp.full(4, 1e-8, dtype=jnp.float32)
    assert relax.at_least(passes, 4) == pytest.approx(1e-32, rel=1e-5)
    assert relax.at_most(1 - jnp.zeros(4, dtype=jnp.float32) - passes, 0) == 0
    assert relax.at_most(jnp.full(4, 0.999), 0) == pytest.approx(1e-12, rel=1e-9)


def test_without_objects_nothing_passes():
    passes = jnp.zeros((3, 0))
    for operations in (relax, exact):
        assert operations.at_least(passes, 0).tolist() == [1, 1, 1]
        assert operations.at_least(passes, 1).tolist() == [0, 0, 0]
        assert operations.exactly(passes, 0).tolist() == [1, 1, 1]
        assert operations.at_most(passes, 2).tolist() == [1, 1, 1]
        assert operations.count(passes).tolist() == [0, 0, 0]


def test_probabilities_add_up(key):
    passes = jax.random.uniform(key, (6, 8))
    np.testing.assert_allclose(relax.at_most(passes, 3) + relax.at_least(passes, 4), 1, rtol=1e-14)
    np.testing.assert_allclose(sum(relax.exactly(passes, n) for n in range(9)), 1, rtol=1e-14)


@pytest.mark.parametrize("name", OPERATIONS)
def test_negative_numbers_are_refused(name):
    for operations in (relax, exact):
        with pytest.raises(ValueError, match="n = -1; allowed: 0 or more"):
            getattr(operations, name)(jnp.zeros(3), -1)


@pytest.mark.parametrize("n", range(1, 8))
def test_nth_passing_equals_enumeration(n, key):
    passes = jax.random.uniform(key, (2, 3, 6)).at[0, 0, 1].set(0.0).at[1, 1, 2].set(1.0)
    found = jax.jit(relax.nth_passing, static_argnums=1)(passes, n)
    np.testing.assert_allclose(found, nth_by_enumeration(np.asarray(passes), n), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(relax.sum(found), relax.at_least(passes, n), rtol=1e-13)
    one_by_one = jax.vmap(jax.vmap(lambda p: relax.nth_passing(p, n)))(passes)
    np.testing.assert_allclose(one_by_one, found, rtol=1e-13)
    assert np.all(found == 0) == (n > 6)


decisions = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=5, max_size=5)


@given(passes=decisions, n=st.integers(1, 6), where=st.integers(0, 5))
@settings(max_examples=50)
def test_nth_passing_is_a_distribution_that_padding_does_not_touch(passes, n, where):
    weights = counted(relax, "nth_passing", np.array(passes), n)
    np.testing.assert_allclose(weights, nth_by_enumeration(np.array(passes), n), rtol=1e-12, atol=1e-300)
    assert np.all((weights >= 0) & (weights <= 1))
    padded = counted(relax, "nth_passing", np.insert(passes, where, 0.0), n)
    assert np.array_equal(padded, np.insert(weights, where, 0.0))


@given(passes=decisions, n=st.integers(1, 6))
@settings(max_examples=50)
def test_nth_passing_of_hard_decisions_is_that_object(passes, n):
    expected = nth_of_outcome(np.array(passes) > 0.5, n)
    assert np.array_equal(counted(exact, "nth_passing", np.array(passes), n), expected)
    assert np.array_equal(counted(relax, "nth_passing", np.round(passes), n), expected)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_nth_passing_tends_to_the_exact_one_with_the_width(n, key):
    pt = jax.random.uniform(key, (40, 7), minval=20.0, maxval=60.0)
    real = np.arange(7) < np.arange(40)[:, None] % 8
    narrow, hard = (kind.greater(pt, 35.0, width=1e-9, mask=real) for kind in (relax, exact))
    found, expected = relax.nth_passing(narrow, n), exact.nth_passing(hard, n)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    reference = [list(event[(event > 35.0) & ok])[n - 1 : n] for event, ok in zip(pt, real, strict=True)]
    np.testing.assert_allclose(exact.sum(expected * pt), [sum(found) for found in reference], rtol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_gradients_of_nth_passing(n, key):
    passes = jax.random.uniform(key, (2, 5)).at[0, 0].set(0.0).at[1, 1].set(1.0)
    weights = jax.jit(lambda p: relax.nth_passing(p, n))
    check_grads(weights, (passes,), order=2, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
    forward, reverse = (jax.jit(route(weights))(passes[0]) for route in (jax.jacfwd, jax.jacrev))
    np.testing.assert_allclose(forward, reverse, rtol=1e-13, atol=1e-15)


def test_derivative_of_nth_passing_is_what_the_object_moves(key):
    """One more object before j that passes makes j the n-th where it was the one before, by p_j."""
    passes = jax.random.uniform(key, (5,))
    expected = np.zeros((5, 5))
    for j in range(5):
        expected[j, j] = relax.exactly(passes[:j], 2)
        for i in range(j):
            others = jnp.delete(passes[:j], i)
            expected[j, i] = passes[j] * (relax.exactly(others, 1) - relax.exactly(others, 2))
    gradient = jax.jacrev(lambda p: relax.nth_passing(p, 3))(passes)
    np.testing.assert_allclose(gradient, expected, rtol=1e-13, atol=1e-15)


def test_nth_passing_in_float32():
    tiny = jnp.full(4, 1e-8, dtype=jnp.float32)
    for operations in (relax, exact):
        assert operations.nth_passing(tiny, 4).dtype == jnp.float32
    assert relax.nth_passing(tiny, 4)[3] == pytest.approx(1e-32, rel=1e-5)
    ends = jnp.array([[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]], dtype=jnp.float32)
    gradient = jax.grad(lambda p: relax.sum(relax.nth_passing(p, 2) ** 2).sum())(ends)
    assert gradient.dtype == jnp.float32
    assert np.all(np.isfinite(gradient))


def test_nth_passing_of_no_objects_and_of_integers():
    for operations in (relax, exact):
        assert operations.nth_passing(jnp.zeros((3, 0)), 1).shape == (3, 0)
        assert operations.nth_passing(np.array([0, 1, 0, 1]), 2).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("n", [0, -1])
def test_places_below_the_first_are_refused(n):
    for operations in (relax, exact):
        with pytest.raises(ValueError, match=f"passes: got n = {n}; allowed: 1 or more, a Python integer"):
            operations.nth_passing(jnp.zeros(3), n)


def test_places_that_are_no_integers_are_refused():
    for function in (multiplicity.nth_passing, multiplicity.hard_nth_passing):
        unchecked = inspect.unwrap(function)  # as it is for a user, without the type checks of the tests
        with pytest.raises(ValueError, match=r"passes: got n = 1\.5; allowed: 1 or more"):
            unchecked(jnp.zeros(3), 1.5)
        with pytest.raises(ValueError, match=r"passes: got n = .*Tracer.*; allowed: 1 or more"):
            jax.jit(unchecked)(jnp.zeros(3), 1)
