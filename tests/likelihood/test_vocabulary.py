"""Every word of a model: what it becomes in pyhf, the same numbers here and there, and what is refused."""

import documented
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rootfiles
import yaml
from chunked import assert_chunks_are_the_whole
from columnfiles import write_columns
from modelled import SHAPE, drawn, modifiers, require_equal, small, traced

from pipeline import config
from pipeline.errors import ConfigError, FitError
from pipeline.gradient.loss import centre
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.templates.axes import variations_of

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def test_channels_of_norm_factors_and_systematics():
    run = small(
        {
            "luminosity_uncertainty": 0.02,
            "normfactors": [{"name": "k", "samples": ["qcd", "top"], "channels": ["A", "C"], "nominal": 1.1}],
            "systematics": [
                {"name": "rate", "type": "Normalization", "up": 0.1, "down": -0.08, "channels": ["B"]},
                {"name": "scale", **SHAPE, "channels": ["A", "B"], "samples": ["top", "qcd"]},
                {"name": "tune", "type": "NormPlusShape", "up": "tune_up", "channels": ["D"]},
            ],
        }
    )
    written = require_equal(run, *drawn(run))
    everywhere = {("lumi", "lumi")}
    both = {("normsys", "scale"), ("histosys", "scale")}
    assert modifiers(written, "A", "top") == everywhere | both | {
        ("normfactor", "k"),
        ("staterror", "staterror_A"),
    }
    assert modifiers(written, "B", "top") == everywhere | both | {
        ("normsys", "rate"),
        ("staterror", "staterror_B"),
    }
    assert modifiers(written, "D", "top") == everywhere | {
        ("normsys", "tune"),
        ("histosys", "tune"),
        ("staterror", "staterror_D"),
    }


def test_factors_of_bins_and_uncorrelated_uncertainties():
    run = small(
        {
            "shapefactors": [
                {"name": "shape", "samples": ["qcd"], "channels": ["A", "B"], "bounds": [0.2, 5]},
                {"name": "own", "samples": ["top"], "channels": ["D"]},
            ],
            "shape_uncertainties": [
                {"name": "third", "sample": "qcd", "channels": ["C"], "size": 0.3},
                {"name": "each", "sample": "top", "channels": ["A", "B"], "size": [0.1, 0.2, 0.4]},
                {"name": "events", "sample": "top", "channels": ["C"], "size": "statistical"},
            ],
        },
        bins={"D": 2},
    )
    axes, templates = drawn(run)
    written = require_equal(run, axes, templates)
    assert ("shapefactor", "shape") in modifiers(written, "A", "qcd") & modifiers(written, "B", "qcd")
    assert modifiers(written, "C", "top") == {("shapesys", "events_C")}  # in place of the staterror
    assert modifiers(written, "A", "top") == {("shapesys", "each_A"), ("staterror", "staterror_A")}
    top = axes.samples.index("top")
    sizes = {
        own["name"]: own["data"]
        for channel in written["channels"]
        for sample in channel["samples"]
        for own in sample["modifiers"]
        if own["type"] == "shapesys"
    }
    np.testing.assert_allclose(sizes["each_B"], templates.yields["B"][top, 0] * [0.1, 0.2, 0.4])
    np.testing.assert_allclose(sizes["events_C"], np.sqrt(templates.sumw2["C"][top]))


ABCD = {"name": "est", "samples": ["qcd"], "signal": "A", "sidebands": ["B", "C"], "control": "D"}
SCALE = {"name": "scale", **SHAPE}


@pytest.mark.parametrize("per_bin", [True, False])
@pytest.mark.parametrize("from_simulation", [True, False])
def test_abcd(per_bin, from_simulation):
    """The fit of data is their own B C / D, whatever simulation says, but for its closure where that is asked for."""
    run = small(
        {
            "luminosity_uncertainty": 0.02,
            "abcd": [
                {
                    **ABCD,
                    "per_bin": per_bin,
                    "closure_uncertainty": 0.2,
                    "closure_from_simulation": from_simulation,
                }
            ],
            "systematics": [SCALE],
        },
        bins={} if per_bin else {"A": 2, "C": 4},
    )
    axes, templates = drawn(run)
    written = require_equal(run, axes, templates)
    kind = "shapefactor" if per_bin else "normfactor"
    factors = {(kind, "est_yield"), (kind, "est_to_B"), (kind, "est_to_C")}
    of_events = {("staterror", "staterror_A")} if from_simulation or not per_bin else set()
    assert modifiers(written, "A", "qcd") == factors | of_events | {("normsys", "est_closure")}
    assert ("histosys", "scale") in modifiers(written, "A", "top")
    own = {name: templates.yields[name][axes.samples.index("qcd"), 0] for name in "ABCD"}
    own = own if per_bin else {name: bins.sum() for name, bins in own.items()}
    model, stacked = traced(run, axes, templates)
    factor = {"est_yield": 1.7, "est_to_B": 0.6, "est_to_C": 2.1}
    at = [
        factor.get(n.partition("[")[0], i) for n, i in zip(model.parameter_names, model.initial, strict=True)
    ]
    found = model.expected_by_sample(jnp.asarray(at), stacked)[model.samples.index("qcd")]
    made = dict(zip("ABCD", np.split(np.asarray(found), np.cumsum(model.bins)[:-1]), strict=True))
    made = made if per_bin else {name: bins.sum() for name, bins in made.items()}
    np.testing.assert_allclose(made["B"], own["B"] * 1.7 * 0.6)
    estimate = made["B"] * made["C"] / made["D"]
    closure = own["A"] * own["D"] / (own["B"] * own["C"]) if from_simulation else 1.0
    np.testing.assert_allclose(made["A"], estimate * closure)


