"""Ours against the judge: every objective's number by our likelihood and by pyhf's, with its options."""

import inspect
import json

import jax
import pyhf
import pytest
from workspaces import two_channels

from pipeline import config
from pipeline.evaluate.pyhf_objectives import JUDGES, judged
from pipeline.likelihood import HistFactory
from pipeline.objective import OBJECTIVES, PENALTIES, Term, total

pytestmark = pytest.mark.usefixtures("compiled_quickly")


CASES = [
    {"kind": "generalised_variance"},
    {"kind": "generalised_variance", "parameters": ("mu", "tilt", "norm")},
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
    terms = tuple(Term(t.kind, t.options, t.weight) for t in section.terms)
    options = {**section.options, **({"terms": terms} if terms else {})}
    _, value = jax.jit(lambda t: total(model, t, objective=Term(section.kind, options)))(model.templates)
    assert value.converged
    return float(value.value)


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c.values()))[:40])
def test_pyhf_agrees(case):
    section = config.Objective(**case)
    workspace = pyhf.Workspace(two_channels())
    theirs = workspace.model()
    asimov = theirs.expected_data(theirs.config.suggested_init())
    number = judged(section, theirs, asimov, 0.0)
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
    assert judged(section, theirs, asimov, 0.25) == 0.25


@pytest.mark.parametrize("options", [{}, {"background_uncertainty": 0.1}], ids=["known", "uncertain"])
def test_counting_is_pyhfs_counting_whatever_the_model_s_own_uncertainties(options):
    """Also from another nominal POI; pyhf's shapesys is the auxiliary measurement that the formula assumes."""
    content = two_channels()
    content["measurements"][0]["config"]["parameters"].append({"name": "mu", "inits": [2.5]})
    theirs = pyhf.Workspace(content).model()
    asimov = theirs.expected_data(theirs.config.suggested_init())
    section = config.Objective(kind="asimov_significance", **options)
    number = judged(section, theirs, asimov, 0.0)
    assert ours(section, content) == pytest.approx(number, rel=1e-5)


def test_every_objective_has_a_judge_and_the_options_that_the_configuration_knows():
    of_sums = {kind for kind, objective in OBJECTIVES.items() if objective.of_sums}
    assert JUDGES.keys() == OBJECTIVES.keys() - {"weighted_sum"} - of_sums
    functions = {kind: objective.function for kind, objective in OBJECTIVES.items()}
    for section, table in ((config.Objective, functions), (config.Penalty, PENALTIES)):
        for kind, function in table.items():
            keywords = [
                p for p in inspect.signature(function).parameters.values() if p.kind == p.KEYWORD_ONLY
            ]
            options = {p.name for p in keywords} - {"terms", "sums", "function"}
            assert options == set(section.known.get(kind, ()))


def test_wrong_sections_are_refused():
    with pytest.raises(
        ValueError, match=r"mu means nothing to 'upper_limit', which has level, band; remove it"
    ):
        config.Objective(kind="upper_limit", mu=2.0)
    assert config.Objective(kind="cls", mu=2.0).options == {"mu": 2.0}
    with pytest.raises(ValueError, match="terms belong to kind 'weighted_sum', which needs at least one"):
        config.Objective(kind="cls", terms=[{"kind": "discovery"}])
    with pytest.raises(ValueError, match="kind is 'weighted_sum' with 0 terms"):
        config.Objective(kind="weighted_sum")
    with pytest.raises(ValueError, match=r"\['mu', 'mu'\] name one twice"):
        config.Objective(kind="generalised_variance", parameters=["mu", "mu"])
    with pytest.raises(ValueError, match=r"least means nothing to 'pulls', which has most, mu, parameters"):
        config.Penalty(kind="pulls", least=2.0)
