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
from workspaces import agc_workspace, codes, counting, everything, modifier, workspace_of, workspaces

from pipeline.likelihood import HistFactory, patched, templates_from_workspace

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@eqx.filter_jit
def evaluate(model, parameters, data, templates):
    """Expected data and ln L at many points, in one program."""
    dense = model.dense(templates)
    return jax.vmap(lambda p: (model.expected_data(p, dense), model.logpdf(p, data, dense)))(parameters)


def pyhf_model(workspace, **settings):
    content = pyhf.Workspace(workspace)
    model = content.model(**settings)
    return model, np.asarray(content.data(model))


def points(model, number, seed=0):
    """Random points around the initial one, inside the bounds."""
    rng = np.random.default_rng(seed)
    low, high = np.asarray(model.bounds).T
    for scale in np.resize([0.1, 0.5, 2.0], number):
        yield np.clip(np.asarray(model.initial) + scale * rng.normal(size=low.size), low, high)


def assert_equals_pyhf(workspace, number=10, **settings):
    model = HistFactory.from_workspace(workspace, **settings)
    reference, data = pyhf_model(workspace, **settings)
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


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(workspaces(), codes())
def test_equals_pyhf_on_random_workspaces(workspace, modifier_settings):
    assert_equals_pyhf(workspace, number=100, modifier_settings=modifier_settings)


def test_equals_pyhf_on_the_agc_workspace():
    assert_equals_pyhf(agc_workspace(), number=100)


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
@given(workspaces(channels=3, samples=4, bins=6))
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


def test_another_poi():
    """Several parameters of interest: one model each; '' for none."""
    workspace = counting()
    assert HistFactory.from_workspace(workspace, poi="norm").poi_index == 1
    assert HistFactory.from_workspace(workspace, poi="").poi_index is None
    with pytest.raises(ValueError, match="POI 'nu' has 0 components"):
        HistFactory.from_workspace(workspace, poi="nu")


def test_patchset(tmp_path):
    background = counting(signal=0.0)
    patches = [
        {
            "metadata": {"name": f"signal_{size}", "values": [float(size)]},
            "patch": [{"op": "replace", "path": "/channels/0/samples/0/data/0", "value": size}],
        }
        for size in (5, 8)
    ]
    metadata = {
        "name": "signals",
        "description": "sizes of the signal",
        "labels": ["size"],
        "references": {"hepdata": "ins1234567"},
        "digests": {"sha256": pyhf.utils.digest(background)},
    }
    content = {"metadata": metadata, "patches": patches, "version": "1.0.0"}
    path = tmp_path / "patchset.json"
    path.write_text(json.dumps(content))
    model = HistFactory.from_workspace(patched(background, path, "signal_8"))
    np.testing.assert_array_equal(model.templates.nominal[model.samples.index("s")], [8.0])
    assert_equals_pyhf(patched(background, content, (5.0,)))
    with pytest.raises(ValueError, match=r"no patch 'signal_9'; it has signal_5, signal_8"):
        patched(background, content, "signal_9")
    with pytest.raises(ValueError, match="digests are those of another workspace"):
        patched(counting(signal=1.0), content, "signal_8")


def test_constraint_of_another_width():
    """ln c = -alpha^2 / (2 w^2) - ln w - ln(2 pi) / 2 instead of w = 1; None: no such term."""
    workspace, where = counting(), jnp.asarray([1.0, 0.7])
    plain = HistFactory.from_workspace(workspace)
    without = HistFactory.from_workspace(workspace, constraint_widths={"norm": None})
    wide = HistFactory.from_workspace(workspace, constraint_widths={"norm": 2.0})
    data = plain.data()
    np.testing.assert_array_equal(without.data(), data)
    np.testing.assert_array_equal(wide.expected_data(where), plain.expected_data(where))
    density = without.logpdf(where, data)
    for model, width in ((plain, 1.0), (wide, 2.0)):
        term = -0.5 * (0.7 / width) ** 2 - np.log(width) - 0.5 * np.log(2 * np.pi)
        np.testing.assert_allclose(model.logpdf(where, data), density + term, rtol=1e-13)


