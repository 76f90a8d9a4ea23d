"""Pruning: against workspaces that NumPy makes of the same templates, pyhf's number of them, and finite differences."""

import copy
import json

import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from modelled import SHAPE, drawn, modifiers, small

from pipeline import config
from pipeline.config import NormPlusShapeSystematic
from pipeline.errors import ConfigError, FitError
from pipeline.evaluate.by_pyhf.covariance import variance_of_poi
from pipeline.gradient.loss import judge
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.templates.shapes import Channels, symmetrised
from pipeline.templates.smoothing import smoothed_by

pytestmark = pytest.mark.usefixtures("compiled_quickly")

LIMITS = {"normalisation": 0.02, "shape": 0.05}
SYSTEMATICS = [
    {"name": "scale", **SHAPE},
    {"name": "tune", "type": "NormPlusShape", "up": "tune_up", "samples": ["top", "qcd"]},
    {"name": "at the limit", "type": "Normalization", "up": 0.02, "down": -0.01},
    {"name": "below", "type": "Normalization", "up": 0.019, "down": -0.019},
]
SIZES = {"A": (1.0, 1.0), "B": (0.05, 1.0), "C": (1.0, 0.05), "D": (0.05, 0.05)}  # of yield and shape


def graded(run, *, seed=3):
    """Templates of which B changes little in yield, C little in shape, D little in both."""
    axes, templates = drawn(run, seed=seed)
    for channel, (of_yield, of_shape) in SIZES.items():
        yields = templates.yields[channel]
        ratio = yields / yields[:, :1]
        total = yields.sum(axis=2, keepdims=True) / yields[:, :1].sum(axis=2, keepdims=True)
        shape = ratio / total
        shape = 1 + of_shape * (shape - 1)
        shape *= yields[:, :1].sum(axis=2, keepdims=True) / (yields[:, :1] * shape).sum(axis=2, keepdims=True)
        yields[:] = yields[:, :1] * shape * (1 + of_yield * (total - 1))
    return axes, templates


def with_thresholds(run, **thresholds):
    pruning = type(run.model.pruning)(**thresholds)
    return run.model_copy(update={"model": run.model.model_copy(update={"pruning": pruning})})


def decided(run, axes, templates):
    return Specifier.of(templates, axes, run).decided(templates)


def by_hand(run, axes, templates):
    """The workspace without pruning, its modifiers left out by sizes from the templates, in plain NumPy."""
    written = copy.deepcopy(workspace(templates, axes, with_thresholds(run)))
    known = {own.name: own for own in run.model.systematics}
    for channel in written["channels"]:
        name, one = channel["name"], Channels.of_sizes([len(channel["samples"][0]["data"])])
        for sample in channel["samples"]:
            kept, nominal = [], np.array(sample["data"])
            for own in sample["modifiers"]:
                if own["type"] in ("normsys", "histosys"):
                    norm, shape = known[own["name"]], 0.0
                    if isinstance(norm, NormPlusShapeSystematic):
                        ends = [
                            templates.yields[name][axes.row(sample["name"], variation)]
                            for variation in (norm.up, norm.down)
                            if variation
                        ]
                        if norm.smoothing:
                            ends = [
                                np.asarray(smoothed_by(norm.smoothing, nominal[None], end[None], one))[0]
                                for end in ends
                            ]
                        if norm.symmetrise:
                            ends = symmetrised(nominal, *ends, norm.symmetrise)
                        ratios = [end.sum() / nominal.sum() for end in ends]
                        shape = max(
                            np.abs(e / r / nominal - 1).max() for e, r in zip(ends, ratios, strict=True)
                        )
                        rate = max(abs(ratio - 1) for ratio in ratios)
                    else:
                        rate = max(abs(norm.up), abs(norm.down))
                    kind = ("normalisation", rate) if own["type"] == "normsys" else ("shape", shape)
                    if kind[1] < (getattr(norm.pruning or run.model.pruning, kind[0]) or 0.0):
                        continue
                kept.append(own)
            sample["modifiers"] = kept
    return written