def test_what_acts_nowhere_is_not_observed():
    own = {"channels": ["B"], "samples": ["top"]}
    run = small({"abcd": [ABCD], "systematics": [SCALE, {**SCALE, "name": "tune", "up": "tune_up", **own}]})
    assert variations_of(run, "qcd") == ()  # estimated from data in all four channels
    assert variations_of(run, "top") == ("scale_up", "scale_down", "tune_up")
    assert variations_of(run, "signal") == ("scale_up", "scale_down")
    small(
        {"abcd": [{**ABCD, "closure_from_simulation": True}], "systematics": [{**SCALE, "samples": ["qcd"]}]}
    )


def test_the_objective_follows_an_estimate():
    """Its derivative in the templates, through the start values, is that of finite differences."""
    run = small({"abcd": [{**ABCD, "closure_uncertainty": 0.1}], "systematics": [SCALE]})
    axes, templates = drawn(run)
    judged = centre(run, axes)
    value, slopes, _ = judged(templates, {})
    assert np.isfinite(value)
    qcd = axes.samples.index("qcd")
    for channel in "AD":
        ends = []
        for side in (1, -1):
            moved = jax.tree.map(np.array, templates)
            moved.yields[channel][qcd, 0, 1] += side * 1e-3
            ends.append(judged(moved, {})[0])
        np.testing.assert_allclose(slopes.yields[channel][qcd, 0, 1], (ends[0] - ends[1]) / 2e-3, rtol=1e-4)


@pytest.mark.parametrize(("per_bin", "what"), [(True, "bin 1 of channel 'D'"), (False, "channel 'D'")])
def test_an_estimate_without_events(per_bin, what):
    run = small({"abcd": [{**ABCD, "per_bin": per_bin}]})
    axes, templates = drawn(run)
    templates.yields["D"][axes.samples.index("qcd"), 0, 1 if per_bin else slice(None)] = 0.0
    message = f"'est': the samples 'qcd' have 0 simulated events in {what}"
    with pytest.raises(FitError, match=message):
        workspace(templates, axes, run)
    if per_bin:  # the optimisation says the same, one program for both
        with pytest.raises(FitError, match=message):
            centre(run, axes)(templates, {})


REGIONS = """
jets = relax.at_least(relax.greater(c.jet, 0.4, width=0.1), 1)
inside = relax.greater(c.x, p.cut)
sides = {"A": inside * jets, "B": inside * (1 - jets), "C": (1 - inside) * jets, "D": (1 - inside) * (1 - jets)}
return {name: Observation(weight=c.weight * passes) for name, passes in sides.items()}
"""


@pytest.mark.slow
def test_the_gradient_of_every_word_over_chunks_is_that_of_the_whole(tmp_path):
    target = rootfiles.write_analysis(tmp_path, "regions.py", observe=REGIONS)
    scale = {"type": "NormPlusShape", "up": "x_up"}
    path = rootfiles.write_run(
        tmp_path,
        analysis={"target": target},
        channels={name: {} for name in "ABCD"},
        model={
            "poi": "mu",
            "normfactors": [{"name": "mu", "samples": ["signal"], "channels": ["A", "B"]}],
            "systematics": [
                {"name": "scale", **scale, "samples": ["signal", "background"], "channels": ["A", "B"]},
                {"name": "other", **scale, "channels": ["C"], "samples": ["signal"]},
            ],
            "correlations": [{"between": ["scale", "other"], "value": -0.4}],
            "pruning": {"shape": 1e-9},  # of one bin there is none
            "shape_uncertainties": [{"name": "events", "sample": "signal", "size": "statistical"}],
            "abcd": [
                {
                    **ABCD,
                    "samples": ["background"],
                    "closure_uncertainty": 0.1,
                    "closure_from_simulation": True,
                }
            ],
        },
        objective={"kind": "poi_uncertainty"},
    )
    run = config.load(path)
    assert run.model.is_pruned
    assert_chunks_are_the_whole(run, write_columns(run, tmp_path))


