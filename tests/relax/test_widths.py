"""Which width a call uses, and the twins' signatures."""

import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.relax import Exact, Relaxed

X = jnp.array([0.0, 1.0, 2.0])


def cut(width, threshold=1.2):
    return 1 / (1 + np.exp(-(np.asarray(X) - threshold) / width))


def test_a_free_parameter_finds_its_width_under_jit_and_grad():
    def total(p, widths):
        relax = Relaxed(widths, thresholds=p)
        return jnp.sum(relax.greater(X, p["pt"]) + relax.less(X, p["eta"]) + relax.between(X, p["pt"], 9.0))

    p, widths = {"pt": jnp.asarray(1.2), "eta": jnp.asarray(1.2)}, {"pt": jnp.asarray(0.3), "eta": 2.0}
    expected = cut(0.3) + 1 - cut(2.0) + cut(0.3) * (1 - cut(0.3, 9.0))
    value, gradients = jax.jit(jax.value_and_grad(total))(p, widths)
    np.testing.assert_allclose(value, expected.sum(), rtol=1e-13)
    assert all(np.isfinite(gradient) and gradient != 0 for gradient in gradients.values())


def test_names_numbers_and_one_width_for_all():
    relax = Relaxed({"pt": 0.3, "eta": 2.0})
    np.testing.assert_allclose(relax.greater(X, 1.2, width="eta"), cut(2.0), rtol=1e-14)
    np.testing.assert_allclose(relax.greater(X, 1.2, width=0.7), cut(0.7), rtol=1e-14)
    np.testing.assert_allclose(Relaxed(0.4).greater(X, 1.2), cut(0.4), rtol=1e-14)
    np.testing.assert_allclose(Relaxed(0.4).greater(X, 1.2, width="eta"), cut(0.4), rtol=1e-14)


def test_each_edge_of_a_window_has_its_own_width():
    p = {"low": jnp.asarray(0.5), "high": jnp.asarray(1.5)}
    relax = Relaxed({"low": 0.1, "high": 0.9}, p)
    expected = cut(0.1, 0.5) * (1 - cut(0.9, 1.5))
    np.testing.assert_allclose(relax.between(X, p["low"], p["high"]), expected, rtol=1e-13)
    upper = cut(0.9, 0.0) * (1 - cut(0.9, 1.5))
    np.testing.assert_allclose(relax.between(X, 0.0, p["high"]), upper, rtol=1e-13)


def test_missing_widths_are_named():
    p = {"pt": jnp.asarray(1.2), "met": jnp.asarray(1.2)}
    relax = Relaxed({"pt": 0.3, "eta": 2.0}, p)
    with pytest.raises(
        ValueError, match=r"greater: no width given.*\(pt, met\).*exist for: pt, eta; give width="
    ):
        relax.greater(X, jnp.asarray(1.2))
    with pytest.raises(ValueError, match=r"less: no width named 'met'; widths exist for: pt, eta"):
        relax.less(X, p["met"])
    with pytest.raises(ValueError, match=r"max: no width named 'mass'"):
        relax.max(X, width="mass")


def test_equal_python_numbers_are_no_parameter():
    threshold = 1.2
    with pytest.raises(ValueError, match="none of the free parameters"):
        Relaxed({"pt": 0.3}, {"pt": threshold}).greater(X, threshold)


def test_a_shared_array_is_refused():
    shared = jnp.asarray(1.2)
    with pytest.raises(ValueError, match=r"shared by the parameters \['a', 'b'\]"):
        Relaxed({"a": 0.3, "b": 0.4}, {"a": shared, "b": shared}).greater(X, shared)


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_widths_are_above_zero(width):
    for relax in (Relaxed(width), Relaxed({"pt": width})):
        with pytest.raises(ValueError, match="allowed: above 0; use Exact"):
            relax.greater(X, 1.2, width="pt")


def test_unknown_edges_are_refused():
    with pytest.raises((ValueError, TypeError), match="edge"):
        Relaxed(1.0, edge="linear")


def test_twins_have_the_same_methods_and_calls():
    def public(kind):
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: inspect.signature(method) for name, method in methods if not name.startswith("_")}

    relaxed, exact = public(Relaxed), public(Exact)
    assert relaxed.keys() == exact.keys()
    for name, signature in relaxed.items():
        assert list(signature.parameters) == list(exact[name].parameters)


def test_importing_the_package_changes_no_setting_of_jax():
    code = "import jax; old = dict(jax.config.values); import pipeline.relax; assert old == jax.config.values"
    subprocess.run([sys.executable, "-c", code], check=True)
