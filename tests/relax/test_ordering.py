"""Ordering: the projection against its definition, the exact limit, gradients, float32, padding."""

from functools import partial
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy.optimize import isotonic_regression
from scipy.stats import rankdata

from pipeline.relax import ordering

SOFT = {
    "sort": ordering.soft_sort,
    "sort_descending": partial(ordering.soft_sort, descending=True),
    "rank": ordering.soft_rank,
    "rank_descending": partial(ordering.soft_rank, descending=True),
    "top": lambda x, **options: ordering.soft_top(x, 2, **options),
    "nth": lambda x, **options: ordering.soft_nth(x, 2, **options),
}
HARD = {
    "sort": ordering.hard_sort,
    "sort_descending": partial(ordering.hard_sort, descending=True),
    "rank": ordering.hard_rank,
    "rank_descending": partial(ordering.hard_rank, descending=True),
    "top": lambda x, **options: ordering.hard_top(x, 2, **options),
    "nth": lambda x, **options: ordering.hard_nth(x, 2, **options),
}
every = pytest.mark.parametrize("name", SOFT)
values = st.lists(st.integers(-50, 50), min_size=6, max_size=6)
distinct = st.lists(st.integers(-50, 50), min_size=6, max_size=6, unique=True)
bits = st.lists(st.booleans(), min_size=6, max_size=6)
NARROW = 2.0**-10  # integers differ by more, and by less than 1 / NARROW


@partial(jax.jit, static_argnums=0)
def soft(name, x, width, mask=None):
    return SOFT[name](x, width=width, mask=mask)


@partial(jax.jit, static_argnums=0)
def hard(name, x, mask=None):
    return HARD[name](x, mask=mask)


@partial(jax.jit, static_argnums=0)
def pulled(name, x, width, weights, mask=None):
    """Result, and the gradients of its weighted sum."""
    found, pull = jax.vjp(lambda x, width: soft(name, x, width, mask), x, width)
    return found, *pull(weights)


def falling_fit(y):
    """Isotonic regression by the min-max formula: v_i = min over j <= i of max over k >= i of mean(y_j .. y_k)."""
    n = len(y)
    return [min(max(np.mean(y[j : k + 1]) for k in range(i, n)) for j in range(i + 1)) for i in range(n)]


def project(z, w):
    """Projection of z on the permutahedron of w (arXiv:2002.08871, Section 5)."""
    order = np.argsort(-z)
    result = np.empty(len(z))
    result[order] = z[order] - falling_fit(z[order] - np.sort(w)[::-1])
    return result


def top_weights(n, k):
    return (np.arange(n) < k).astype(float)


REFERENCE = {
    "sort_descending": lambda x, width: project(np.arange(len(x), 0, -1) / width, x),
    "sort": lambda x, width: project(np.arange(1, len(x) + 1) / width, x),
    "rank": lambda x, width: project(x / width, np.arange(1, len(x) + 1)),
    "rank_descending": lambda x, width: project(-x / width, np.arange(1, len(x) + 1)),
    "top": lambda x, width: project(x / width, top_weights(len(x), 2)),
    "nth": lambda x, width: (
        project(x / width, top_weights(len(x), 2)) - project(x / width, top_weights(len(x), 1))
    ),
}


def test_known_values():
    x = jnp.array([5.0, 1.0, 2.0])
    np.testing.assert_allclose(soft("sort", x, 1.0), [5 / 3, 8 / 3, 11 / 3], rtol=1e-15)
    np.testing.assert_allclose(soft("rank", x, 2.0), [3, 1.25, 1.75], rtol=1e-15)
    # Clipped at 1 and lowered by one common number: (5 - 1, 1 - 1, 2 - 1) / 4 and (1, 0.375, 0.625).
    np.testing.assert_allclose(ordering.soft_top(x, 1, width=4.0), [0.875, 0, 0.125], rtol=1e-15)
    np.testing.assert_allclose(ordering.soft_top(x, 2, width=4.0), [1, 0.375, 0.625], rtol=1e-15)
    np.testing.assert_allclose(ordering.soft_nth(x, 2, width=4.0), [0.125, 0.375, 0.5], rtol=1e-15)


@every
@pytest.mark.parametrize("width", [0.03, 0.5, 2.0, 40.0])
def test_equals_the_slow_reference_with_any_leading_axes(name, width, key):
    x, mask = jax.random.normal(key, (4, 3, 6)), jax.random.bernoulli(key, 0.7, (4, 3, 6))
    found = np.asarray(soft(name, x, width, mask))
    for event in np.ndindex(4, 3):
        row, real = np.asarray(x[event]), np.asarray(mask[event])
        expected = REFERENCE[name](row[real], width) if real.any() else []
        kept = found[event][: real.sum()] if "sort" in name else found[event][real]
        np.testing.assert_allclose(kept, expected, rtol=1e-12, atol=1e-12)
        assert np.all(np.delete(found[event], np.flatnonzero(np.isin(found[event], kept))) == 0)