def require_same_density(run, axes, templates, written):
    """Our log-density of the pruned templates at a drawn point, and pyhf's of a workspace; return pyhf's model."""
    judge_of_it = pyhf.Workspace(written)
    model = judge_of_it.model()
    specifier, decision = Specifier.of(templates, axes, run), decided(run, axes, templates)
    stacked = specifier.stacked(specifier.side_by_side(templates), decision.pruned)
    ours, random = specifier.model, np.random.default_rng(5)
    names = list(ours.parameter_names)
    assert [name for name in names if name not in decision.gone] == model.config.par_names
    point = np.asarray(ours.initial) + random.uniform(-0.3, 0.3, len(names))
    kept = [name not in decision.gone for name in names]
    point[~np.array(kept)] = 0.0
    data = np.asarray(judge_of_it.data(model), dtype=float)
    data[: model.config.nmaindata] *= random.uniform(0.8, 1.2, model.config.nmaindata)
    theirs = model.logpdf(point[kept], data)[0]
    whole = np.array(ours.expected_data(ours.initial, stacked))
    whole[: model.config.nmaindata] = data[: model.config.nmaindata]
    gone = len(decision.gone) * np.log(2 * np.pi) / 2  # of their constraint terms, at their centre
    found = jax.jit(lambda at: ours.logpdf(at, jnp.asarray(whole), stacked))(jnp.asarray(point))
    np.testing.assert_allclose(float(found) + gone, theirs, rtol=1e-10)
    return model


@pytest.fixture(scope="module")
def first():
    """A run, its templates, and its objective, compiled."""
    run = small({"systematics": SYSTEMATICS, "pruning": LIMITS})
    variance = config.Objective.model_validate(
        {"kind": "inferno"}
    )  # of the POI, which compiles without a fit
    run = run.model_copy(update={"objective": variance})
    axes, templates = graded(run)
    return run, axes, templates, judge(run, axes)


def test_the_workspace_and_the_number_are_those_of_one_made_by_hand(first):
    run, axes, templates, judged = first
    written, expected = workspace(templates, axes, run), by_hand(run, axes, templates)
    assert json.dumps(written, sort_keys=True) == json.dumps(expected, sort_keys=True)
    both = {("normsys", "scale"), ("histosys", "scale")}
    always = {("normsys", "at the limit"), ("staterror", "staterror_A")}
    assert modifiers(written, "A", "signal") - {("normfactor", "mu")} == always | both
    kinds = {c: {k for k, n in modifiers(written, c, "qcd") if n == "scale"} for c in "ABCD"}
    assert kinds == {"A": {"normsys", "histosys"}, "B": {"histosys"}, "C": {"normsys"}, "D": set()}
    assert all("below" not in {n for _, n in modifiers(written, c, "top")} for c in "ABCD")
    decision = decided(run, axes, templates)
    assert decision.gone == ("below",)
    assert decision.of == 4 * (3 + 3 + 2 + 2 + 3 + 3)
    assert {(p.part, p.size, p.threshold) for p in decision.parts if p.systematic == "below"} == {
        ("normalisation", 0.019, 0.02)
    }
    model = require_same_density(run, axes, templates, expected)
    data = pyhf.Workspace(expected).data(model)
    theirs = variance_of_poi(model, np.asarray(data))  # by differences of finite steps
    assert judged(templates, {}).objective == pytest.approx(theirs, rel=4e-4)


def test_sizes_are_those_of_smoothed_and_symmetrised_templates():
    treated = {
        **SYSTEMATICS[0],
        "smoothing": {"algorithm": "gaussian", "width": 0.7},
        "symmetrise": "largest",
    }
    run = small({"systematics": [treated], "pruning": {"normalisation": 0.05, "shape": 0.06}})
    axes, templates = graded(run)
    written = workspace(templates, axes, run)
    assert written["channels"] == by_hand(run, axes, templates)["channels"]
    untreated = decided(
        small({"systematics": SYSTEMATICS[:1], "pruning": run.model.pruning.model_dump()}), axes, templates
    )
    assert decided(run, axes, templates).parts != untreated.parts


