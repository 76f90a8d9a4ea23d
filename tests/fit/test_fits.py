"""Fits against pyhf with iminuit, and the derivative of the minimum three ways."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from workspaces import agc_workspace, counting, modifier, workspace_of, workspaces

from pipeline.fit import (
    FitOptions,
    FitStatus,
    covariance,
    expected_information,
    fisher_information,
    fit,
    fit_with_covariance,
    profile,
)
from pipeline.likelihood import HistFactory

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module", autouse=True)
def minuit():
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(strategy=2, tolerance=1e-3))
    yield
    pyhf.set_backend("numpy")


def pyhf_fit(workspace, **kwargs):
    """-2 ln L and parameters of pyhf's fit."""
    content = pyhf.Workspace(workspace)
    model = content.model()
    parameters, value = pyhf.infer.mle.fit(content.data(model), model, return_fitted_val=True, **kwargs)
    return np.asarray(parameters), float(value)


def names_of(model, marked):
    """Names of the parameters that a result marks."""
    return [name for name, is_one in zip(model.parameter_names, marked.tolist(), strict=True) if is_one]


def shape_workspace(observed=(62.0, 58.0, 41.0)):
    """Three bins, mu, a shape, a normalisation and MC-statistics."""
    samples = [
        {"name": "s", "data": [4.0, 9.0, 11.0], "modifiers": [modifier("mu", "normfactor")]},
        {
            "name": "b",
            "data": [60.0, 50.0, 30.0],
            "modifiers": [
                modifier("tilt", "histosys", {"hi_data": [63.0, 50.0, 27.0], "lo_data": [56.0, 50.0, 32.0]}),
                modifier("norm", "normsys", {"hi": 1.1, "lo": 0.92}),
                modifier("stat", "staterror", [2.0, 2.0, 1.0]),
            ],
        },
    ]
    return workspace_of([{"name": "c", "samples": samples}], {"c": list(observed)})


def assert_not_above_minuit(workspace):
    """Our fit, and that its minimum is not above pyhf's with iminuit, where that ends at one."""
    model = HistFactory.from_workspace(workspace)
    result = eqx.filter_jit(fit)(model, model.data())
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(strategy=1, tolerance=1e-3))
    try:
        _, value = pyhf_fit(workspace)
    except (pyhf.exceptions.FailedMinimization, AttributeError):  # the latter where Minuit has no covariance
        value = np.inf
    finally:
        pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(strategy=2, tolerance=1e-3))
    assert result.twice_nll <= value + 1e-6
    return model, result, value


def said_to_be_flat(model, result):
    """Whether the data say nothing of some direction, and the fit does not claim a minimum."""
    information = expected_information(model, result.parameters)
    return bool(
        jnp.linalg.matrix_rank(information) < len(information) and result.status != FitStatus.CONVERGED
    )


def examples(number):
    """So many random workspaces; a failing one is not shrunk, because fits take longer than all the tests."""
    health = list(HealthCheck)
    phases = [Phase.generate]
    return settings(
        max_examples=number, deadline=None, derandomize=True, phases=phases, suppress_health_check=health
    )


@pytest.mark.slow
@examples(10)
@given(workspaces(kinds=("histosys", "normsys", "lumi", "staterror", "shapesys")))
def test_minimum_is_not_above_that_of_minuit(workspace):
    model, result, value = assert_not_above_minuit(workspace)
    assert result.converged or said_to_be_flat(model, result), result.describe(model.parameter_names)
    assert np.isfinite(value)


@pytest.mark.slow
@examples(5)
@given(workspaces(channels=2, samples=3, bins=5))
def test_minimum_with_shapefactors_is_not_above_that_of_minuit(workspace):
    """Their directions may be flat, where neither fit need converge, but each says so."""
    model, result, _ = assert_not_above_minuit(workspace)
    assert result.converged or said_to_be_flat(model, result), result.describe(model.parameter_names)


