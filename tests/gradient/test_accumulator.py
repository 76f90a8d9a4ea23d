"""Sums that know no order: the same bits for every permutation, tree and partition, and right to the last."""

import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.gradient import accumulator
from pipeline.gradient.accumulator import Accumulator, empty, union

add, merge, end = (jax.jit(f) for f in (accumulator.added, accumulator.merged, accumulator.rounded))

FINITE = st.floats(-1e290, 1e290, allow_subnormal=False)
NEAR = st.floats(-1e3, 1e3)
ARRAYS = st.lists(st.lists(st.one_of(FINITE, NEAR), min_size=3, max_size=3), min_size=1, max_size=12)


def in_turn(arrays, total=None):
    return functools.reduce(add, map(np.array, arrays), empty((3,)) if total is None else total)


def by_a_tree(arrays, random):
    if len(arrays) < 2:
        return in_turn(arrays)
    place = random.randrange(len(arrays) + 1)
    if place in (0, len(arrays)):
        return merge(in_turn([]), in_turn(arrays))
    return merge(by_a_tree(arrays[:place], random), by_a_tree(arrays[place:], random))


def bits(total):
    return np.asarray(end(total)).tobytes()


@given(ARRAYS, st.randoms())
def test_any_permutation_tree_and_partition_has_the_same_bits(arrays, random):
    expected = bits(in_turn(arrays))
    for _ in range(4):
        random.shuffle(arrays)
        assert bits(in_turn(arrays)) == expected
        assert bits(by_a_tree(arrays, random)) == expected


def exactly(total, place):
    """The sum as it is before it is rounded."""
    unit = Fraction(2) ** (32 * int(total.level[place]) - 1023)
    return unit * sum(Fraction(int(d[place])) / 2 ** (32 * k) for k, d in enumerate(total.digits))


@given(ARRAYS)
def test_the_error_is_below_2_to_the_minus_80_of_the_largest(arrays):
    total = in_turn(arrays)
    for place in range(3):
        summands = [Fraction(a[place]) for a in arrays]
        largest = max(map(abs, summands))
        lost = abs(exactly(total, place) - sum(summands))
        assert lost <= largest / 2**80 + Fraction(2) ** -990
        rounded = Fraction(float(end(total)[place]))
        assert abs(rounded - sum(summands)) <= abs(sum(summands)) / 2**52 + lost + Fraction(2) ** -990


SINGLE = st.floats(-1e6, 1e6, width=32)


@given(st.lists(st.lists(SINGLE, min_size=3, max_size=3), min_size=1, max_size=12), st.randoms())
def test_sums_of_float32_have_half_the_digits_and_more_bits_than_their_summands(arrays, random):
    total = in_turn(arrays, empty((3,), "float32"))
    assert len(total.digits) == 2
    expected = bits(total)
    cut = random.randrange(len(arrays) + 1)
    random.shuffle(arrays)
    parts = [in_turn(part, empty((3,), "float32")) for part in (arrays[:cut], arrays[cut:])]
    assert bits(merge(*parts)) == expected
    for place in range(3):
        summands = [Fraction(a[place]) for a in arrays]
        lost = abs(exactly(total, place) - sum(summands))
        assert lost <= len(arrays) * max(map(abs, summands)) / 2**33


def test_what_cancels_leaves_what_is_small():
    arrays = [[1e16, 1.0, 2.0**80], [1.0, 1e-20, 1.0], [-1e16, -1.0, -(2.0**80)]]
    np.testing.assert_array_equal(end(in_turn(arrays)), [1.0, 1e-20, 1.0])


@given(ARRAYS, st.randoms())
def test_infinities_and_nan_are_kept_beside_what_is_finite(arrays, random):
    strange = [[np.inf, 1.0, np.nan], [2.0, -np.inf, 1.0], [1.0, -np.inf, np.inf], [1e300, 0.0, 0.0]]
    mixed = arrays + strange
    random.shuffle(mixed)
    np.testing.assert_array_equal(end(in_turn(mixed)), [np.inf, -np.inf, np.nan])
    both = in_turn([[-np.inf, 0.0, 0.0]], in_turn(mixed))
    assert np.isnan(end(both)[0])


def test_nothing_and_zeros():
    np.testing.assert_array_equal(end(empty((2,))), [0.0, 0.0])
    np.testing.assert_array_equal(end(add(empty((2,)), np.array([-0.0, 5e-324]))), [0.0, 0.0])


def test_many_summands_need_no_carry():
    """2^31 is the promise; as many as 2^30 by doubling, each the largest that a level holds."""
    largest = np.nextafter(2.0**33, 0)
    total = add(empty(()), np.array(largest))
    for _ in range(30):
        total = merge(total, total)
    assert float(end(total)) == largest * 2**30


def test_rows_are_independent():
    rng = np.random.default_rng(7)
    total = jax.tree.map(lambda array: np.asarray(array), empty((4, 3)))
    arrays = rng.normal(size=(5, 3))
    for place, array in zip(np.array([0, 2, 2, 0, 3]), arrays, strict=True):
        total = accumulator.added_at(jnp.asarray(place), total, array)
    expected = [arrays[0] + arrays[3], np.zeros(3), arrays[1] + arrays[2], arrays[4]]
    np.testing.assert_allclose(end(total), expected, rtol=1e-15)


def test_sums_by_name_are_joined():
    rng = np.random.default_rng(8)
    a, b, c = (in_turn([row]) for row in rng.normal(size=(3, 3)))
    found = union({"one": a, "two": b}, {"two": c, "three": c})
    assert list(found) == ["one", "three", "two"]
    assert isinstance(found["two"], Accumulator)
    assert bits(found["two"]) == bits(merge(b, c))
    assert bits(found["one"]) == bits(a)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_arrays_travel_in_the_precision_that_is_asked_for(precision):
    found = accumulator.arrays_of({"x": in_turn([[0.1, 0.2, 0.3], [1.0, 1.0, 1.0]])}, precision)
    assert found["x"].dtype == precision
    np.testing.assert_allclose(found["x"], [1.1, 1.2, 1.3], rtol=1e-7)
