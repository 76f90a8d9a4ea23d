"""The Hessian from HistFactory's structure against JAX's own derivatives, also where factors are zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from workspaces import agc_workspace, codes, everything, workspaces

from pipeline.likelihood import HistFactory, derivatives

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def by_jax(model, data, dense):
    """-ln L, gradient and Hessian, slowly and obviously."""

    def nll(p):
        return -model.logpdf(p, data, dense)

    return jax.jit(lambda p: (nll(p), jax.grad(nll)(p), jax.hessian(nll)(p)))


def assert_equal(model, points):
    data, dense = model.data(), model.dense()
    ours, theirs = jax.jit(lambda p: derivatives(model, p, data, dense)), by_jax(model, data, dense)
    for point in points:
        found, expected = ours(point), theirs(point)
        if not np.isfinite(expected[0]):  # a bin that cannot be, whatever its slope
            assert found.nll == expected[0]
            continue
        for mine, exact in zip(found[:3], expected, strict=True):
            np.testing.assert_allclose(mine, exact, rtol=1e-11, atol=1e-11 * np.max(np.abs(exact)))


def around(model):
    """Random points, some with parameters of exactly zero, which a product without one factor must survive."""
    rng = np.random.default_rng(5)
    for scale, zeros in ((0.0, 0.0), (0.3, 0.0), (1.5, 0.0), (0.3, 0.3), (0.0, 1.0)):
        moved = np.asarray(model.initial) + scale * rng.normal(size=model.initial.size)
        yield jnp.asarray(np.where(rng.random(moved.size) < zeros, 0.0, moved))


@pytest.mark.slow
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(workspaces(channels=2, samples=4, bins=5), codes())
def test_derivatives_are_those_of_jax(workspace, modifier_settings):
    model = HistFactory.from_workspace(workspace, modifier_settings=modifier_settings)
    assert_equal(model, around(model))


def test_derivatives_of_the_agc_workspace_and_of_every_modifier():
    for workspace in (agc_workspace(), everything()):
        model = HistFactory.from_workspace(workspace)
        assert_equal(model, around(model))


def test_derivatives_without_a_constraint_term():
    model = HistFactory.from_workspace(
        everything(), constraint_widths={"tilt": None, "norm": 0.3, "shape": None, "stat": None}
    )
    assert_equal(model, around(model))
