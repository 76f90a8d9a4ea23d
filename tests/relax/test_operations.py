"""Both sets of operations are one interface: the same names, the same calls."""

import inspect

import jax
import numpy as np
import pytest

from pipeline.relax import Exact, Relaxed


def public(kind):
    return {name: f for name, f in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def test_both_have_the_same_operations():
    assert public(Relaxed).keys() == public(Exact).keys()


@pytest.mark.parametrize("name", public(Relaxed))
def test_an_operation_is_called_the_same_way(name):
    relaxed, exact = (inspect.signature(public(kind)[name]).parameters for kind in (Relaxed, Exact))
    assert list(relaxed) == list(exact)
    for argument, found in exact.items():
        assert found.kind == relaxed[argument].kind
        same = found.default == relaxed[argument].default
        assert same or argument == "bandwidth"  # which the exact histogram may leave out


def test_orderings_take_their_widths_by_name_and_tend_to_the_exact_ones(key):
    pt, real = jax.random.uniform(key, (30, 6)), np.arange(6) < np.arange(30)[:, None] % 7
    relax, named = Relaxed({"pt": 1e-9}), {"width": "pt", "mask": real}
    np.testing.assert_allclose(relax.sort(pt, **named), Exact().sort(pt, **named), atol=1e-12)
    np.testing.assert_allclose(relax.rank(pt, **named), Exact().rank(pt, **named), atol=1e-12)
    np.testing.assert_allclose(relax.top(pt, 2, **named), Exact().top(pt, 2, **named), atol=1e-12)
    np.testing.assert_allclose(relax.nth(pt, 2, **named), Exact().nth(pt, 2, **named), atol=1e-12)
    leading = relax.take(pt, relax.nth(pt, 1, **named))
    np.testing.assert_allclose(leading, np.max(np.where(real, pt, 0), axis=1), atol=1e-12)


def test_a_sort_takes_no_width_that_was_not_meant_for_it():
    with pytest.raises(ValueError, match=r"sort: no width given; allowed: .* inverse unit"):
        Relaxed(2.0).sort(np.arange(3.0))
    assert Exact().sort(np.array([2.0, 1.0])).tolist() == [1, 2]
