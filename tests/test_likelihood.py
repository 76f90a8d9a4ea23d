"""The likelihood against pyhf's NumPy backend, at its edges, and its gradients."""

import copy
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from hypothesis import HealthCheck, given, settings
from jax.test_util import check_grads
from workspaces import agc_workspace, counting, modifier, workspace_of, workspaces

from pipeline.likelihood import HistFactory, templates_from_workspace


@eqx.filter_jit
def evaluate(model, parameters, data, templates):
    """Expected data and ln L at many points, in one program."""
    dense = model.dense(templates)
    return jax.vmap(lambda p: (model.expected_data(p, dense), model.logpdf(p, data, dense)))(parameters)


def pyhf_model(workspace):
    content = pyhf.Workspace(workspace)
    model = content.model()
    return model, np.asarray(content.data(model))


def points(model, number, seed=0):
    """Random points around the initial one, inside the bounds."""
    rng = np.random.default_rng(seed)
    low, high = np.asarray(model.bounds).T
    for scale in np.resize([0.1, 0.5, 2.0], number):
        yield np.clip(np.asarray(model.initial) + scale * rng.normal(size=low.size), low, high)


def assert_equals_pyhf(workspace, number=10):
    model = HistFactory.from_workspace(workspace)
    reference, data = pyhf_model(workspace)
    config = reference.config
    assert list(model.parameter_names) == config.par_names
    assert list(model.channels) == config.channels
    assert model.poi_index == config.poi_index
    np.testing.assert_array_equal(model.initial, config.suggested_init())
    np.testing.assert_array_equal(model.bounds, config.suggested_bounds())
    np.testing.assert_array_equal(model.fixed, config.suggested_fixed())
    np.testing.assert_array_equal(model.fixed_parameters(), config.suggested_fixed())
    np.testing.assert_allclose(model.data(), data, rtol=1e-12)
    assert_densities_equal(model, model.templates, reference, data, number)


def assert_densities_equal(model, templates, reference, data, number):
    where = np.stack(list(points(model, number)))
    expected, logpdf = evaluate(model, jnp.asarray(where), jnp.asarray(data), templates)
    for point, yields, ours in zip(where, expected, logpdf, strict=True):
        np.testing.assert_allclose(yields, reference.expected_data(point), rtol=1e-10, atol=1e-10)
        with np.errstate(all="ignore"):
            theirs = float(reference.logpdf(point, data)[0])
        # a negative rate is impossible: -inf, where pyhf takes the logarithm of a negative number
        assert float(ours) == (-np.inf if np.isnan(theirs) else pytest.approx(theirs, rel=1e-10, abs=1e-10))


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(workspaces())
def test_equals_pyhf_on_random_workspaces(workspace):
    assert_equals_pyhf(workspace)


def test_equals_pyhf_on_the_agc_workspace():
    assert_equals_pyhf(agc_workspace(), number=20)


def test_configured_parameters_and_a_staterror_over_two_channels():
    channels = [
        {
            "name": name,
            "samples": [
                {
                    "name": sample,
                    "data": [scale * 10.0, scale * 20.0],
                    "modifiers": [modifier("mu", "normfactor"), modifier("stat", "staterror", [1.0, error])],
                }
                for sample, scale in (("s", 1.0), ("b", 3.0))
            ],
        }
        for name, error in (("two", 0.0), ("one", 2.0))
    ]
    channels[0]["samples"][0]["modifiers"].append(modifier("shape", "shapesys", [2.0, 0.0]))
    channels[1]["samples"][1]["modifiers"].append(modifier("n", "normsys", {"hi": 1.4, "lo": 0.6}))
    parameters = [
        {"name": "mu", "inits": [0.7], "bounds": [[-1.0, 5.0]]},
        {"name": "n", "auxdata": [0.3], "fixed": True},
        {"name": "shape", "auxdata": [20.0, 3.0], "factors": [25.0, 4.0]},
        {"name": "unused", "inits": [1.0]},
    ]
    assert_equals_pyhf(
        workspace_of(channels, {"one": [41.0, 80.0], "two": [39.0, 77.0]}, parameters=parameters)
    )
    widths = [{"name": "stat", "sigmas": [0.1, 0.2, 0.3, 0.4], "fixed": False}]
    assert_equals_pyhf(workspace_of(channels, {"one": [41.0, 80.0], "two": [39.0, 77.0]}, parameters=widths))


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(workspaces())
def test_other_templates_equal_pyhf_rebuilt_from_them(workspace):
    """Also when a bin empties: its staterror and shapesys parameters become fixed, as in pyhf."""
    model = HistFactory.from_workspace(workspace)
    changed = copy.deepcopy(workspace)
    for channel in changed["channels"]:
        for sample in channel["samples"]:
            sample["data"] = [*(0.9 * y for y in sample["data"][:-1]), 0.0]
    reference, data = pyhf_model(changed)
    templates = templates_from_workspace(changed)
    np.testing.assert_array_equal(model.fixed_parameters(templates), reference.config.suggested_fixed())
    np.testing.assert_allclose(model.auxdata(templates), reference.config.auxdata, rtol=1e-12)
    assert_densities_equal(model, templates, reference, data, 3)


