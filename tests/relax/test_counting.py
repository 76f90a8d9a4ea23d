"""Counting: the Poisson-binomial recursion against enumeration, gradients, tiny numbers, the exact limit."""

from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from pipeline.relax import Exact, Relaxed

OPERATIONS = {"exactly": np.equal, "at_least": np.greater_equal, "at_most": np.less_equal}
relax, exact = Relaxed(1.0), Exact()


def enumerate_outcomes(passes, accept):
    """Sum the probabilities of all 2^objects outcomes whose count is accepted."""
    outcomes = np.array(list(product([0, 1], repeat=passes.shape[-1]))).reshape(-1, passes.shape[-1])
    chances = np.where(outcomes == 1, passes[..., None, :], 1 - passes[..., None, :]).prod(axis=-1)
    return (chances * accept(outcomes.sum(axis=-1))).sum(axis=-1)


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
