"""Ours against the judge: every objective's number by our likelihood and by pyhf's, with its options."""

import json

import jax
import pyhf
import pytest
from workspaces import two_channels

from pipeline import config
from pipeline.config.quantities import WeightedSum
from pipeline.evaluate.by_pyhf.objectives import judge, judged
from pipeline.likelihood import HistFactory
from pipeline.objective import OBJECTIVES, PENALTIES, Inputs, value_of

pytestmark = pytest.mark.usefixtures("compiled_quickly")


CASES = [
    {"kind": "generalised_variance"},
    {"kind": "generalised_variance", "parameters": ("mu", "tilt", "norm")},
    {"kind": "poi_uncertainty", "parameter": "norm"},
    {"kind": "poi_uncertainty", "combination": {"mu": 1.0, "tilt": -0.5}},
    {"kind": "uncertainty_part", "sources": ("tilt", "stat_sr", "lumi")},
    {"kind": "uncertainty_part", "sources": ("norm",), "combination": {"mu": 2.0, "tilt": 1.0}},
    {"kind": "inferno"},
    {"kind": "inferno", "parameter": "norm"},
    {"kind": "discovery"},
    {"kind": "discovery", "mu": 0.5},
    {"kind": "discovery_p_value", "mu": 2.0},
    {"kind": "cls"},
    {"kind": "cls", "mu": 2.0},
    {"kind": "upper_limit"},
    {"kind": "upper_limit", "level": 0.1},
    {"kind": "upper_limit", "band": 2},
    {"kind": "upper_limit", "band": -1},
    {"kind": "joint_significance", "signals": ["mu", "norm"]},
    {"kind": "joint_significance", "signals": ["mu", "norm"], "fitted": False},
    {"kind": "weighted_sum", "terms": [{"kind": "cls", "weight": 0.5}, {"kind": "discovery", "mu": 2.0}]},
]


@pytest.fixture(autouse=True)
def _accurate():
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-12))
    yield
    pyhf.set_backend("numpy")


def ours(section, content):
    """The objective by our own likelihood."""
    model = HistFactory.from_workspace(json.loads(json.dumps(content)))
    value = jax.jit(lambda t: value_of(section.quantity, Inputs(model, t)))(model.templates)
    assert value.converged
    return float(value.value)


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c.values()))[:40])
def test_pyhf_agrees(case):
    section = config.Objective(**case)
    workspace = pyhf.Workspace(two_channels())
    theirs = workspace.model()
    asimov = theirs.expected_data(theirs.config.suggested_init())
    number = judged(section.quantity, theirs, asimov, 0.0)
    assert ours(section, workspace) == pytest.approx(number, rel=2e-5)


def test_half_of_minos_is_the_profile_interval():
    content = two_channels()
    theirs = pyhf.Workspace(content).model()
    start = theirs.config.suggested_init()
    asimov = theirs.expected_data(start)
    poi = theirs.config.poi_index
    value = ours(config.Objective(kind="profile_interval"), content)
    # the ends of the interval by pyhf's own conditional fits
    ends = [start[poi] - value, start[poi] + value]
    best = float(-2 * theirs.logpdf(start, asimov)[0])
    rises = [
        float(pyhf.infer.mle.fixed_poi_fit(end, asimov, theirs, return_fitted_val=True)[1]) - best
        for end in ends
    ]
    assert rises[0] > 1 > rises[1] > 0.8  # asymmetric, so the mean half-width overshoots one end
    assert sum(rises) / 2 == pytest.approx(1, abs=0.02)
    section = config.Objective(kind="profile_interval")
    assert judged(section.quantity, theirs, asimov, 0.25) == 0.25


@pytest.mark.parametrize("options", [{}, {"background_uncertainty": 0.1}], ids=["known", "uncertain"])
def test_counting_is_pyhfs_counting_whatever_the_model_s_own_uncertainties(options):
    """Also from another nominal POI; pyhf's shapesys is the auxiliary measurement that the formula assumes."""
    content = two_channels()
    content["measurements"][0]["config"]["parameters"].append({"name": "mu", "inits": [2.5]})
    theirs = pyhf.Workspace(content).model()
    asimov = theirs.expected_data(theirs.config.suggested_init())
    section = config.Objective(kind="asimov_significance", **options)
    number = judged(section.quantity, theirs, asimov, 0.0)
    assert ours(section, content) == pytest.approx(number, rel=1e-5)


@pytest.mark.parametrize("kind", [*OBJECTIVES.values(), *PENALTIES.values()], ids=lambda kind: kind.named())
def test_every_kind_has_a_function_and_each_of_the_fit_a_judge(kind):
    assert value_of.dispatch(kind) is not value_of.dispatch(object)
    if kind in OBJECTIVES.values():
        of_fit = not kind.of_sums and kind is not WeightedSum
        assert (judge.dispatch(kind) is not judge.dispatch(object)) == of_fit
        assert kind.label


def test_wrong_sections_are_refused():
    with pytest.raises(
        ValueError, match=r"mu means nothing to 'upper_limit', which has level, band; remove it"
    ):
        config.Objective(kind="upper_limit", mu=2.0)
    assert config.Objective(kind="cls", mu=2.0).quantity.options == {"mu": 2.0}
    with pytest.raises(ValueError, match="terms means nothing to 'cls', which has mu; remove it"):
        config.Objective(kind="cls", terms=[{"kind": "discovery"}])
    with pytest.raises(ValueError, match="'weighted_sum' needs terms, what is added up; add it"):
        config.Objective(kind="weighted_sum")
    with pytest.raises(ValueError, match="quantity: unknown key; write what it holds beside kind"):
        config.Objective(quantity={"kind": "cls"})
    with pytest.raises(ValueError, match=r"\['mu', 'mu'\] name one twice"):
        config.Objective(kind="generalised_variance", parameters=["mu", "mu"])
    with pytest.raises(ValueError, match=r"least means nothing to 'pulls', which has parameters, most, mu"):
        config.Objective(kind="cls", penalties=[{"kind": "pulls", "least": 2.0}])
