"""Objectives against pyhf, iminuit and formulas; their gradients against finite differences of themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from workspaces import agc_workspace, counting, modifier, workspace_of

from pipeline.fit import fit
from pipeline.likelihood import HistFactory
from pipeline.objective import OBJECTIVES, counting_significance


def evaluate(name, model):
    return jax.jit(lambda t: OBJECTIVES[name].function(model, t))(model.templates)


def value_and_gradient(name, model):
    return jax.jit(jax.value_and_grad(lambda t: OBJECTIVES[name].function(model, t).value))(model.templates)


def two_channels():
    """Two channels, shared shape and normalisation uncertainties, MC-statistics, luminosity."""

    def background(scale, tilt):
        nominal = [40.0 * scale, 30.0 * scale, 12.0 * scale]
        high = [n * (1 + tilt * w) for n, w in zip(nominal, (-1, 0, 1), strict=True)]
        low = [n * (1 - 0.8 * tilt * w) for n, w in zip(nominal, (-1, 0, 1), strict=True)]
        return {
            "name": "b",
            "data": nominal,
            "modifiers": [
                modifier("tilt", "histosys", {"hi_data": high, "lo_data": low}),
                modifier("norm", "normsys", {"hi": 1.12, "lo": 0.9}),
                modifier("lumi", "lumi"),
            ],
        }

    channels = []
    for name, scale, tilt, signal in (("sr", 1.0, 0.1, [3.0, 8.0, 11.0]), ("cr", 3.0, 0.06, [1.0, 1.0, 2.0])):
        carried = {
            "name": "s",
            "data": signal,
            "modifiers": [modifier("mu", "normfactor"), modifier("lumi", "lumi")],
        }
        channels.append({"name": name, "samples": [carried, background(scale, tilt)]})
        for sample in channels[-1]["samples"]:
            errors = [0.08 * y for y in sample["data"]]
            sample["modifiers"].append(modifier(f"stat_{name}", "staterror", errors))
    lumi = {"name": "lumi", "inits": [1.0], "bounds": [[0.5, 1.5]], "auxdata": [1.0], "sigmas": [0.02]}
    return workspace_of(channels, {"sr": [43.0, 38.0, 23.0], "cr": [121.0, 91.0, 38.0]}, parameters=[lumi])


def directions(templates, number=4):
    """Relative changes of all numbers of the templates at once."""
    leaves, structure = jax.tree.flatten(templates)
    rng = np.random.default_rng(7)
    for _ in range(number):
        yield structure.unflatten([0.1 * leaf * rng.normal(size=leaf.shape) for leaf in leaves])


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_gradient_equals_finite_differences(name):
    model = HistFactory.from_workspace(two_channels())
    objective = jax.jit(lambda t: OBJECTIVES[name].function(model, t))
    gradient = jax.jit(jax.grad(lambda t: objective(t).value))(model.templates)
    step = 1e-4  # the error of the central difference falls with its square; checked down to 1e-9
    for direction in directions(model.templates):
        values = [
            objective(jax.tree.map(lambda a, b, s=sign: a + s * step * b, model.templates, direction))
            for sign in (1, -1)
        ]
        assert all(value.converged for value in values)
        numeric = (values[0].value - values[1].value) / (2 * step)
        along = sum(
            jnp.sum(g * d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        )
        np.testing.assert_allclose(along, numeric, rtol=1e-6)


def test_reverse_mode_equals_forward_mode():
    model = HistFactory.from_workspace(two_channels())
    value = jax.jit(lambda t: OBJECTIVES["poi_uncertainty"].function(model, t).value)
    gradient = jax.jit(jax.grad(value))(model.templates)
    along_direction = jax.jit(lambda d: jax.jvp(value, (model.templates,), (d,))[1])
    for direction in directions(model.templates, 2):
        forward = along_direction(direction)
        along = sum(
            jnp.sum(g * d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        )
        np.testing.assert_allclose(along, forward, rtol=1e-10)


def hessian_of(reference, data, step=1e-3):
    """Hessian of pyhf's -ln L at its initial parameters by central differences."""
    start = np.asarray(reference.config.suggested_init())
    unit = step * np.eye(start.size)

    def difference(a, b):
        corners = [(s, t) for s in (1, -1) for t in (1, -1)]
        return sum(-s * t * float(reference.logpdf(start + s * a + t * b, data)[0]) for s, t in corners)

    return np.array([[difference(a, b) for b in unit] for a in unit]) / (4 * step**2)


def test_poi_uncertainty_equals_pyhf_and_iminuit():
    workspace = two_channels()
    model = HistFactory.from_workspace(workspace)
    value = evaluate("poi_uncertainty", model)
    assert value.converged
    reference = pyhf.Workspace(workspace).model()
    asimov = reference.expected_data(reference.config.suggested_init())
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(strategy=2, tolerance=1e-4))
    try:
        fitted = pyhf.infer.mle.fit(asimov, reference, return_uncertainties=True)
    finally:
        pyhf.set_backend("numpy")
    poi = reference.config.poi_index
    exact = np.sqrt(np.linalg.inv(hessian_of(reference, asimov))[poi, poi])
    np.testing.assert_allclose(value.value, exact, rtol=1e-5)
    # iminuit's HESSE differs from the Hessian by 0.4 % here (its own numerics, 4 % on the AGC workspace)
    np.testing.assert_allclose(value.value, fitted[poi][1], rtol=1e-2)


