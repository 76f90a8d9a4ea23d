"""Choosing: the exact limit, masks and eligibility, safety of their gradients, mixtures of alternatives."""

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

scores = st.lists(st.integers(-50, 50), min_size=5, max_size=5, unique=True)
bits = st.lists(st.booleans(), min_size=5, max_size=5)
NARROW = 1e-3  # scores differ by 1 at least: exp(-1000) is 0


@eqx.filter_jit
def choose_and_take(relax, x, mask, eligible):
    weights = relax.choose(x, mask=mask, eligible=eligible)
    return weights, relax.take(x * x, weights)


@eqx.filter_jit
def extremes(relax, x, mask):
    return relax.max(x, mask=mask, empty=-7.0), relax.min(x, mask=mask, empty=-7.0)


@given(scores=scores, mask=bits, eligible=bits)
@settings(deadline=None, max_examples=50)
def test_narrow_choices_equal_numpy(scores, mask, eligible):
    x, allowed = np.array(scores, dtype=float), np.array(mask) & np.array(eligible)
    best = np.zeros(5)
    if allowed.any():
        best[np.argmax(np.where(allowed, x, -np.inf))] = 1
    for relax in (Relaxed(NARROW), Exact()):
        weights, taken = choose_and_take(relax, x, np.array(mask), np.array(eligible, dtype=float))
        assert np.array_equal(weights, best)
        assert taken == (best * x * x).sum()


@given(scores=scores, mask=bits)
@settings(deadline=None, max_examples=50)
def test_narrow_extremes_equal_numpy(scores, mask):
    x, real = np.array(scores, dtype=float), np.array(mask)
    for relax in (Relaxed(NARROW), Exact()):
        largest, smallest = extremes(relax, x, real)
        assert largest == (np.max(x[real]) if real.any() else -7)
        assert smallest == (np.min(x[real]) if real.any() else -7)


def test_exact_takes_the_first_of_equal_scores_and_relaxed_shares():
    x = jnp.array([1.0, 3.0, 3.0])
    assert Exact().choose(x).tolist() == [0, 1, 0]
    np.testing.assert_allclose(Relaxed(0.01).choose(x), [0, 0.5, 0.5], atol=1e-15)


def test_weights_follow_the_formula(key):
    x, eligible = jax.random.normal(key, (3, 4)), jax.random.uniform(key, (3, 4))
    smallest = x.min(axis=-1, keepdims=True)
    expected = np.asarray(eligible * jnp.exp((smallest + eligible * (x - smallest)) / 0.7))
    weights = Relaxed(0.7).choose(x, eligible=eligible)
    np.testing.assert_allclose(weights, expected / expected.sum(axis=-1, keepdims=True), rtol=1e-13)