def test_constraint_widths_of_each_kind_of_parameter():
    """A staterror's equal pyhf's, which can configure those."""
    workspace = everything()
    workspace["channels"][0]["samples"][1]["modifiers"][0]["data"]["lo"] = 0.9  # pyhf warns of zero
    parameters = workspace["measurements"][0]["config"]["parameters"]
    parameters.append({"name": "stat", "sigmas": [0.3, 0.3, 0.3]})
    reference, data = pyhf_model(workspace)
    parameters.pop()
    model = HistFactory.from_workspace(workspace, constraint_widths={"stat": 0.3})
    assert_densities_equal(model, model.templates, reference, data, 3)
    no_poisson = HistFactory.from_workspace(workspace, constraint_widths={"shape": None})
    plain = HistFactory.from_workspace(workspace)
    terms = plain.constraint_logpdf(plain.initial, plain.auxdata(), plain.dense())
    is_poisson = plain.constraints.is_poisson
    assert jnp.sum(is_poisson) == 3
    left = no_poisson.constraint_logpdf(plain.initial, plain.auxdata(), plain.dense())
    np.testing.assert_array_equal(left, jnp.where(is_poisson, 0.0, terms))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda w: w["measurements"][0]["config"].pop("poi"), "'poi' is a required property"),
        (lambda w: w["channels"][0]["samples"].clear(), "samples"),
        (lambda w: w["channels"][0]["samples"][0]["data"].append("x"), "'x' is not of type 'number'"),
        (
            lambda w: w["measurements"][0]["config"]["parameters"].append({"inits": [1.0]}),
            "'name' is a required",
        ),
        (lambda w: [s["modifiers"].clear() for s in w["channels"][0]["samples"]], "nothing can be fitted"),
    ],
)
def test_a_malformed_workspace_is_refused_where_it_is_read(broken, message):
    workspace = counting()
    workspace["measurements"][0]["config"]["parameters"] = []
    broken(workspace)
    with pytest.raises(ValueError, match=message):
        HistFactory.from_workspace(workspace)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"nu": 1.0}, "no parameter 'nu'; the model has"),
        ({"mu": None}, "'mu': the parameter has no constraint term"),
        ({"shape": 0.5}, "'shape': width 0.5, but its constraint is Poisson"),
        ({"tilt": -1.0}, "'tilt': width -1.0, allowed is a positive number, or None"),
        ({"tilt": float("inf")}, "'tilt': width inf, allowed is a positive number, or None"),
    ],
)
def test_wrong_constraint_widths_are_named(widths, message):
    with pytest.raises(ValueError, match=message):
        HistFactory.from_workspace(everything(), constraint_widths=widths)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"normsys": {"interpcode": "code0"}}, "interpcode 'code0' of normsys; allowed are code1, code4"),
        ({"shapesys": {"interpcode": "code4"}}, "'shapesys' with .* is not known"),
        ({"histosys": {"code": "code0"}}, "'histosys' with .* is not known"),
    ],
)
def test_wrong_interpolation_codes_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        HistFactory.from_workspace(counting(), modifier_settings=given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"type": "custom"},
            "channel 'bin', sample 'b', modifier 'norm': type 'custom' is not supp",
        ),
        ({"data": {"hi": 1.1, "lo": -0.2}}, "lo = -0.2, but a normalisation factor is >= 0"),
        ({"type": "staterror", "data": [1.0, 2.0]}, "shape \\(2,\\), but the channel has 1 bins"),
        ({"type": "normsys", "name": "mu"}, "parameter 'mu': used by normfactor and normsys"),
        (
            {"name": "lumi", "type": "lumi", "data": None},
            "lumi 'lumi': the measurement gives no inits, bounds, auxdata",
        ),
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
    workspace = counting(signal=10.0, background=50.0, observed=65.0)
    model = HistFactory.from_workspace(workspace)
    parameters = jnp.asarray([1.0, 0.0])
    assert model.parameter_names == ("mu", "norm")
    by_parameters, by_templates = jax.grad(lambda p, t: model.logpdf(p, model.data(), t), argnums=(0, 1))(
        parameters, model.templates
    )
    np.testing.assert_allclose(by_parameters[0], 10.0 * (65.0 / 60.0 - 1.0), rtol=1e-13)
    signal = model.samples.index("s")
    np.testing.assert_allclose(by_templates.nominal[signal], [65.0 / 60.0 - 1.0], rtol=1e-13)
    named = jax.grad(lambda t: model.logpdf(parameters, model.data(), t))(templates_from_workspace(workspace))
    np.testing.assert_allclose(named["bin"]["s"]["data"], [65.0 / 60.0 - 1.0], rtol=1e-13)


def test_templates_by_name_are_the_stacked_ones():
    for workspace in (everything(), agc_workspace()):
        model, named = HistFactory.from_workspace(workspace), templates_from_workspace(workspace)
        jax.tree.map(np.testing.assert_array_equal, model.stacked(named), model.templates)
        jax.tree.map(np.testing.assert_array_equal, model.stacking.named(model.templates), named)


def test_patches_of_one_structure_share_their_programs():
    """Sample names are others, shapes are not."""
    compiled = []
    value = jax.jit(lambda model: compiled.append(1) or model.logpdf(model.initial, model.data()))
    values = []
    for name, size in (("a", 5.0), ("z", 8.0)):
        workspace = counting(signal=size)
        workspace["channels"][0]["samples"][0]["name"] = name
        model = HistFactory.from_workspace(workspace)
        values.append(float(value(model)))
        np.testing.assert_allclose(values[-1], model.logpdf(model.initial, model.data()), rtol=1e-12)
    assert len(compiled) == 1
    assert values[0] != values[1]
