"""Both sets of operations are one interface: the same names, the same calls."""

import inspect

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