def test_agc_workspace():
    """The known answer of shared/notes/agc.md: exact Hessian, where iminuit's HESSE gives 0.1041."""
    model = HistFactory.from_workspace(agc_workspace())
    result, variance = eqx.filter_jit(fit_with_covariance)(model, model.data(), [model.poi_index])
    assert result.converged
    np.testing.assert_allclose(result.parameters[model.poi_index], 0.96077, atol=5e-6)
    np.testing.assert_allclose(jnp.sqrt(variance), 0.10821, atol=5e-6)
    np.testing.assert_allclose(result.twice_nll, 141.33353, atol=5e-6)
    errors = jnp.sqrt(jnp.diagonal(eqx.filter_jit(covariance)(model, result.parameters, model.data())))
    for name, value, error in (("Jet energy scale", -0.06221, 0.25596), ("ME variation", 0.4555, 0.1595)):
        index = model.parameter_names.index(name)
        np.testing.assert_allclose(result.parameters[index], value, atol=5e-5)
        np.testing.assert_allclose(errors[index], error, atol=5e-5)


def test_one_normfactor_one_histosys():
    """The shape of pyhf issue 1591, on which minuit's defaults miss the minimum."""
    samples = [
        {"name": "s", "data": [0.0, 1.3, 4.4, 8.0], "modifiers": [modifier("mu", "normfactor")]},
        {
            "name": "b",
            "data": [80.0, 40.0, 9.0, 2.0],
            "modifiers": [
                modifier(
                    "shape",
                    "histosys",
                    {"hi_data": [60.0, 45.0, 20.0, 6.0], "lo_data": [95.0, 33.0, 4.0, 0.5]},
                )
            ],
        },
    ]
    workspace = workspace_of([{"name": "c", "samples": samples}], {"c": [85.0, 36.0, 7.0, 1.0]})
    model = HistFactory.from_workspace(workspace)
    result = eqx.filter_jit(fit)(model, model.data())
    assert result.converged
    assert result.edm < 1e-20
    assert result.twice_nll <= pyhf_fit(workspace)[1] + 1e-6


def two_regions(shift, observed):
    """A signal region and a control region with one shape systematic, (hi, lo) of 100 events."""
    sides = {"hi_data": [shift[0]], "lo_data": [shift[1]]}
    background = {"name": "b", "data": [100.0], "modifiers": [modifier("a", "histosys", sides)]}
    signal = {"name": "s", "data": [10.0], "modifiers": [modifier("mu", "normfactor")]}
    channels = [{"name": "c", "samples": [signal, background]}, {"name": "d", "samples": [background]}]
    return workspace_of(channels, {"c": [observed[0]], "d": [observed[1]]})


@pytest.mark.parametrize(
    ("shift", "observed"),
    [((120.0, 100.0), (140.0, 130.0)), ((80.0, 100.0), (80.0, 70.0)), ((120.0, 120.0), (105.0, 95.0))],
)
def test_interpolation_with_a_kink_at_the_start(shift, observed):
    """Code 0 of a one-sided systematic is flat on one side of the start: the fit must see the other."""
    code = {"histosys": {"interpcode": "code0"}}
    workspace = two_regions(shift, observed)
    model = HistFactory.from_workspace(workspace, modifier_settings=code)
    result = eqx.filter_jit(fit)(model, model.data())
    assert result.converged
    content = pyhf.Workspace(workspace)
    theirs = content.model(modifier_settings=code)
    _, value = pyhf.infer.mle.fit(content.data(theirs), theirs, return_fitted_val=True)
    assert result.twice_nll <= value + 1e-6


@pytest.mark.parametrize("relative", [1e-4, 1e-7, 1e-9, 1e-10])
def test_a_nearly_certain_shapesys_acts_as_a_certain_one(relative):
    """Its constraint counts 1e18 auxiliary events: their rounding must not pass for the likelihood's."""
    samples = [
        {"name": "s", "data": [1.0, 10.0], "modifiers": [modifier("mu", "normfactor")]},
        {"name": "b", "data": [50.0, 60.0], "modifiers": [modifier("n", "normsys", {"hi": 1.3, "lo": 0.7})]},
    ]
    content = workspace_of([{"name": "c", "samples": samples}], {"c": [300.0, 80.0]})
    certain = HistFactory.from_workspace(content)
    samples[1]["modifiers"].append(modifier("sh", "shapesys", [50 * relative, 0.0]))
    nearly = HistFactory.from_workspace(content)
    expected, found = (eqx.filter_jit(fit)(m, m.data()) for m in (certain, nearly))
    assert found.converged
    np.testing.assert_allclose(found.parameters[:2], expected.parameters, atol=100 * relative + 1e-8)