@pytest.mark.parametrize("width", [0.2, 1.0, 5.0])
def test_is_the_closest_point_of_the_permutahedron(width, key):
    """No corner lies on the far side of the plane through P(z, w), across z - P(z, w); P is inside."""
    for x in np.asarray(jax.random.normal(key, (5, 5))):
        countdown = np.arange(5.0, 0, -1)
        cases = [("sort_descending", countdown / width, x)]
        cases += [("rank", x / width, countdown), ("top", x / width, top_weights(5, 2))]
        for name, z, w in cases:
            corners, found = np.array(list(permutations(w))), np.asarray(soft(name, x, width))
            assert np.all((corners - found) @ (z - found) <= 1e-12)
            inside = np.cumsum(np.sort(w)[::-1]) - np.cumsum(np.sort(found)[::-1])
            assert np.all(inside >= -1e-12)
            assert inside[-1] == pytest.approx(0, abs=1e-12)


@given(x=values, mask=bits)
@settings(max_examples=60)
def test_narrow_sort_and_rank_equal_numpy(x, mask):
    x, real = np.array(x, dtype=float), np.array(mask)
    padding = np.zeros(6 - real.sum())
    ranks = np.zeros(6)
    for sign, suffix in ((1, ""), (-1, "_descending")):
        ranks[real] = rankdata(sign * x[real]) if real.any() else []
        for rank in (soft("rank" + suffix, x, NARROW, real), hard("rank" + suffix, x, real)):
            np.testing.assert_allclose(rank, ranks, rtol=1e-15)
        expected = np.concatenate([sign * np.sort(sign * x[real]), padding])
        for result in (soft("sort" + suffix, x, NARROW, real), hard("sort" + suffix, x, real)):
            assert np.array_equal(result, expected)


@given(x=distinct, mask=bits)
@settings(max_examples=60)
def test_narrow_top_and_nth_equal_numpy(x, mask):
    x, real = np.array(x, dtype=float), np.array(mask)
    falling = np.argsort(np.where(real, -x, np.inf))[: real.sum()]
    top, nth = np.zeros(6), np.zeros(6)
    top[falling[:2]], nth[falling[1:2]] = 1, 1
    for found in (soft("top", x, NARROW, real), hard("top", x, real)):
        assert np.array_equal(found, top)
    for found in (soft("nth", x, NARROW, real), hard("nth", x, real)):
        assert np.array_equal(found, nth)


numbers = st.lists(st.floats(-100, 100, width=32), min_size=6, max_size=6)


@given(x=numbers, mask=bits, width=st.floats(1e-3, 1e3), order=st.permutations(range(6)))
@settings(max_examples=100)
def test_sums_bounds_order_and_equivariance(x, mask, width, order):
    x, real, order = np.array(x), np.array(mask), np.array(order)
    n = real.sum()
    sums = {"sort": x[real].sum(), "rank": n * (n + 1) / 2, "top": min(2, n), "nth": int(n >= 2)}
    for name in SOFT:
        found = np.asarray(soft(name, x, width, real))
        assert found.sum() == pytest.approx(sums[name.split("_")[0]], rel=1e-11, abs=1e-10)
        moved = soft(name, x[order], width, real[order])
        np.testing.assert_allclose(moved, found if "sort" in name else found[order], rtol=1e-9, atol=1e-9)
        if name != "nth":
            ordered = found[:n] if "sort" in name else found[real][np.argsort(x[real])]
            assert np.all(np.diff(-ordered if "descending" in name else ordered) >= -1e-9)
        if name in ("top", "nth"):
            assert np.all((found >= 0) & (found <= 1))


