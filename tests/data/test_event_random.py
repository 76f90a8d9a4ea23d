"""Random numbers of events: normal, independent, and a function of event number and place alone."""

import awkward as ak
import numpy as np
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from pipeline.columns import normal
from pipeline.data import event_random

NUMBERS = np.arange(227_000_000, 227_200_000, dtype=np.uint64)


def of(numbers, place, stream="pt_res_up"):
    return event_random.normal(numbers, np.full(len(numbers), place), stream)


def test_they_are_normal_and_independent():
    found = [of(NUMBERS, 0), of(NUMBERS, 1), of(NUMBERS + np.uint64(1), 0), of(NUMBERS, 0, "other")]
    for numbers in found:
        assert scipy.stats.kstest(numbers, "norm").pvalue > 1e-4
        assert np.max(np.abs(numbers)) <= event_random.LARGEST_NORMAL
    held_out = event_random.uniform(NUMBERS)
    correlations = np.corrcoef([*found[:2], found[3], held_out])
    np.testing.assert_allclose(correlations, np.eye(4), atol=5 / len(NUMBERS) ** 0.5)
    np.testing.assert_array_equal(found[2][:-1], found[0][1:])


def test_the_largest_number():
    bits = 0.5 / 2.0**53
    assert -scipy.stats.norm.ppf(bits) < event_random.LARGEST_NORMAL


@given(st.lists(st.lists(st.floats(0, 1), max_size=5), min_size=1, max_size=20), st.integers(0, 20))
def test_chunks_do_not_matter(jets, cut):
    events = np.arange(len(jets), dtype=np.uint64) + np.uint64(2**40)
    array = ak.values_astype(ak.Array([*jets, [0.5]]), "float32")[:-1]  # a type also where all are empty
    whole = normal(events, array, "stream")
    parts = [normal(events[s], array[s], "stream") for s in (slice(None, cut), slice(cut, None))]
    assert ak.concatenate(parts).to_list() == whole.to_list()
    assert ak.num(whole).to_list() == [len(jet) for jet in jets]