@pytest.mark.slow
def test_active_bound_and_fixed_poi():
    workspace = shape_workspace(observed=(50.0, 40.0, 20.0))  # a deficit: mu stops at 0
    model = HistFactory.from_workspace(workspace)
    jitted = eqx.filter_jit(fit)
    result = jitted(model, model.data())
    assert result.converged
    assert names_of(model, result.at_bounds) == ["mu"]
    assert "at bounds: mu" in result.describe(model.parameter_names)
    parameters, value = pyhf_fit(workspace)
    np.testing.assert_allclose(result.parameters, parameters, atol=2e-3)
    assert result.twice_nll <= value + 1e-6
    fixed = model.fixed.at[model.poi_index].set(True)
    held = jitted(model, model.data(), init=model.initial.at[model.poi_index].set(0.0), fixed=fixed)
    np.testing.assert_allclose(held.parameters, result.parameters, atol=1e-9)
    gradient = jax.jit(jax.grad(lambda d: fit(model, d).parameters[model.poi_index]))(model.data())
    np.testing.assert_array_equal(gradient, 0.0)


def test_failures_are_told():
    workspace = shape_workspace()
    model = HistFactory.from_workspace(workspace)
    jitted = eqx.filter_jit(fit)
    few = jitted(model, model.data(), options=FitOptions(max_steps=1))
    assert not few.converged
    assert few.status == FitStatus.STEPS_EXHAUSTED
    for sample in workspace["channels"][0]["samples"]:
        sample["data"][0] = 0.0
    workspace["channels"][0]["samples"][1]["modifiers"].pop(0)
    impossible = HistFactory.from_workspace(workspace)
    result = jitted(impossible, impossible.data())
    assert not result.converged
    assert result.status == FitStatus.NOT_FINITE
    workspace["channels"][0]["samples"][0]["data"] = [0.0, 0.0, 0.0]  # mu without effect is held
    without = HistFactory.from_workspace(workspace)
    result = jitted(without, without.data().at[0].set(0.0))
    assert result.converged
    assert result.steps < 10
    assert names_of(without, result.flat) == ["mu"]
    assert "undetermined: mu" in result.describe(without.parameter_names)


def test_batched_fits_equal_single_ones(key):
    model = HistFactory.from_workspace(shape_workspace())
    toys = jnp.concatenate(
        [
            jax.random.poisson(key, model.data()[:3], (6, 3)).astype(float),
            jnp.tile(model.auxdata(), (6, 1)),
        ],
        axis=1,
    )
    single = jax.jit(lambda d: fit(model, d))
    batched = jax.jit(jax.vmap(lambda d: fit(model, d)))(toys)
    assert jnp.all(batched.converged)
    for toy, parameters in zip(toys, batched.parameters, strict=True):
        np.testing.assert_allclose(parameters, single(toy).parameters, atol=1e-8)


def test_covariance_is_the_inverse_of_the_information():
    model = HistFactory.from_workspace(shape_workspace())
    data = model.data()
    result, variance = eqx.filter_jit(fit_with_covariance)(model, data, [model.poi_index])
    information = eqx.filter_jit(fisher_information)(model, result.parameters, data)
    jitted = eqx.filter_jit(covariance)
    inverse = jitted(model, result.parameters, data)
    np.testing.assert_allclose(inverse @ information, np.eye(len(model.parameter_names)), atol=1e-10)
    np.testing.assert_allclose(inverse[model.poi_index, model.poi_index], variance, rtol=1e-10)
    held = jitted(model, result.parameters, data, fixed=model.fixed.at[0].set(True))
    assert jnp.all(held[0] == 0)
    assert jnp.all(held[:, 0] == 0)
    kept = np.linalg.inv(np.asarray(information)[1:, 1:])
    np.testing.assert_allclose(held[1:, 1:], kept, rtol=1e-10)