def test_poi_uncertainty_of_a_counting_experiment():
    """Without systematics sigma = sqrt(s + b) / s, d sigma / d b = 1 / (2 s sqrt(s + b))."""
    workspace = counting(signal=10.0, background=50.0)
    workspace["channels"][0]["samples"][1]["modifiers"] = []
    model = HistFactory.from_workspace(workspace)
    value, gradient = value_and_gradient("poi_uncertainty", model)
    np.testing.assert_allclose(value, np.sqrt(60.0) / 10.0, rtol=1e-12)
    np.testing.assert_allclose(gradient["bin"]["b"]["data"], [1 / (20 * np.sqrt(60.0))], rtol=1e-12)
    np.testing.assert_allclose(
        gradient["bin"]["s"]["data"], [1 / (20 * np.sqrt(60.0)) - np.sqrt(60.0) / 100], rtol=1e-12
    )


def test_a_poi_without_effect_is_not_converged():
    model = HistFactory.from_workspace(counting(signal=0.0))
    assert not evaluate("poi_uncertainty", model).converged


def test_an_objective_without_poi_is_an_error():
    workspace = counting()
    workspace["measurements"][0]["config"]["poi"] = ""
    model = HistFactory.from_workspace(workspace)
    for name, objective in OBJECTIVES.items():
        with pytest.raises(ValueError, match=f"objective '{name}': the measurement has no POI"):
            objective.function(model, model.templates)


def test_discovery_equals_pyhf():
    workspace = two_channels()
    model = HistFactory.from_workspace(workspace)
    value = evaluate("discovery", model)
    assert value.converged
    reference = pyhf.Workspace(workspace).model()
    asimov = reference.expected_data(reference.config.suggested_init())
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(strategy=2, tolerance=1e-4))
    try:
        initial, bounds = reference.config.suggested_init(), reference.config.suggested_bounds()
        fixed = reference.config.suggested_fixed()
        q0 = pyhf.infer.test_statistics.q0(0.0, asimov, reference, initial, bounds, fixed)
    finally:
        pyhf.set_backend("numpy")
    np.testing.assert_allclose(value.value, np.sqrt(q0), rtol=1e-5)


def test_discovery_of_a_counting_experiment_is_the_formula():
    """Without systematics q0 is eq. 97 of arXiv:1007.1727, also far beyond the reach of p-values."""
    for signal in (10.0, 400.0):
        workspace = counting(signal=signal, background=50.0)
        workspace["channels"][0]["samples"][1]["modifiers"] = []
        model = HistFactory.from_workspace(workspace)
        expected = np.sqrt(2 * ((signal + 50) * np.log1p(signal / 50) - signal))
        for name in ("discovery", "asimov_significance"):
            value = evaluate(name, model)
            assert value.converged
            np.testing.assert_allclose(value.value, expected, rtol=1e-10)


def test_counting_significance_and_its_series_meet():
    background = jnp.full(4, 1e3)
    signal = jnp.asarray([9.999, 10.001, 1e-6, 1e4])
    plain = jnp.sqrt(2 * ((signal + background) * jnp.log1p(signal / background) - signal))
    ours = counting_significance(signal, background)
    np.testing.assert_allclose(ours[jnp.asarray([0, 1, 3])], plain[jnp.asarray([0, 1, 3])], rtol=1e-11)
    np.testing.assert_allclose(ours[2], 1e-6 / np.sqrt(1e3), rtol=1e-9)
    other = counting_significance(signal, background, series_below=0.02)
    np.testing.assert_allclose(ours, other, rtol=1e-12)


def test_counting_significance_at_its_edges():
    slope = jax.grad(lambda s, b: counting_significance(s[None], b[None])[0], argnums=(0, 1))
    by_signal, by_background = slope(jnp.asarray(0.0), jnp.asarray(25.0))
    np.testing.assert_allclose([by_signal, by_background], [1 / 5, 0.0], atol=1e-14)
    for signal, background in ((5.0, 0.0), (0.0, 0.0), (5.0, -1.0), (-5.0, 2.0)):
        value = counting_significance(jnp.asarray([signal]), jnp.asarray([background]))
        assert value == 0
        assert all(g == 0 for g in slope(jnp.asarray(signal), jnp.asarray(background)))
    assert counting_significance(jnp.asarray([-1.0]), jnp.asarray([9.0])) < 0


def test_asimov_significance_without_signal_has_the_slope_of_one_bin():
    model = HistFactory.from_workspace(counting(signal=0.0, background=25.0))
    value, gradient = value_and_gradient("asimov_significance", model)
    assert value == 0
    np.testing.assert_allclose(gradient["bin"]["s"]["data"], [1 / 5], rtol=1e-12)


def test_agc_sized_model():
    """The fit to its own Asimov data gives the AGC's 34 parameters back, and every objective has a gradient."""
    model = HistFactory.from_workspace(agc_workspace())
    result = jax.jit(lambda d: fit(model, d))(model.expected_data(model.initial))
    np.testing.assert_allclose(result.parameters, model.initial, atol=1e-8)
    value, gradient = value_and_gradient("poi_uncertainty", model)
    np.testing.assert_allclose(value, 0.119666, atol=1e-6)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_conditional_fit_far_from_its_start():
    """mu = 0 on the AGC's Asimov data: six nuisance parameters end at their bounds, as they do in pyhf."""
    model = HistFactory.from_workspace(agc_workspace())
    value = evaluate("discovery", model)
    assert value.converged
    np.testing.assert_allclose(value.value, 76.86825, atol=1e-4)
