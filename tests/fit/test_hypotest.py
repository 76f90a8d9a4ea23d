"""Asymptotic tests and limits against pyhf, on any data; gradients against finite differences; ten sigma."""

import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from workspaces import counting, directions, two_channels

from pipeline.fit.crossing import falling_root
from pipeline.fit.hypotest import BANDS, expected_upper_limit, hypotest
from pipeline.likelihood import HistFactory

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module")
def pair():
    """Our model and pyhf's of one workspace."""
    workspace = pyhf.Workspace(two_channels())
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(strategy=2, tolerance=1e-9))
    return HistFactory.from_workspace(two_channels()), workspace.model(), workspace


compiled = jax.jit(hypotest)


@pytest.mark.parametrize("scale", [1.0, 1.04, 0.9])
@pytest.mark.parametrize("mu", [0.4, 1.0, 2.5])
def test_p_values_are_pyhfs_on_any_data(pair, scale, mu):
    model, theirs, workspace = pair
    data = np.array(workspace.data(theirs))
    data[: sum(model.bins)] *= scale
    observed, (clsb, clb), expected = pyhf.infer.hypotest(
        mu, data, theirs, test_stat="qtilde", return_tail_probs=True, return_expected_set=True
    )
    found = compiled(model, jnp.asarray(data), mu)
    assert found.converged
    np.testing.assert_allclose(np.exp(found.log_cls), observed, rtol=1e-6)
    np.testing.assert_allclose(np.exp(found.log_clsb), clsb, rtol=1e-6)
    np.testing.assert_allclose(np.exp(found.log_clb), clb, rtol=1e-6)
    np.testing.assert_allclose(np.exp(found.log_cls_expected), expected, rtol=1e-6)


@pytest.mark.slow
def test_gradient_of_cls_equals_finite_differences(pair):
    model, theirs, workspace = pair
    data = jnp.asarray(workspace.data(theirs))
    log_cls = jax.jit(lambda t: hypotest(model, data, 2.0, t).log_cls)  # the data's best fit is 1
    gradient = jax.jit(jax.grad(log_cls))(model.templates)
    for direction in directions(model.templates, 2):
        ends = [
            log_cls(jax.tree.map(lambda a, b, s=s: a + s * 5e-5 * b, model.templates, direction))
            for s in (1, -1)
        ]
        along = sum(
            jnp.sum(g * d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        )
        np.testing.assert_allclose(along, (ends[0] - ends[1]) / 1e-4, rtol=1e-6)


def test_p_values_and_their_derivatives_live_beyond_ten_sigma():
    model = HistFactory.from_workspace(counting(signal=3000.0, background=50.0))
    data = model.expected_data(model.initial.at[model.poi_index].set(0.0))
    value, slope = jax.jit(jax.value_and_grad(lambda mu: hypotest(model, data, mu).log_cls))(1.0)
    assert value < -1000
    assert np.isfinite(value)
    assert slope < -1000


def test_a_poi_without_effect_has_cls_of_one_and_derivative_zero():
    model = HistFactory.from_workspace(counting(signal=0.0))
    data = model.expected_data(model.initial)
    value, slope = jax.jit(jax.value_and_grad(lambda mu: hypotest(model, data, mu).log_cls))(1.0)
    assert value == 0
    assert slope == 0


def test_expected_limits_are_pyhfs():
    content = two_channels()
    model, theirs = HistFactory.from_workspace(content), pyhf.Workspace(content).model()
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-4))
    truth = model.initial.at[model.poi_index].set(0.0)
    data = np.asarray(model.expected_data(truth))
    limits = jax.jit(expected_upper_limit)(model)
    assert np.all(limits.converged)
    for band, limit in enumerate(limits.value.tolist()):
        _, expected = pyhf.infer.hypotest(limit, data, theirs, return_expected_set=True)
        assert float(expected[band]) == pytest.approx(0.05, rel=2e-3)


@pytest.mark.slow
def test_gradient_of_a_limit_equals_finite_differences():
    model = HistFactory.from_workspace(two_channels())
    bands = BANDS[1:4]
    limits = jax.jit(lambda t: expected_upper_limit(model, t, bands=bands).value)
    direction = next(directions(model.templates, 1))
    _, along = jax.jit(lambda t, d: jax.jvp(limits, (t,), (d,)))(model.templates, direction)
    ends = [
        limits(jax.tree.map(lambda a, b, s=s: a + s * 1e-4 * b, model.templates, direction)) for s in (1, -1)
    ]
    np.testing.assert_allclose(along, (ends[0] - ends[1]) / 2e-4, rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda t: limits(t)[1]))(model.templates)
    total = sum(
        jnp.sum(g * d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    assert float(total) == pytest.approx(float(along[1]), rel=1e-10)


def test_a_limit_beyond_the_bounds_has_not_converged():
    model = HistFactory.from_workspace(counting(signal=0.1, background=50.0))
    limits = jax.jit(expected_upper_limit)(model)
    assert not np.any(limits.converged[2:])


def test_the_root_of_a_falling_function_and_its_derivative():
    def crossing(a):
        return falling_root(
            lambda x: (a - jnp.sinh(x), jnp.asarray(True)), jnp.asarray(0.0), jnp.asarray(5.0)
        )[0]

    value, slope = jax.jit(jax.value_and_grad(crossing))(2.0)
    assert float(value) == pytest.approx(np.arcsinh(2.0), rel=1e-11)
    assert float(slope) == pytest.approx(1 / np.sqrt(5.0), rel=1e-10)
