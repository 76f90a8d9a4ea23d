"""353QH, twice: cabinetry's, numbers by hand, derivatives, and the channels side by side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cabinetry.smooth import smooth_353qh_twice
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.test_util import check_grads

from pipeline.templates.running_medians import smoothed_353qh, twice_353qh
from pipeline.templates.shapes import Channels

SIZES = (2, 3, 4, 5, 6, 12)
CHANNELS = Channels.of_sizes(SIZES)
PARTS = [slice(end - size, end) for size, end in zip(SIZES, np.cumsum(SIZES), strict=True)]
COARSE = st.integers(-6, 12).map(lambda number: number / 4)  # with ties, which make flat tops
SMOOTH = jax.jit(lambda values: twice_353qh(values, CHANNELS))


def by_loops(values):
    """One channel, point by point, as TH1::SmoothArray goes through it."""
    smooth = one_round(values)
    found = smooth + one_round(values - smooth)
    return found if values.min() < 0 else np.maximum(found, 0.0)


def one_round(values):
    size, z = len(values), values.copy()
    for width in (3, 5, 3):
        y, half = z.copy(), width // 2
        for i in range(half, size - half):
            z[i] = np.median(y[i - half : i + half + 1])
        if width == 5:
            z[1], z[-2] = np.median(y[:3]), np.median(y[-3:])
        elif np.array_equal(y, values):  # the first of the three
            z[0] = np.median([z[1], z[0], z[1] + 2 * (z[1] - z[2])])
            z[-1] = np.median([z[-2], z[-1], z[-2] + 2 * (z[-2] - z[-3])])
    y = z.copy()
    for i in range(2, size - 2):
        left, right = z[i - 2] - z[i], z[i + 2] - z[i]
        if z[i - 1] == z[i] == z[i + 1] and left * right > 0:
            k = -1 if abs(right) > abs(left) else 1
            y[i] = -0.5 * z[i - 2 * k] + z[i] / 0.75 + z[i + 2 * k] / 6
            y[i + k] = 0.5 * (z[i + 2 * k] - z[i - 2 * k]) + z[i]
    return np.array([y[0], *(0.25 * y[:-2] + 0.5 * y[1:-1] + 0.25 * y[2:]), y[-1]])


@settings(max_examples=100)
@given(hnp.arrays(np.float64, (1, sum(SIZES)), elements=COARSE))
def test_loops_say_the_same_channel_by_channel(values):
    found = np.asarray(SMOOTH(values))[0]
    for part in PARTS[1:]:
        np.testing.assert_allclose(found[part], by_loops(values[0, part]), atol=1e-12)


def test_cabinetry_says_the_same():
    """Of numbers whose sums are exact: its rule for the ends rounds."""
    for values in np.random.default_rng(1).integers(0, 512, (40, 1, sum(SIZES))) / 64.0:
        found = np.asarray(SMOOTH(values))[0]
        for part in PARTS[1:]:
            np.testing.assert_allclose(found[part], smooth_353qh_twice(values[0, part].copy()), atol=1e-12)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1, 1, 9, 1, 1], [1, 1, 1, 1, 1]),  # a spike is noise
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]),  # a slope stays
        ([2, 2, 2, 2, 2], [2, 2, 2, 2, 2]),
    ],
)
def test_by_hand(given, expected):
    found = twice_353qh(np.array([given], dtype=float), Channels.of_sizes([5]))
    np.testing.assert_allclose(found[0], expected, atol=1e-15)


def test_templates_keep_the_yield_of_a_channel_as_in_cabinetry():
    generator = np.random.default_rng(1)
    nominal, varied = generator.uniform(1, 9, (2, 1, sum(SIZES)))
    nominal[0, PARTS[4]][2] = 0.0
    found = np.asarray(smoothed_353qh(nominal, varied, CHANNELS))
    np.testing.assert_allclose(CHANNELS.sums(found), CHANNELS.sums(varied), rtol=1e-12)
    np.testing.assert_array_equal(found[0, PARTS[0]], varied[0, PARTS[0]])
    assert found[0, PARTS[4]][2] == varied[0, PARTS[4]][2]
    for part in (PARTS[3], PARTS[5]):
        n, v = nominal[0, part], varied[0, part]
        expected = smooth_353qh_twice(v / n) * n
        np.testing.assert_allclose(found[0, part], expected * v.sum() / expected.sum(), rtol=1e-12)


def test_derivatives_are_those_of_finite_differences():
    generator = np.random.default_rng(2)
    nominal, varied = generator.uniform(5, 9, (2, 2, sum(SIZES)))
    weight = jnp.asarray(generator.normal(size=nominal.shape))

    def total(n, v):
        return jnp.sum(weight * smoothed_353qh(n, v, CHANNELS))

    check_grads(jax.jit(total), (nominal, varied), order=1, modes=["rev"], eps=1e-6, rtol=1e-5)
