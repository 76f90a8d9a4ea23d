"""Objectives against pyhf, iminuit and formulas; their gradients against finite differences of themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from workspaces import agc_workspace, counting, directions, modifier, two_channels

from pipeline.config import Objective
from pipeline.config.quantities import Discovery, ExpectedVariance
from pipeline.evaluate.by_pyhf.objectives import judge
from pipeline.fit import fit
from pipeline.fit.crossing import falling_root
from pipeline.fit.hypotest import conditional_fit
from pipeline.likelihood import HistFactory
from pipeline.objective import OBJECTIVES, PENALTIES, Inputs, counting_significance, total, value_of

pytestmark = pytest.mark.usefixtures("compiled_quickly")


OPTIONS = {
    "generalised_variance": {"parameters": ("mu", "tilt", "norm")},
    "uncertainty_part": {"sources": ("tilt", "stat_sr")},
    "upper_limit": {"band": 1},
    "asimov_significance": {"background_uncertainty": 0.05},
    "joint_significance": {"signals": ("mu", "norm")},
    "weighted_sum": {"terms": ({"kind": "discovery", "mu": 2.0, "weight": 0.3}, {"kind": "poi_uncertainty"})},
    "overconstrained": {"floor": 0.98},
    "pulls": {"most": 0.1},
    "expected_events": {"least": 50.0},
    "mc_statistics": {"most": 0.05},
}
"""Options with which no objective is trivial and every penalty is at work."""
NEEDED = {"uncertainty_part": {"sources": ("norm",)}}
"""Options without which an objective is none."""
OF_TEMPLATES = {name: kind for name, kind in OBJECTIVES.items() if not kind.of_sums}
EVERYTHING = {**OF_TEMPLATES, **PENALTIES}


def number_of(name, model, templates, **options):
    return value_of(EVERYTHING[name](**options), Inputs(model, templates))


def evaluate(name, model):
    return jax.jit(lambda t: number_of(name, model, t))(model.templates)


def value_and_gradient(name, model):
    """The gradient by the names of the specification."""
    found, gradient = jax.jit(jax.value_and_grad(lambda t: number_of(name, model, t).value))(model.templates)
    return found, model.stacking.named(gradient)


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_gradient_equals_finite_differences(name):
    model = HistFactory.from_workspace(two_channels())
    objective = jax.jit(lambda t: number_of(name, model, t, **OPTIONS.get(name, {})))
    assert objective(model.templates).value != 0
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
        # a limit is a root found to 1e-12 of the POI's range of 10, which the step divides
        np.testing.assert_allclose(along, numeric, rtol=3e-5 if name == "upper_limit" else 1e-6)


def test_reverse_mode_equals_forward_mode():
    model = HistFactory.from_workspace(two_channels())
    sigma = jax.jit(lambda t: number_of("poi_uncertainty", model, t).value)
    gradient = jax.jit(jax.grad(sigma))(model.templates)
    along_direction = jax.jit(lambda d: jax.jvp(sigma, (model.templates,), (d,))[1])
    for direction in directions(model.templates, 2):
        forward = along_direction(direction)
        along = sum(
            jnp.sum(g * d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        )
        np.testing.assert_allclose(along, forward, rtol=1e-10)


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
    exact = np.sqrt(
        judge(ExpectedVariance(), reference, asimov, 0.0)
    )  # the Hessian of pyhf's -ln L by differences
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
    for name in EVERYTHING:
        if name in (
            "weighted_sum",
            "overconstrained",
            "expected_events",
            "mc_statistics",
            "joint_significance",
        ):
            continue  # they need none of their own, or name others
        with pytest.raises(ValueError, match=f"'{name}': the measurement has no POI"):
            number_of(name, model, model.templates, **NEEDED.get(name, {}))


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


@pytest.mark.slow
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


def test_penalties_are_zero_where_all_is_well():
    model = HistFactory.from_workspace(two_channels())
    quiet = {"overconstrained": {"floor": 0.01}, "pulls": {"most": 9.0}}
    for name in PENALTIES:
        found, gradient = jax.jit(
            jax.value_and_grad(lambda t, n=name: number_of(n, model, t, **quiet.get(n, {})).value)
        )(model.templates)
        assert found == 0
        assert all(jnp.all(leaf == 0) for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_penalties_by_hand():
    """One bin: a relative uncertainty r on a background of b is constrained to 1/sqrt(1 + (r b)^2 / (s + b))."""
    content = counting(signal=10.0, background=50.0, relative=0.3)
    content["channels"][0]["samples"][1]["modifiers"].append(modifier("stat", "staterror", [10.0]))
    content["measurements"][0]["config"]["parameters"] = [{"name": "mu", "fixed": True}]
    model = HistFactory.from_workspace(content)
    slope = jax.grad(lambda a: model.expected_data(model.initial.at[1].set(a))[0])(0.0)
    kept = 1 / np.sqrt(1 + slope**2 / (60.0 + 10.0**2))  # the staterror takes its share of the bin
    found = number_of("overconstrained", model, model.templates, floor=0.9).value
    np.testing.assert_allclose(found, (1 - kept / 0.9) ** 2, rtol=1e-10)
    assert number_of("overconstrained", model, model.templates, floor=0.9, parameters=("mu",)).value == 0
    events = number_of("expected_events", model, model.templates, least=80.0).value
    np.testing.assert_allclose(events, (1 - 60 / 80) ** 2, rtol=1e-12)
    statistics = number_of("mc_statistics", model, model.templates, most=0.1).value
    np.testing.assert_allclose(statistics, (0.2 / 0.1 - 1) ** 2, rtol=1e-12)


@pytest.mark.slow
def test_pulls_are_those_of_the_conditional_fit():
    model = HistFactory.from_workspace(two_channels())
    data = model.expected_data(model.initial)
    held = jax.jit(lambda d: conditional_fit(model, d, 0.0, model.dense()))(data)
    names = ["tilt", "norm"]
    pulls = np.array([held.parameters[model.parameter_names.index(name)] for name in names])
    penalty = number_of("pulls", model, model.templates, most=0.1, parameters=names).value
    np.testing.assert_allclose(penalty, np.sum(np.maximum(np.abs(pulls) / 0.1 - 1, 0) ** 2), rtol=1e-8)


@pytest.mark.slow
def test_penalties_steer_and_are_not_reported():
    model = HistFactory.from_workspace(two_channels())
    penalty = {"kind": "expected_events", "least": 50.0, "weight": 0.25}
    objective = Objective(quantity=Discovery(mu=2.0), penalties=[penalty])
    loss, found = jax.jit(lambda t: total(objective, Inputs(model, t)))(model.templates)
    alone = evaluate_with("discovery", model, mu=2.0)
    extra = number_of("expected_events", model, model.templates, least=50.0).value
    np.testing.assert_allclose(found.value, alone, rtol=1e-12)
    np.testing.assert_allclose(loss, -alone + 0.25 * extra, rtol=1e-12)


def evaluate_with(name, model, **options):
    return jax.jit(lambda t: number_of(name, model, t, **options))(model.templates).value


def test_wrong_names_in_options_are_told():
    model = HistFactory.from_workspace(counting())
    with pytest.raises(ValueError, match="'inferno': no parameter 'mo' in the model; nearest: 'mu'"):
        number_of("inferno", model, model.templates, parameter="mo")
    with pytest.raises(ValueError, match="the model has no staterror; set "):
        number_of("mc_statistics", model, model.templates)


@pytest.mark.slow
def test_expected_precisions_are_one_number():
    """On Asimov data the fit stays where it starts: U_kk, sigma^2 and the generalised variance of one agree."""
    model = HistFactory.from_workspace(two_channels())
    sigma = evaluate_with("poi_uncertainty", model)
    np.testing.assert_allclose(evaluate_with("inferno", model), sigma**2, rtol=1e-8)
    np.testing.assert_allclose(evaluate_with("generalised_variance", model), sigma**2, rtol=1e-8)
    interval = evaluate_with("profile_interval", model)
    assert abs(interval / sigma - 1) < 0.05  # a likelihood that is nearly a parabola


def test_ln_p0_lives_beyond_the_smallest_number():
    model = HistFactory.from_workspace(counting(signal=3000.0, background=50.0))
    value, gradient = value_and_gradient("discovery_p_value", model)
    assert value < -750
    assert gradient["bin"]["s"]["data"][0] < -0.1


def test_counting_significance_with_background_uncertainty():
    """The formula as it is printed; and without uncertainty the limit of a small one."""
    s, b = jnp.asarray([3.0, 15.0, 40.0]), jnp.asarray([50.0, 45.0, 9.0])
    sigma = jnp.asarray([5.0, 1.0, 7.0])
    v, n = sigma**2, s + b
    first = n * jnp.log(n * (b + v) / (b**2 + n * v))
    second = b**2 / v * jnp.log(1 + v * s / (b * (b + v)))
    np.testing.assert_allclose(counting_significance(s, b, sigma), jnp.sqrt(2 * (first - second)), rtol=1e-12)
    exact = counting_significance(s, b)
    np.testing.assert_allclose(counting_significance(s, b, 1e-6 * b), exact, rtol=1e-9)
    np.testing.assert_allclose(counting_significance(s, b, jnp.zeros(3)), exact, rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["profile_interval", "upper_limit"])
def test_bounds_of_the_poi_that_allow_negative_rates_change_nothing(name):
    """At mu = -10 the expected events are negative and the test statistic is infinite: the root is still found."""
    found = []
    for low in (0.0, -2.6, -10.0, -1000.0):
        content = counting(signal=8.0, background=20.0)
        content["measurements"][0]["config"]["parameters"] = [{"name": "mu", "bounds": [[low, 10.0]]}]
        value = evaluate(name, HistFactory.from_workspace(content))
        assert value.converged
        found.append(float(value.value))
    np.testing.assert_allclose(found, found[-1], rtol=1e-9)


def trusted(function):
    return lambda x: (function(x), jnp.asarray(True))


def test_a_root_that_is_not_finite_is_not_found():
    where, found = falling_root(
        trusted(lambda x: 1.0 - x / (x - 3.0) ** 2), jnp.asarray(0.0), jnp.asarray(3.0)
    )
    np.testing.assert_allclose(where, (7.0 - np.sqrt(13.0)) / 2, rtol=1e-10)
    assert found
    _, found = falling_root(
        trusted(lambda x: jnp.where(x < 2.0, 1.0, -1.0)), jnp.asarray(0.0), jnp.asarray(3.0)
    )
    assert not found