def test_the_models_of_the_page_are_such():
    """What docs/model.md shows parses, with what a block leaves out."""
    blocks = list(documented.blocks(documented.ROOT / "docs/model.md", "yaml"))
    assert len(blocks) == 6
    mu = {"poi": "mu", "normfactors": [{"name": "mu", "samples": ["signal"]}]}
    for block in blocks:
        assert config.Model.model_validate({**mu, **yaml.safe_load(block)["model"]}).is_fitted


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"normfactors": [{"name": "k", "samples": ["qcd"], "channels": ["E"]}]}, "'k': channel 'E' is not"),
        ({"normfactors": [{"name": "k", "samples": ["qcd"], "channels": []}]}, r"normfactors\.1\.channels"),
        (
            {"systematics": [{"name": "s", **SHAPE, "channels": ["AA"]}]},
            "model: 's': channel 'AA' is not one",
        ),
        (
            {"shapefactors": [{"name": "f", "samples": ["qcd"]}]},
            "'f': channel 'D' has 2 bins, not 3, as channel 'A'",
        ),
        ({"shapefactors": [{"name": "f", "samples": ["qdc"]}]}, "'f': sample 'qdc' is not in data.samples"),
        (
            {"shapefactors": [{"name": "f", "samples": ["qcd"], "bounds": [2, 3]}]},
            r"nominal 1\.0 is outside its bounds \[2\.0, 3\.0\]",
        ),
        (
            {"shape_uncertainties": [{"name": "u", "sample": "top", "channels": ["D"], "size": [0.1] * 3}]},
            "'u': channel 'D' has 2 bins, not 3, the number of its sizes",
        ),
        (
            {"shape_uncertainties": [{"name": "u", "sample": "top", "size": -0.1}]},
            r"shape_uncertainties\.0\.size",
        ),
        *(
            (
                {"shape_uncertainties": [{"name": "u", "sample": "top", "size": size}]},
                r"shape_uncertainties\.0\.size: (?!.*shape_uncertainties).*is no size; give a number above 0, a list",
            )
            for size in ("large", [0.1, -0.1], [], True, None, {"A": 0.1})
        ),
        (
            {"shape_uncertainties": [{"name": "u", "sample": "tip", "size": 0.1}]},
            "'u': sample 'tip' is not in",
        ),
        (
            {
                "shape_uncertainties": [{"name": "u", "sample": "top", "size": 0.1}],
                "normfactors": [{"name": "u_B", "samples": ["top"]}],
            },
            "'u': its parameter 'u_B' has the name of another one",
        ),
        (
            {
                "shape_uncertainties": [{"name": "u", "sample": "top", "channels": ["A"], "size": 0.1}],
                "shapefactors": [{"name": "u_A", "samples": ["qcd"], "channels": ["A"]}],
            },
            "'u': its parameter 'u_A' has the name of another one",
        ),
        *(
            (
                {"shape_uncertainties": [{"name": name, "sample": "top", "size": 0.1}]},
                f"parameter name '{name}' is taken by luminosity, MC statistics",
            )
            for name in ("staterror", "mc_statistics", "data_statistics", "lumi")
        ),
        (
            {
                "shape_uncertainties": [
                    {"name": n, "sample": "top", "size": "statistical"} for n in ("u", "v")
                ]
            },
            "'v': sample 'top' in channel 'A' has size statistical in 'u' too, and its events would count twice",
        ),
        (
            {
                "abcd": [{**ABCD, "per_bin": True}],
                "shape_uncertainties": [
                    {"name": "u", "sample": "qcd", "channels": ["A"], "size": "statistical"}
                ],
            },
            "'u': sample 'qcd' in channel 'A' is estimated from data by 'est', so that no simulated events",
        ),
        (
            {"abcd": [{**ABCD, "control": "C"}]},
            "abcd 'est': channel 'C' is more than one of signal, sidebands",
        ),
        ({"abcd": [{**ABCD, "control": "E"}]}, "'est': channel 'E' is not one of the fit"),
        ({"abcd": [{**ABCD, "sidebands": ["B"]}]}, r"abcd\.0\.sidebands"),
        ({"abcd": [{**ABCD, "samples": ["qdc"]}]}, "'est': sample 'qdc' is not in data.samples"),
        ({"abcd": [{**ABCD, "per_bin": True}]}, "'est_yield': channel 'D' has 2 bins, not 3, as channel 'A'"),
        (
            {"abcd": [{**ABCD, "samples": ["signal"]}]},
            "sample 'signal' in channel 'A' has a free factor 'mu' already",
        ),
        (
            {"abcd": [ABCD, {**ABCD, "name": "b"}]},
            "'b': its sample 'qcd' in channel 'A' has a free factor 'est' already",
        ),
        (
            {"abcd": [ABCD], "systematics": [{**SCALE, "samples": ["qcd"]}]},
            "sample 'qcd' in channel 'A' is named by systematic 'scale', but its estimate is not simulated",
        ),
        (
            {"abcd": [ABCD], "normfactors": [{"name": "est_yield", "samples": ["top"]}]},
            r"parameter names must differ; repeated: \['est_yield'\]",
        ),
    ],
)
def test_a_model_that_is_refused(model, message):
    with pytest.raises(ConfigError, match=message):
        small(model, bins={"D": 2})
