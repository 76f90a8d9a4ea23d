"""The textbook trade-off of one cut: signal against a background that is known the worse the harder the cut.

s = 15 + phi, b = 45 - 2 phi, with two laws of the background's uncertainty. s/b is largest at the end of the range,
the discovery is not: an optimiser by gradients must find the maximum that a scan finds.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyhf
import pytest
from workspaces import workspace_of

from pipeline.config.quantities import DiscoveryPValue
from pipeline.likelihood import HistFactory
from pipeline.objective import Inputs, counting_significance, value_of

LAWS = {"quadratic": lambda phi: 1 + (phi / 5) ** 2, "steep": lambda phi: 0.5 + 0.1 * phi**2}


def yields(phi, law):
    """Signal, background and its uncertainty in one bin."""
    return 15 + phi, 45 - 2 * phi, LAWS[law](phi)


def ln_p0(law):
    """The p-value by the full likelihood, whose only nuisance parameter is a shapesys."""
    channels = pyhf.simplemodels.uncorrelated_background([16.0], [40.0], [2.0]).spec["channels"]
    model = HistFactory.from_workspace(workspace_of(channels, {"singlechannel": [56.0]}))

    def value(phi):
        s, b, sigma = (jnp.reshape(y, (1,)) for y in yields(phi, law))
        samples = {
            "signal": {"data": s, "normfactor": {"mu": None}},
            "background": {"data": b, "shapesys": {"uncorr_bkguncrt": sigma}},
        }
        return value_of(DiscoveryPValue(), Inputs(model, {"singlechannel": samples})).value

    return value


def minus_z(law):
    """The formula of counting with background uncertainty."""
    return lambda phi: -counting_significance(*(jnp.reshape(y, (1,)) for y in yields(phi, law)))[0]


def by_gradient(function, start, steps=400):
    """Adam with a falling step, from far away."""
    optimiser = optax.adam(optax.cosine_decay_schedule(0.1, steps, alpha=1e-3))

    def step(state, _):
        phi, moments = state
        change, moments = optimiser.update(jax.grad(function)(phi), moments)
        return (phi + change, moments), None

    start = jnp.asarray(start)
    with jax.numpy_dtype_promotion("standard"):  # optax divides integers by floats
        (phi, _), _ = jax.jit(lambda s: jax.lax.scan(step, (s, optimiser.init(s)), length=steps))(start)
    return float(phi)


def by_scan(function, low=0.0, high=15.0, points=151):
    """The lowest point of finer and finer scans."""
    compiled = jax.jit(jax.vmap(function))
    while high - low > 1e-4:
        grid = jnp.linspace(low, high, points)
        best = int(jnp.argmin(compiled(grid)))
        low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, points - 1)])
    return (low + high) / 2


@pytest.mark.parametrize("law", LAWS)
def test_optimiser_and_scan_agree(law):
    found = {
        name: (by_gradient(function, 1.0), by_gradient(function, 11.0), by_scan(function))
        for name, function in (("p-value", ln_p0(law)), ("significance", minus_z(law)))
    }
    for from_below, from_above, scanned in found.values():
        assert 0.5 < scanned < 14
        np.testing.assert_allclose([from_below, from_above], scanned, atol=1e-3)
    np.testing.assert_allclose(found["p-value"][2], found["significance"][2], atol=1e-3)


def test_p_value_is_the_formula_s_and_pyhf_s():
    function = jax.jit(ln_p0("steep"))
    s, b, sigma = yields(4.0, "steep")
    model = pyhf.simplemodels.uncorrelated_background([s], [b], [sigma])
    data = model.expected_data(model.config.suggested_init())
    p0 = float(pyhf.infer.hypotest(0.0, data, model, test_stat="q0"))
    np.testing.assert_allclose(np.exp(function(4.0)), p0, rtol=1e-4)
    z = -minus_z("steep")(4.0)
    np.testing.assert_allclose(function(4.0), jax.scipy.special.log_ndtr(-z), rtol=1e-9)