def test_expected_information_is_the_hessian_on_asimov_data():
    """Also with a Poisson constraint, without one of the others, and in a bin that expects nothing."""
    workspace = shape_workspace()
    workspace["channels"][0]["samples"][1]["modifiers"].append(modifier("shape", "shapesys", [3.0, 0.0, 2.0]))
    for sample in workspace["channels"][0]["samples"]:
        sample["data"][1] = 0.0
        for mod in sample["modifiers"]:
            if mod["type"] == "histosys":
                mod["data"] = {side: [bins[0], 0.0, bins[2]] for side, bins in mod["data"].items()}
    model = HistFactory.from_workspace(workspace, constraint_widths={"tilt": None, "norm": 2.0})
    asimov = model.expected_data(model.initial)
    exact = eqx.filter_jit(fisher_information)(model, model.initial, asimov)
    found = eqx.filter_jit(expected_information)(model, model.initial)
    np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-10)


def newton(model, data, templates, steps=12):
    """The minimum by plain Newton steps, unrolled: slow, and differentiable by going through every step."""
    dense = model.dense(templates)

    def nll(p):
        return -model.logpdf(p, data, dense)

    def step(parameters, _):
        return parameters - jnp.linalg.solve(jax.hessian(nll)(parameters), jax.grad(nll)(parameters)), None

    return jax.lax.scan(step, model.initial, length=steps)[0]


def small_workspace():
    workspace = counting(signal=12.0, background=50.0, relative=0.08, observed=64.0)
    workspace["channels"][0]["samples"][1]["modifiers"][0]["data"]["lo"] = 0.95
    return workspace


def test_derivative_of_the_minimum_equals_the_unrolled_one():
    model = HistFactory.from_workspace(small_workspace())

    def by(method):
        return jax.jit(jax.jacrev(lambda d, t: method(d, t), argnums=(0, 1)))(model.data(), model.templates)

    implicit = by(lambda d, t: fit(model, d, templates=t).parameters)
    unrolled = by(lambda d, t: newton(model, d, t))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), implicit, unrolled)


def projected_newton(model, data, templates, steps=15):
    """Newton within the bounds, unrolled: a parameter that a bound holds is left out of the step."""
    dense = model.dense(templates)
    low, high = model.bounds[:, 0], model.bounds[:, 1]

    def nll(p):
        return -model.logpdf(p, data, dense)

    def step(p, _):
        gradient, hessian = jax.grad(nll)(p), jax.hessian(nll)(p)
        held = ((p <= low) & (gradient > 0)) | ((p >= high) & (gradient < 0))
        free = ~held[:, None] & ~held[None, :]
        move = jnp.linalg.solve(jnp.where(free, hessian, jnp.eye(p.size)), jnp.where(held, 0.0, gradient))
        return jnp.clip(p - move, low, high), None

    return jax.lax.scan(step, model.initial, length=steps)[0]


