"""Channels of an existing workspace in a run's fit: pyhf's combined workspace, by the run's own objective."""

import copy
import json

import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from workspaces import modifier, workspace_of

from pipeline import config as configuration
from pipeline.containers import Templates
from pipeline.errors import ConfigError, InputError
from pipeline.evaluate.by_pyhf.objectives import judged
from pipeline.gradient.loss import judge
from pipeline.likelihood import HistFactory
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.objective import Inputs, value_of
from pipeline.templates.axes import axes_of

pytestmark = pytest.mark.usefixtures("compiled_quickly")

MODEL = [
    "channels.bin.edges=[0, 1, 2, 3]",
    "channels.bin.bandwidth={initial: 1, final: 1}",
    "model.mc_statistics=true",
    "model.luminosity_uncertainty=0.02",
    "model.normfactors=[{name: mu, samples: [signal]}, {name: rate, samples: [background], bounds: [0.2, 5]}]",
]


def control():
    """A control region that shares the luminosity, a rate and a nuisance parameter, and has one of its own."""
    samples = [
        {
            "name": "background",
            "data": [80.0, 60.0],
            "modifiers": [
                modifier("rate", "normfactor"),
                modifier("background yield", "normsys", {"hi": 1.1, "lo": 0.85}),
                modifier("tilt", "histosys", {"hi_data": [90.0, 55.0], "lo_data": [72.0, 66.0]}),
                modifier("lumi", "lumi"),
                modifier("stat_control", "staterror", [3.0, 2.5]),
            ],
        },
        {
            "name": "fakes",
            "data": [9.0, 4.0],
            "modifiers": [modifier("fake rate", "normsys", {"hi": 1.3, "lo": 0.7})],
        },
    ]
    lumi = {"name": "lumi", "inits": [1.0], "bounds": [[0.8, 1.2]], "auxdata": [1.0], "sigmas": [0.02]}
    tilt = {"name": "tilt", "inits": [0.2], "bounds": [[-3.0, 3.0]]}
    return workspace_of(
        [{"name": "control", "samples": samples}], {"control": [95.0, 60.0]}, poi="", parameters=[lumi, tilt]
    )


@pytest.fixture
def load(tmp_path, request):
    """The textbook example with three bins, and what is given joined to its fit."""

    def loaded(content=None, *overrides):
        joined = []
        if content is not None:
            (tmp_path / "other.json").write_text(json.dumps(content))
            joined = [f"model.with={tmp_path / 'other.json'}"]
        path = request.config.rootpath / "config/counting.yaml"
        return configuration.load(path, [*MODEL, *joined, *overrides])

    return loaded


@pytest.fixture
def templates(load):
    run = load()
    axes = axes_of(run, ("background_up", "background_down"))
    yields = np.zeros((len(axes.samples), len(axes.variations), 3))
    yields[axes.samples.index("signal"), 0] = [2.0, 5.0, 9.0]
    own = axes.samples.index("background")
    for name, row in (
        ("nominal", [40.0, 25.0, 12.0]),
        ("background_up", [45.0, 27.0, 14.0]),
        ("background_down", [36.0, 22.0, 11.5]),
    ):
        yields[own, axes.variations.index(name)] = row
    return axes, Templates({"bin": yields}, {"bin": yields[:, 0] * 0.3})


def combined(run, axes, templates, other):
    """pyhf's combination of the run's own workspace with the other one, the measurement the run's."""
    alone = run.model_copy(update={"model": run.model.model_copy(update={"joined": None})})
    own = workspace(templates, axes, alone)
    other = copy.deepcopy(other)
    configured = own["measurements"][0]["config"]["parameters"]
    shared = {entry["name"] for entry in configured}
    more = [
        entry for entry in other["measurements"][0]["config"]["parameters"] if entry["name"] not in shared
    ]
    for entry in more:
        entry["inits"] = [0.0] if entry["name"] == "tilt" else entry["inits"]  # where Asimov data are
    measurement = {"poi": "mu", "parameters": [*configured, *more]}
    for content in (own, other):
        content["measurements"] = [{"name": "both", "config": measurement}]
    return pyhf.Workspace.combine(pyhf.Workspace(own), pyhf.Workspace(other), join="outer")