def test_path_and_measurement_name(tmp_path):
    workspace = counting()
    workspace["measurements"].append({"name": "other", "config": {"poi": "", "parameters": []}})
    path = tmp_path / "workspace.json"
    path.write_text(json.dumps(workspace))
    assert HistFactory.from_workspace(path, "other").poi_index is None
    assert HistFactory.from_workspace(str(path)).poi_index == 0
    with pytest.raises(ValueError, match=r"no measurement 'third'; it has \['fit', 'other'\]"):
        HistFactory.from_workspace(path, "third")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"type": "custom"},
            "channel 'bin', sample 'b', modifier 'norm' \\(custom\\): type 'custom' is not supp",
        ),
        ({"data": {"hi": 1.1, "lo": -0.2}}, "lo = -0.2, but a normalisation factor is >= 0"),
        ({"type": "staterror", "data": [1.0, 2.0]}, "shape \\(2,\\), but the channel has 1 bins"),
        ({"type": "normsys", "name": "mu"}, "parameter 'mu': used by normfactor and normsys"),
        ({"type": "lumi", "data": None}, "lumi 'norm': the measurement gives no inits, bounds, auxdata"),
    ],
)
def test_unsupported_content_is_named(change, message):
    workspace = counting()
    workspace["channels"][0]["samples"][1]["modifiers"][0].update(change)
    with pytest.raises(ValueError, match=message):
        HistFactory.from_workspace(workspace)


def test_wrong_poi_and_wrong_templates_are_named():
    workspace = counting()
    model = HistFactory.from_workspace(workspace)
    templates = templates_from_workspace(workspace)
    templates["bin"]["b"]["data"] = jnp.ones(2)
    with pytest.raises(ValueError, match=r"2 entries differ .*\['bin'\]\['b'\]\['data'\]"):
        model.logpdf(model.initial, model.data(), templates)
    workspace["measurements"][0]["config"]["poi"] = "nu"
    with pytest.raises(ValueError, match="POI 'nu' has 0 components"):
        HistFactory.from_workspace(workspace)


def everything():
    """Each modifier type once, with an empty bin, a one-sided variation and an uncertainty of zero."""
    samples = [
        {
            "name": "s",
            "data": [4.0, 0.0, 6.0],
            "modifiers": [
                modifier("mu", "normfactor"),
                modifier("lumi", "lumi"),
                modifier("shape", "shapesys", [1.0, 0.0, 0.0]),
                modifier("tilt", "histosys", {"hi_data": [5.0, 0.0, 7.0], "lo_data": [4.0, 0.0, 6.0]}),
            ],
        },
        {
            "name": "b",
            "data": [20.0, 0.0, 30.0],
            "modifiers": [
                modifier("norm", "normsys", {"hi": 1.2, "lo": 0.0}),
                modifier("stat", "staterror", [2.0, 0.0, 3.0]),
                modifier("free", "shapefactor"),
            ],
        },
    ]
    lumi = {"name": "lumi", "inits": [1.0], "bounds": [[0.5, 1.5]], "auxdata": [1.0], "sigmas": [0.02]}
    return workspace_of([{"name": "c", "samples": samples}], {"c": [25.0, 0.0, 33.0]}, parameters=[lumi])


def test_gradients_at_the_edges_are_finite():
    model = HistFactory.from_workspace(everything())
    data = model.data()

    @jax.jit
    def derivatives(parameters, templates):
        return jax.grad(lambda p, t: model.logpdf(p, data, t), argnums=(0, 1))(parameters, templates)

    empty = jax.tree.map(jnp.zeros_like, model.templates)
    for templates in (model.templates, empty):
        for alpha in (-1.5, -1.0, 0.0, 0.5, 1.0, 2.0):
            moved = jnp.where(model.initial == 0, alpha, model.initial)
            for leaf in jax.tree.leaves(derivatives(moved, templates)):
                assert jnp.all(jnp.isfinite(leaf))


def test_impossible_data_have_density_zero():
    model = HistFactory.from_workspace(everything())
    assert model.logpdf(model.initial, model.data().at[1].set(1.0)) == -jnp.inf


def test_gradients_in_parameters_data_and_templates():
    """Finite differences in forward and reverse mode, away from the edges."""
    workspace = everything()
    for sample in workspace["channels"][0]["samples"]:
        sample["data"][1] = 5.0
        for mod in sample["modifiers"]:
            if mod["type"] in ("shapesys", "staterror"):
                mod["data"] = [1.0, 1.0, 1.0]
            if mod["type"] == "normsys":
                mod["data"]["lo"] = 0.9
    workspace["observations"][0]["data"][1] = 8.0
    model = HistFactory.from_workspace(workspace)
    start = model.initial + 0.1
    logpdf = jax.jit(lambda p, d, t: model.logpdf(p, d, t))
    check_grads(logpdf, (start, model.data(), model.templates), order=1, atol=1e-6, rtol=1e-6, eps=1e-5)
    gradient = jax.grad(lambda p: logpdf(p, model.data(), model.templates))
    check_grads(gradient, (start,), order=1, atol=1e-6, rtol=1e-6, eps=1e-5)


def test_gradient_of_a_poisson_bin_is_the_analytic_one():
    """d ln L / d mu = s (n / (mu s + b) - 1), d ln L / d s = mu (n / (mu s + b) - 1)."""
    model = HistFactory.from_workspace(counting(signal=10.0, background=50.0, observed=65.0))
    parameters = jnp.asarray([1.0, 0.0])
    assert model.parameter_names == ("mu", "norm")
    by_parameters, by_templates = jax.grad(lambda p, t: model.logpdf(p, model.data(), t), argnums=(0, 1))(
        parameters, model.templates
    )
    np.testing.assert_allclose(by_parameters[0], 10.0 * (65.0 / 60.0 - 1.0), rtol=1e-13)
    np.testing.assert_allclose(by_templates["bin"]["s"]["data"], [65.0 / 60.0 - 1.0], rtol=1e-13)