def test_what_is_left_of_the_uncertainty_of_the_bins(first):
    """Half of the sides' difference in quadrature, with and without the modifiers of the workspace by hand."""
    run, axes, templates, _ = first
    decision = decided(run, axes, templates)
    cases = (
        (decision.before, workspace(templates, axes, with_thresholds(run))),
        (
            decision.after,
            by_hand(run, axes, templates),
        ),
    )
    for found, written in cases:
        for channel in written["channels"]:
            changes, total = {}, 0.0
            for sample in channel["samples"]:
                nominal, total = np.array(sample["data"]), total + np.array(sample["data"])
                own = {(m["type"], m["name"]): m["data"] for m in sample["modifiers"]}
                for name in {n for kind, n in own if kind in ("normsys", "histosys")}:
                    factors = own.get(("normsys", name), {"hi": 1.0, "lo": 1.0})
                    shape = own.get(("histosys", name), {"hi_data": nominal, "lo_data": nominal})
                    ends = [factors[end] * np.array(shape[f"{end}_data"]) for end in ("hi", "lo")]
                    changes[name] = changes.get(name, 0.0) + 0.5 * (ends[0] - ends[1])
            expected = np.sqrt(sum(change**2 for change in changes.values())) / total
            np.testing.assert_allclose(found[channel["name"]], expected, rtol=1e-12)
    assert any(a < b for c in "ABCD" for a, b in zip(decision.after[c], decision.before[c], strict=True))


def test_a_systematic_may_have_thresholds_of_its_own():
    own = [{**entry, "pruning": {"normalisation": 0, "shape": 0}} for entry in SYSTEMATICS[:2]]
    own += [{**SYSTEMATICS[3], "pruning": {"normalisation": 0.0}}]
    run = small({"systematics": own, "pruning": LIMITS})
    axes, templates = graded(run)
    assert decided(run, axes, templates) is None
    assert workspace(templates, axes, run) == workspace(templates, axes, with_thresholds(run))
    other = small({"systematics": [{**SYSTEMATICS[0], "pruning": {"shape": 0.05}}]})
    found = decided(other, axes, templates)
    assert {part.part for part in found.parts} == {"shape"}
    assert {part.channel for part in found.parts} >= {"C", "D"}


def test_thresholds_of_zero_leave_even_what_does_nothing():
    run = small({"systematics": SYSTEMATICS, "pruning": {"normalisation": 0, "shape": 0}})
    axes, templates = graded(run)
    for array in templates.yields.values():
        array[:, 1:] = array[:, :1]
    assert decided(run, axes, templates) is None
    assert {n for _, n in modifiers(workspace(templates, axes, run), "A", "top")} >= {
        "scale",
        "tune",
        "below",
    }
    found = decided(with_thresholds(run, shape=1e-12), axes, templates)
    assert {(p.systematic, p.size) for p in found.parts} == {("scale", 0.0), ("tune", 0.0)}


def test_a_bin_without_nominal_yield_is_no_small_change():
    run = small({"systematics": SYSTEMATICS[:1], "pruning": {"shape": 0.5}})
    axes, templates = graded(run)
    top = axes.samples.index("top")
    templates.yields["D"][top, 0, 1] = 0.0
    kept = {(p.sample, p.channel) for p in decided(run, axes, templates).parts}
    assert ("qcd", "D") in kept
    assert ("top", "D") not in kept


def test_an_effect_that_is_pruned_adds_nothing_to_correlated_parameters():
    """As if its templates were the nominal ones: its part in the parameters of others is gone, theirs in its stays."""
    model = {
        "systematics": [
            SYSTEMATICS[0],
            {"name": "small", "type": "Normalization", "up": 0.01, "down": -0.01},
        ],
        "correlations": [{"between": ["scale", "small"], "value": 0.5}],
    }
    run = small({**model, "pruning": {"normalisation": 0.011}})
    axes, templates = graded(run)
    without = with_thresholds(run)
    flat = {
        **model,
        "systematics": [model["systematics"][0], {**model["systematics"][1], "up": 0, "down": 0}],
    }
    ours, theirs = workspace(templates, axes, run), workspace(templates, axes, small(flat))
    for channel in theirs["channels"]:
        for sample in channel["samples"]:
            sample["modifiers"] = [
                own
                for own in sample["modifiers"]
                if not (own["type"] == "normsys" and own["name"] == "small")
                and not (own["type"] == "normsys" and own["data"] == {"hi": 1.0, "lo": 1.0})
            ]
    pruned = {(p.sample, p.channel) for p in decided(run, axes, templates).parts if p.systematic == "scale"}
    assert 0 < len(pruned) < 12
    for channel in theirs["channels"]:
        for sample in channel["samples"]:
            if (sample["name"], channel["name"]) in pruned:
                sample["modifiers"] = [
                    own for own in sample["modifiers"] if (own["type"], own["name"]) != ("normsys", "scale")
                ]
    assert ours["channels"] == theirs["channels"]
    assert decided(run, axes, templates).gone == ("small",)
    require_same_density(run, axes, templates, ours)
    assert workspace(templates, axes, without) != ours