def test_gradients(key):
    x, weights = jax.random.normal(key, (2, 2, 5)), jax.random.normal(jax.random.fold_in(key, 1), (2, 2, 5))
    mask, names = jnp.array([1, 1, 0, 1, 1]), ("sort", "rank_descending", "nth")

    @jax.jit
    def totals(x, width):
        return jnp.stack([jnp.sum(weights * soft(name, x, width, mask) ** 2) for name in names])

    forward, reverse = (jax.jit(route(totals, (0, 1))) for route in (jax.jacfwd, jax.jacrev))
    for width in (0.8, 2.3):
        at = (x, jnp.asarray(width))
        check_grads(totals, at, order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
        for one, other in zip(forward(*at), reverse(*at), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)
            assert np.all(np.any(one.reshape(len(names), -1) != 0, axis=-1))


def test_derivatives_average_over_the_blocks():
    x = jnp.array([5.0, 1.0, 2.0])  # ranks of width 2: 5 is alone, 1 and 2 share a block; sorted: one block
    by_x, by_width = jax.jacobian(lambda x, width: soft("rank", x, width), (0, 1))(x, 2.0)
    np.testing.assert_allclose(by_x, [[0, 0, 0], [0, 0.25, -0.25], [0, -0.25, 0.25]], rtol=1e-15)
    np.testing.assert_allclose(by_width, [0, 0.5 / 4, -0.5 / 4], rtol=1e-15)
    np.testing.assert_allclose(jax.jacobian(lambda x: soft("sort", x, 1.0))(x), np.full((3, 3), 1 / 3))


def test_exact_operations_have_the_derivative_of_the_values_only():
    x = jnp.array([3.0, 1.0, 2.0])
    assert jax.jacobian(partial(hard, "sort"))(x).tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    for name in ("rank", "top", "nth"):
        assert not np.any(jax.jacobian(partial(hard, name))(x))


def test_exact_ties():
    x, mask = np.float32([[1, 3, 3, 3, 0], [0] * 5]), np.array([[1] * 5, [1, 0, 1, 1, 0]])
    assert hard("top", x, mask).tolist() == [[0, 1, 1, 0, 0], [1, 0, 1, 0, 0]]
    assert hard("nth", x, mask).tolist() == [[0, 0, 1, 0, 0], [0, 0, 1, 0, 0]]
    assert hard("rank", x, mask).tolist() == [[2, 4, 4, 4, 1], [2, 0, 2, 2, 0]]


def test_relaxed_ties_share():
    x = jnp.array([1.0, 3.0, 3.0, 3.0, 0.0])
    np.testing.assert_allclose(soft("rank", x, 1e-3), [2, 4, 4, 4, 1], rtol=1e-15)
    np.testing.assert_allclose(soft("top", x, 1e-3), [0, 2 / 3, 2 / 3, 2 / 3, 0], rtol=1e-15)


def test_equal_objects_that_are_both_in_have_no_derivative():
    found, by_x, by_width = pulled("top", jnp.array([3.0, 3.0, 1.0]), 0.1, jnp.array([1.0, 2.0, 3.0]))
    assert found.tolist() == [1, 1, 0]
    assert by_x.tolist() == [0, 0, 0]
    assert by_width == 0


@pytest.mark.parametrize("name", ["top", "nth"])
def test_weights_do_not_leave_their_bounds_by_rounding(name, key):
    x = jnp.round(10 * jax.random.normal(key, (2000, 6))) / 10  # so that weights of 0 and 1 are met in blocks
    found, by_x, by_width = pulled(name, x, 3.0, jnp.ones_like(x))
    assert np.all((found >= 0) & (found <= 1))
    np.testing.assert_allclose(by_x, np.zeros_like(x), atol=1e-14)  # the sum is constant
    assert by_width == pytest.approx(0, abs=1e-12)


SINGLE = {
    "1e4 widths apart": ([1e4, -3e4, 2e4, 0, 5e4], 1.0),
    "tiny width": ([0.1, 0.1, 0.1, -7, 0.3], 1e-30),
    "neighbouring numbers": ([1, np.nextafter(np.float32(1), np.float32(2)), 0.5, 2, -1], 1e-30),
    "the whole range": ([3.3e38, -3.3e38, 3.4e38, 3.2e38, -3.4e38], 1e-30),
    "the whole range, wide": ([3.3e38, -3.3e38, 3.4e38, 3.2e38, -3.4e38], 1e30),
    "equal": ([2, 2, 2, 2, 2], 1e-37),
}


@every
@pytest.mark.parametrize(("x", "width"), SINGLE.values(), ids=SINGLE)
def test_float32_is_finite_and_exact_far_apart(name, x, width):
    weights = np.float32([1, -2, 3, 5, 0.5])
    found, by_x, by_width = pulled(name, np.float32(x), np.float32(width), weights)
    assert found.dtype == by_x.dtype == by_width.dtype == np.float32
    assert np.all(np.isfinite(found))
    assert np.all(np.isfinite(by_x))
    if "sort" not in name:  # sorted values change by the square of their distance, which may overflow
        assert np.isfinite(by_width)
        if len(set(x)) == 5:
            assert np.array_equal(found, hard(name, np.float32(x)))
            assert not np.any(by_x)
    elif max(np.abs(x)) > 1e38:  # all in one block, at the mean
        np.testing.assert_allclose(found, np.full(5, 6.4e37), rtol=1e-5)


def test_float32_sorts_exactly_with_a_tiny_width():
    x, weights = np.float32([1e4, -3e4, 2e4, 0, 5e4]), np.float32([0, 1, 2, 3, 4])
    found, by_x, by_width = pulled("sort", x, np.float32(1e-30), weights)
    assert np.array_equal(found, np.sort(x))
    assert by_x.tolist() == [2, 0, 3, 1, 4]
    assert by_width == 0
    _, by_x, by_width = pulled("rank", x, np.float32(1e-30), 1e20 * weights)
    assert not np.any(by_x)
    assert by_width == 0


MASK = np.array([[0, 1, 1, 0, 1], [0] * 5])


@every
@pytest.mark.parametrize("padding", [np.nan, np.inf, -np.inf, 1e30])
def test_padding_and_empty_events_are_harmless(name, padding):
    x, weights = (
        np.float32([[padding, 1, 4, padding, 2], [padding] * 5]),
        np.float32([[1, 2, 3, 5, 8], [1] * 5]),
    )
    found, by_x, by_width = pulled(name, x, np.float32(0.4), weights, MASK)
    kept, rest = ([0, 1, 2], [3, 4]) if "sort" in name else ([1, 2, 4], [0, 3])
    for result, width in ((found, 0.4), (hard(name, x, MASK), NARROW)):
        np.testing.assert_allclose(result[0, kept], REFERENCE[name](np.array([1.0, 4, 2]), width), rtol=1e-6)
        assert not np.any(result[0, rest])
        assert not np.any(result[1])
    assert np.all(np.isfinite(by_x))
    assert not np.any(by_x[MASK == 0])
    assert np.isfinite(by_width)


@every
@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_a_strange_real_object_stays_in_its_event(name, strange):
    x, mask = np.float32([[7, 1, 4, 3, 2]] * 2), np.ones_like(MASK)
    expected, slope, _ = pulled(name, x, np.float32(1.4), x, mask)
    with_strange = np.where([[False, False, True, False, False], [False] * 5], np.float32(strange), x)
    found, by_x, _ = pulled(name, with_strange, np.float32(1.4), x, mask)
    assert np.array_equal(found[1], expected[1])
    assert np.array_equal(by_x[1], slope[1])
    assert np.all(np.isnan(found[0])) or not np.isnan(strange)


@pytest.mark.parametrize("descending", [False, True])
def test_places_of_padded_objects_are_filled_with_empty(descending):
    x, mask = np.array([[9.0, 1, 2], [9, 8, 7]]), np.array([[0, 1, 1], [0, 0, 0]])
    options = dict(mask=mask, descending=descending, empty=-7.0)
    expected = [[2, 1, -7] if descending else [1, 2, -7], [-7, -7, -7]]
    assert ordering.hard_sort(x, **options).tolist() == expected
    assert ordering.soft_sort(x, width=0.5, **options).tolist() == expected


@every
def test_without_events_or_objects(name):
    for shape in [(0,), (3, 0), (0, 4), (2, 0, 3)]:
        none = jnp.zeros(shape)
        found, by_x, by_width = pulled(name, none, 1.0, none)
        assert by_x.shape == found.shape == hard(name, none).shape == shape
        assert by_width == 0


def test_infinite_values_rank_exactly():
    x = jnp.array([jnp.inf, 1.0, 2.0, -jnp.inf])
    found, by_x, by_width = pulled("rank", x, 0.5, jnp.arange(4.0))
    assert found.tolist() == [4, 2, 3, 1]
    assert not np.any(by_x)
    assert by_width == 0


@pytest.mark.parametrize("name", ["sort", "nth"])
def test_vmap_and_integers_change_nothing(name):
    x = np.array([[3, 1, 2, 2], [0, -1, 7, 7]])
    together = soft(name, x, 0.8)
    assert together.dtype == jnp.float64
    assert np.array_equal(jax.vmap(partial(soft, name), in_axes=(0, None))(x, 0.8), together)


def test_many_objects():
    """Loops of 2 n steps and arrays of n numbers: one event of 3000 objects is nothing."""
    x = np.random.default_rng(20261122).normal(size=3000)
    order, width = np.argsort(-x), 0.01
    fit = isotonic_regression(x[order] / width - np.arange(3000, 0, -1), increasing=False).x
    np.testing.assert_allclose(soft("rank", x, width)[order], x[order] / width - fit, rtol=1e-11)


def test_fewer_objects_than_asked_for():
    x = jnp.array([3.0, 1.0])
    for function in (partial(ordering.soft_top, width=1.0), ordering.hard_top):
        assert function(x, 5).tolist() == [1, 1]
        assert function(x, 0).tolist() == [0, 0]
    for function in (partial(ordering.soft_nth, width=1.0), ordering.hard_nth):
        assert function(x, 3).tolist() == [0, 0]


def test_impossible_numbers_are_refused():
    x = jnp.zeros(3)
    for function in (partial(ordering.soft_top, width=1.0), ordering.hard_top):
        with pytest.raises(ValueError, match="got k = -1; allowed: 0 or more"):
            function(x, -1)
    for function in (partial(ordering.soft_nth, width=1.0), ordering.hard_nth):
        with pytest.raises(ValueError, match="got n = 0; allowed: 1 or more"):
            function(x, 0)