def test_gradients(key):
    x, eligible, logits = (jax.random.uniform(key, shape) + 0.1 for shape in ((3, 4), (3, 4), (4,)))
    mask = jnp.array([1, 1, 0, 1])

    @jax.jit
    def total(x, eligible, logits, width):
        relax = Relaxed(width)
        chosen = relax.take(x**2, relax.choose(x, mask=mask, eligible=eligible))
        extremes = relax.max(x, mask=mask) - relax.min(x)
        return jnp.sum(chosen * extremes + relax.mixture(x, logits))

    at = (x, eligible, logits, jnp.asarray(0.3))
    check_grads(total, at, order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
    routes = (jax.jit(route(total, range(4)))(*at) for route in (jax.jacfwd, jax.jacrev))
    for forward, reverse in zip(*routes, strict=True):
        np.testing.assert_allclose(forward, reverse, rtol=1e-11, atol=1e-13)


def test_softmax_derivative_of_two_alternatives():
    def mixed(logit):
        return Relaxed(2.0).mixture(jnp.array([10.0, 4.0]), jnp.stack([logit, jnp.zeros(())]))

    share = 1 / (1 + np.exp(-0.6 / 2))
    value, slope = jax.jit(jax.value_and_grad(mixed))(0.6)
    assert value == pytest.approx(10 * share + 4 * (1 - share), rel=1e-14)
    assert slope == pytest.approx((10 - 4) * share * (1 - share) / 2, rel=1e-14)


MASK = np.array([[1, 1, 0], [0, 0, 0]])


@jax.jit
@partial(jax.grad, argnums=(0, 1), has_aux=True)
def masked_choices(x, width):
    relax = Relaxed(width)
    weights = relax.choose(x, mask=MASK)
    largest, smallest = relax.max(x, mask=MASK, empty=2.0), relax.min(x, mask=MASK)
    return jnp.sum(relax.take(x, weights) + largest + smallest), (weights, largest)


@pytest.mark.parametrize("padding", [np.nan, np.inf, -np.inf, 1e30])
def test_padding_and_empty_events_are_harmless(padding):
    x = np.float32([[-1e5, -2e5, padding], [padding] * 3])
    gradients, (weights, largest) = masked_choices(x, np.float32(1e-2))
    assert weights.tolist() == [[1, 0, 0], [0, 0, 0]]
    assert largest.tolist() == [-1e5, 2.0]
    assert Exact().min(x, mask=MASK, empty=3.0).tolist() == [-2e5, 3.0]
    assert gradients[0].tolist() == [[2, 1, 0], [0, 0, 0]]
    assert np.isfinite(gradients[1])


def test_a_score_of_minus_infinity_is_masked():
    x = jnp.array([[-jnp.inf, 1.0], [-jnp.inf, -jnp.inf]])
    for relax in (Relaxed(0.5), Exact()):
        assert jax.jit(relax.choose)(x).tolist() == [[0, 1], [0, 0]]
    slope = jax.jit(jax.grad(lambda x: jnp.sum(Relaxed(0.5).choose(x)[:, 1])))(x)
    assert np.all(np.isfinite(slope))


@jax.jit
@partial(jax.value_and_grad, argnums=(0, 1, 2))
def first_weight(x, eligible, width):
    return Relaxed(width).choose(x, eligible=eligible)[0]


@pytest.mark.parametrize("eligible", [[0.0, 1.0], [1e-30, 1.0], [1e-45, 1.0], [0.0, 0.0]])
def test_vanishing_eligibility_has_finite_gradients_in_float32(eligible):
    weight, gradients = first_weight(np.float32([1000, 0]), np.float32(eligible), np.float32(1))
    # The score counts as far as its object is eligible; 1e-45 is below the normal numbers.
    np.testing.assert_allclose(weight, 1e-30 if eligible[0] == 1e-30 else 0.0)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_nan_among_real_objects_stays_visible():
    assert np.isnan(Relaxed(1.0).max(jnp.array([np.nan, 1.0])))


def test_take_ignores_undefined_attributes_of_objects_not_chosen():
    attribute, weights = jnp.array([jnp.nan, 5.0, jnp.inf]), jnp.array([0.0, 1.0, 0.0])
    value, gradient = jax.value_and_grad(Relaxed(1.0).take)(attribute, weights)
    assert value == 5
    assert gradient.tolist() == [0, 1, 0]


def test_mixture_anneals_to_the_largest_logit(key):
    alternatives, logits = jax.random.normal(key, (6, 3)), jnp.array([0.1, 0.4, -1.0])
    assert np.array_equal(Exact().mixture(alternatives, logits), alternatives[:, 1])
    np.testing.assert_allclose(Relaxed(1e-3).mixture(alternatives, logits), alternatives[:, 1], rtol=1e-14)


def test_mixture_refuses_logits_of_another_length():
    for relax in (Relaxed(1.0), Exact()):
        with pytest.raises(ValueError, match="same length of the last axis"):
            relax.mixture(jnp.zeros((5, 3)), jnp.zeros(2))


def test_assignment_to_bins_is_the_largest_score(key):
    scores = jax.random.normal(key, (50, 4))
    hard = Exact().assign(scores)
    assert np.array_equal(hard, np.eye(4)[np.argmax(scores, axis=1)])
    np.testing.assert_allclose(Relaxed(1e-5).assign(scores), hard, atol=1e-12)
    np.testing.assert_allclose(Relaxed(0.3).assign(scores), jax.nn.softmax(scores / 0.3), rtol=1e-12)


@jax.jit
@partial(jax.value_and_grad, has_aux=True)
def choices(x, relax):
    chosen = relax.take(x**2, relax.choose(x))
    others = [relax.max(x), relax.min(x), relax.mixture(x, x**2), relax.take(x, relax.nth(x, 2))]
    decided = [relax.assign(x)[..., 0], relax.top(x, 2)[..., 1]]
    return jnp.sum(chosen + sum(others) + sum(decided)), (chosen, *others, *decided)


def test_straight_through_is_exact_forward_and_relaxed_backward(key):
    x = jax.random.normal(key, (20, 5))
    (_, forward), backward = choices(x, Relaxed(0.5, straight_through=True))
    (_, exact), _ = choices(x, Exact())
    (_, soft), relaxed = choices(x, Relaxed(0.5))
    for found, expected, other in zip(forward, exact, soft, strict=True):
        assert np.array_equal(found, expected)
        assert not np.allclose(found, other)
    assert np.all(np.isfinite(backward))
    # take() weighs by the exact choice now, so only what goes through the weights is that of the relaxed.
    by_weights = jax.grad(lambda x: jnp.sum(Relaxed(0.5, straight_through=True).choose(x)[:, 0]))(x)
    expected = jax.grad(lambda x: jnp.sum(Relaxed(0.5).choose(x)[:, 0]))(x)
    assert np.array_equal(by_weights, expected)
    assert not np.allclose(backward, relaxed)


@pytest.mark.parametrize("unequal", [0.1, 1.0, 10.0])
def test_a_failed_object_loses_however_large_its_score(unequal):
    """The widths of cut and choice go to 0 together, in any ratio; the failed object has 50 times the score."""
    pt, score = np.array([31.0, 29.0]), np.array([10.0, 500.0])
    for width in (1e-1, 1e-2):
        relax = Relaxed({"cut": width, "choice": unequal * width})
        weights = relax.choose(score, width="choice", eligible=relax.greater(pt, 30.0, width="cut"))
        np.testing.assert_allclose(weights, [1, 0], atol=1e-3)