def test_the_likelihood_is_pyhfs_of_the_combined_workspace(load, templates):
    axes, found = templates
    run = load(control())
    theirs = combined(run, axes, found, control()).model()
    specifier = Specifier.of(found, axes, run)
    ours, stacked = specifier.model, specifier.stacked(specifier.side_by_side(found))
    assert list(ours.parameter_names) == theirs.config.par_names
    start = np.array(theirs.config.suggested_init())
    np.testing.assert_array_equal(ours.initial, start)
    np.testing.assert_array_equal(ours.bounds, theirs.config.suggested_bounds())
    np.testing.assert_array_equal(ours.fixed_parameters(stacked), theirs.config.suggested_fixed())
    data = np.concatenate([[44.0, 28.0, 24.0], [97.0, 61.0], theirs.config.auxdata])
    rng = np.random.default_rng(3)
    density = jax.jit(jax.value_and_grad(lambda p: ours.logpdf(p, jnp.asarray(data), stacked)))
    for _ in range(5):
        point = start + rng.uniform(-0.1, 0.1, start.size)
        value, slope = density(jnp.asarray(point))
        np.testing.assert_allclose(value, theirs.logpdf(point, data)[0], rtol=1e-11)
        steps = 1e-5 * np.eye(start.size)
        numeric = [(theirs.logpdf(point + d, data) - theirs.logpdf(point - d, data))[0] / 2e-5 for d in steps]
        np.testing.assert_allclose(slope, numeric, rtol=1e-5, atol=1e-5)


def test_the_written_workspace_is_it_too_with_asimov_data_of_all_channels(load, templates):
    axes, found = templates
    run = load(control())
    written = pyhf.Workspace(workspace(found, axes, run))
    theirs, again = combined(run, axes, found, control()).model(), written.model()
    start = theirs.config.suggested_init()
    assert again.config.par_names == theirs.config.par_names
    assert again.config.poi_name == "mu"
    data = written.data(again)
    np.testing.assert_allclose(data, theirs.expected_data(start), rtol=1e-12)
    assert again.logpdf(start, data) == pytest.approx(theirs.logpdf(start, data), rel=1e-12)
    assert abs(data[3] - 95.0) > 1  # the observed data of the workspace are not what is fitted
    ours = HistFactory.from_workspace(written)
    assert ours.parameter_names == Specifier.of(found, axes, run).model.parameter_names


def test_the_limit_and_its_gradient_are_of_the_joined_fit(load, templates):
    axes, found = templates
    run = load(control(), "objective.kind=upper_limit")
    evaluate, step = judge(run, axes), 1e-3
    value, _, slopes, _ = evaluate(found, {})
    theirs = combined(run, axes, found, control()).model()
    asimov = theirs.expected_data(theirs.config.suggested_init())
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-12))
    assert value == pytest.approx(judged(run.objective.quantity, theirs, asimov, 0.0), rel=2e-5)
    for place in ((0, 0, 1), (0, 1, 2), (1, 0, 2)):
        moved = []
        for sign in (1, -1):
            yields = found.yields["bin"].copy()
            yields[place] += sign * step
            moved.append(evaluate(Templates({"bin": yields}, found.sumw2), {}).minimised)
        numeric = (moved[0] - moved[1]) / (2 * step)
        assert slopes.yields["bin"][place] == pytest.approx(numeric, rel=1e-3, abs=1e-7)


@pytest.mark.slow
def test_the_interval_is_of_the_joined_fit(load, templates):
    axes, found = templates
    run = load(control(), "objective.kind=profile_interval")
    specifier = Specifier.of(found, axes, run)
    stacked = specifier.stacked(specifier.side_by_side(found))
    program = jax.jit(lambda t: value_of(run.objective.quantity, Inputs(specifier.model, t)))
    value = float(program(stacked).value)
    theirs = combined(run, axes, found, control()).model()
    start = theirs.config.suggested_init()
    asimov = theirs.expected_data(start)
    ends = [
        float(pyhf.infer.mle.fixed_poi_fit(1 + side * value, asimov, theirs, return_fitted_val=True)[1])
        for side in (1, -1)
    ]
    best = -2 * theirs.logpdf(start, asimov)[0]
    assert sum(end - best for end in ends) / 2 == pytest.approx(1, abs=0.03)  # half the sum of unequal sides


def _changed(path, value):
    content = control()
    *above, last = path
    place = content
    for key in above:
        place = place[key]
    place[last] = value
    return content