def test_a_parameter_that_a_joined_workspace_has_stays(tmp_path):
    model = {"systematics": SYSTEMATICS[3:], "pruning": LIMITS}
    axes, templates = graded(small(model))
    other = workspace(templates, axes, small({"systematics": SYSTEMATICS[3:]}))
    for own in (*other["channels"], *other["observations"]):
        own["name"] = f"other_{own['name']}"
    for channel in other["channels"]:
        for sample in channel["samples"]:
            sample["modifiers"] = [m for m in sample["modifiers"] if m["type"] in ("normfactor", "normsys")]
    (tmp_path / "other.json").write_text(json.dumps(other))
    run = small({**model, "with": str(tmp_path / "other.json")})
    assert decided(run, axes, templates).gone == ()
    written = workspace(templates, axes, run)
    assert "below" in pyhf.Workspace(written).model().config.par_names
    assert {n for c in "ABCD" for _, n in modifiers(written, c, "top") if "staterror" not in n} == set()


def test_the_derivative_is_that_of_a_decision_that_stays(first):
    """Finite differences, also where an effect crosses its threshold, which moves nothing once it is decided."""
    _, axes, templates, free = first
    judged = free.decided(free.decide(templates))
    slopes = judged(templates, {}).slopes
    assert judged(templates, {}).objective == free(templates, {}).objective
    scale, qcd = axes.variations.index("scale_up"), axes.samples.index("qcd")
    assert not slopes.yields["D"][:, scale].any()
    for channel, row in (("A", scale), ("B", scale), ("C", scale), ("D", 0)):
        ends = []
        for side in (1, -1):
            moved = jax.tree.map(np.array, templates)
            moved.yields[channel][qcd, row, 1] += side * 1e-3
            ends.append(judged(moved, {}).objective)
        np.testing.assert_allclose(slopes.yields[channel][qcd, row, 1], (ends[0] - ends[1]) / 2e-3, rtol=1e-4)
    far = jax.tree.map(np.array, templates)
    far.yields["D"][:, scale] *= 1.1
    assert judged(far, {}).objective == judged(templates, {}).objective
    assert free(far, {}).objective != judged(far, {}).objective


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"kind": "poi_uncertainty", "parameter": "below"}, "leaves nothing of 'below'; lower model.pruning"),
        ({"kind": "uncertainty_part", "group": "rates"}, "leaves nothing of 'below', and the part is 0"),
    ],
)
def test_an_objective_of_what_is_pruned(objective, message):
    run = small({"systematics": [SYSTEMATICS[0], {**SYSTEMATICS[3], "group": "rates"}], "pruning": LIMITS})
    run = run.model_copy(update={"objective": config.Objective.model_validate(objective)})
    axes, templates = graded(run)
    with pytest.raises(FitError, match=message):
        judge(run, axes)(templates, {})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"pruning": {"shape": -0.1}}, r"model\.pruning\.shape.*-0\.1"),
        ({"pruning": {"normalisation": 1.5}}, r"model\.pruning\.normalisation.*1\.5"),
        ({"pruning": {"normalization": 0.1}}, r"normalization"),
        ({"pruning": 0.1}, r"model\.pruning"),
        (
            {"systematics": [{**SYSTEMATICS[3], "pruning": {"shape": 0.1}}]},
            "shape 0.1 of a Normalization, which has no shape",
        ),
        (
            {"systematics": [{**SYSTEMATICS[0], "pruning": {"shape": 0.1}, "constraint_width": 2.0}]},
            "constraint_width 2.0: effects are compared",
        ),
    ],
)
def test_thresholds_that_are_refused(model, message):
    with pytest.raises(ConfigError, match=message):
        small(model)


def test_a_systematic_of_another_constraint_width_stays():
    run = small({"systematics": [{**SYSTEMATICS[0], "constraint_width": "none"}], "pruning": LIMITS})
    assert not run.model.is_pruned
    assert decided(run, *graded(run)) is None