def test_derivatives_at_an_active_bound_three_ways():
    """A deficit holds mu at 0: implicit, unrolled and finite differences agree on everything else."""
    model = HistFactory.from_workspace(shape_workspace(observed=(50.0, 40.0, 20.0)))
    data, templates = model.data(), model.templates

    def by(method):
        return jax.jit(jax.jacrev(lambda d, t: method(d, t), argnums=(0, 1)))(data, templates)

    def fitted(d, t):
        return fit(model, d, templates=t).parameters

    implicit, unrolled = by(fitted), by(lambda d, t: projected_newton(model, d, t))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), implicit, unrolled)
    compiled, step = jax.jit(fitted), 1e-3
    assert compiled(data, templates)[model.poi_index] == 0
    for i in range(3):
        ends = [compiled(data.at[i].add(sign * step), templates) for sign in (1, -1)]
        np.testing.assert_allclose(implicit[0][:, i], (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("observed", [(62.0, 58.0, 41.0), (50.0, 40.0, 20.0)], ids=["free", "at the bound"])
def test_profile_has_the_value_and_both_derivatives_of_the_fit(observed):
    model = HistFactory.from_workspace(shape_workspace(observed=observed))

    def of(method):
        def value(data):
            return method(model, data).twice_nll

        return jax.jit(lambda d: (value(d), jax.grad(value)(d), jax.hessian(value)(d)))(model.data())

    for mine, exact in zip(of(profile), of(fit), strict=True):
        np.testing.assert_allclose(mine, exact, rtol=1e-9, atol=1e-12)
    assert (
        not jax.tree.leaves(jax.grad(lambda d: jnp.sum(profile(model, d).parameters))(model.data()))
        .pop()
        .any()
    )


def test_second_derivative_of_the_minimum_equals_the_unrolled_one():
    model = HistFactory.from_workspace(small_workspace())

    def by(method):
        return jax.jit(jax.hessian(lambda d: method(d)[0]))(model.data())

    implicit = by(lambda d: fit(model, d).parameters)
    np.testing.assert_allclose(implicit, by(lambda d: newton(model, d, None)), rtol=1e-7, atol=1e-12)


def test_derivative_of_the_minimum_by_finite_differences():
    model = HistFactory.from_workspace(shape_workspace())
    mu = jax.jit(lambda d, t: fit(model, d, templates=t).parameters[model.poi_index])
    data, templates = model.data(), model.templates
    by_data, by_templates = jax.jit(jax.grad(mu, argnums=(0, 1)))(data, templates)
    step = 1e-3  # of counts in the tens
    for i in range(data.size):
        moved = [mu(data.at[i].add(sign * step), templates) for sign in (1, -1)]
        np.testing.assert_allclose(by_data[i], (moved[0] - moved[1]) / (2 * step), rtol=1e-6, atol=1e-9)
    step = 1e-4  # the error of the central difference falls with its square; checked down to 1e-9
    leaves, structure = jax.tree.flatten(templates)
    direction = [
        jnp.cos(jnp.arange(leaf.size, dtype=float)).reshape(leaf.shape) * 0.1 * leaf for leaf in leaves
    ]
    moved = [
        mu(data, structure.unflatten([a + s * step * b for a, b in zip(leaves, direction, strict=True)]))
        for s in (1, -1)
    ]
    along = sum(jnp.sum(g * b) for g, b in zip(jax.tree.leaves(by_templates), direction, strict=True))
    np.testing.assert_allclose(along, (moved[0] - moved[1]) / (2 * step), rtol=1e-6)


def test_profiled_parameter_follows_a_fixed_one():
    """d theta_hat / d mu = -H_tt^-1 H_t,mu, through the starting value of the fixed POI."""
    model = HistFactory.from_workspace(small_workspace())
    data, poi = model.data(), model.poi_index
    fixed = model.fixed.at[poi].set(True)

    def profile(mu):
        return fit(model, data, init=model.initial.at[poi].set(mu), fixed=fixed).parameters

    at = jax.jit(profile)(0.8)
    information = eqx.filter_jit(fisher_information)(model, at, data)
    slope = jax.jit(jax.jacfwd(profile))(0.8)
    np.testing.assert_allclose(slope[poi], 1.0)
    np.testing.assert_allclose(slope[1], -information[0, 1] / information[1, 1], rtol=1e-10)


def test_counting_fit_is_the_analytic_one():
    """mu_hat = (n - b) / s, its variance n / s^2 + (sigma_b / s)^2, and d mu_hat / d n = 1 / s."""
    signal, background, relative, observed = 10.0, 50.0, 0.1, 65.0
    model = HistFactory.from_workspace(counting(signal, background, relative, observed))
    result, variance = eqx.filter_jit(fit_with_covariance)(model, model.data(), [model.poi_index])
    np.testing.assert_allclose(
        result.parameters[model.poi_index], (observed - background) / signal, rtol=1e-9
    )
    slope = jax.grad(lambda a: model.expected_data(jnp.stack([jnp.ones(()), a]))[0] / background)(0.0)
    expected = observed / signal**2 + (background * slope / signal) ** 2
    np.testing.assert_allclose(variance, expected, rtol=1e-9)
    gradient = jax.jit(jax.grad(lambda d: fit(model, d).parameters[model.poi_index]))(model.data())
    np.testing.assert_allclose(gradient[0], 1 / signal, rtol=1e-9)