SAMPLE = ("channels", 0, "samples", 0, "modifiers")
SETTINGS = ("measurements", 0, "config")
WRONG = {
    "channels": (
        ("channels", 0, "name"),
        "bin",
        "has a channel 'bin', and so has the run; rename one of them",
    ),
    "poi": ((*SETTINGS, "poi"), "rate", "has the POI 'rate', and the run 'mu'; the fit has one"),
    "width": (
        (*SETTINGS, "parameters", 0, "sigmas"),
        [0.017],
        r"parameter 'lumi' has a Gaussian constraint around 1 of width 0.02 in the run and a Gaussian constraint "
        "around 1 of width 0.017 in .*other.json; a parameter of one name is one",
    ),
    "kind": (
        (*SAMPLE, 0),
        modifier("rate", "normsys", {"hi": 1.1, "lo": 0.9}),
        "parameter 'rate' has no constraint in the run and a Gaussian constraint around 0 of width 1",
    ),
    "held": (
        (*SETTINGS, "parameters", 1),
        {"name": "background yield", "fixed": True},
        "'background yield' has a Gaussian constraint around 0 of width 1 in the run and .* 1, held at 0 in",
    ),
    "bins": (
        (*SAMPLE, 4),
        modifier("staterror_bin", "staterror", [3.0, 2.5]),
        "parameter 'staterror_bin' acts bin by bin in channels of the run, and in",
    ),
    "events": (
        ("channels", 0, "samples", 0, "data"),
        [-500.0, 3.0],
        "channel 'control' expects -491 events in bin 0; allowed are 0 and more",
    ),
    "type": ((*SAMPLE, 0), modifier("rate", "normfcator"), "type 'normfcator' is not supported"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_joined_is_named(load, templates, case):
    path, value, message = WRONG[case]
    axes, found = templates
    content = _changed(path, value)
    if path[:2] == ("channels", 0) and path[-1] == "name":
        content["observations"][0]["name"] = value
    with pytest.raises(ConfigError, match=message):
        Specifier.of(found, axes, load(content))


def test_a_partly_correlated_systematic_is_not_shared(load, templates):
    """It is a sum of several parameters in the run, and would be one of them in the other workspace."""
    axes, found = templates
    more = "model.correlations=[{between: [background yield, other], value: 0.5}]"
    own = "{name: background yield, type: NormPlusShape, up: background_up}"
    other = "{name: other, type: Normalization, up: 0.1, down: -0.1}"
    for systematics in (f"[{own}, {other}]", f"[{other}, {own}]"):
        run = load(control(), f"model.systematics={systematics}", more)
        with pytest.raises(
            ConfigError, match=r"'background yield' is in .*other\.json, and in the run it is partly"
        ):
            Specifier.of(found, axes, run)


def test_a_parameter_without_a_start_value_begins_at_its_constraint(load, templates):
    """Its auxiliary measurement is elsewhere, and so are the Asimov data."""
    axes, found = templates
    content = _changed((*SETTINGS, "parameters", 1), {"name": "fake rate", "auxdata": [1.0]})
    run = load(content)
    (own,) = [
        entry["data"] for entry in workspace(found, axes, run)["observations"] if entry["name"] == "control"
    ]
    np.testing.assert_allclose(own, [80 + 9 * 1.3, 60 + 4 * 1.3])


def test_a_switched_off_constraint_is_another(load, templates):
    axes, found = templates
    systematic = "{name: background yield, type: NormPlusShape, up: background_up, constraint_width: none}"
    run = load(control(), f"model.systematics=[{systematic}]")
    with pytest.raises(ConfigError, match="'background yield' has no constraint in the run and a Gaussian"):
        Specifier.of(found, axes, run)


def test_the_file_is_beside_the_configuration_and_part_of_the_physics(tmp_path, templates):
    axes, found = templates
    base = configuration.load(_own(tmp_path, control()))
    assert base.model.joined == tmp_path / "control.json"
    assert base.alternatives["wide"].model.joined == tmp_path / "control.json"
    assert base.joined == [tmp_path / "control.json"] * 2
    before = base.physics()
    (tmp_path / "control.json").write_text(
        json.dumps(_changed(("channels", 0, "samples", 1, "data", 0), 8.0))
    )
    assert base.physics() != before
    (tmp_path / "control.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        Specifier.of(found, axes, base)
    (tmp_path / "control.json").unlink()
    with pytest.raises(
        ConfigError, match=r"model.with: there is no file .*control.json; give the JSON of a pyhf"
    ):
        Specifier.of(found, axes, base)
    with pytest.raises(ConfigError, match=r"model.with: .*control.json cannot be read: No such file"):
        base.physics()


def _own(folder, content):
    (folder / "control.json").write_text(json.dumps(content))
    path = folder / "run.yaml"
    model = "{poi: mu, with: control.json, normfactors: [{name: mu, samples: [signal]}]}"
    path.write_text(
        f"run: one\nanalysis: {{target: 'pipeline.analyses.counting:Counting'}}\nmodel: {model}\n"
        "data: {luminosity_per_pb: 1, manifest: none.json, samples: {signal: {cross_section_pb: 1}, "
        "background: {cross_section_pb: 1}}}\nchannels: {bin: {}}\nobjective: {kind: discovery}\n"
        f"evaluate: {{also: {{wide: {{model: {model}, objective: {{kind: cls}}}}}}}}\n"
    )
    return path
