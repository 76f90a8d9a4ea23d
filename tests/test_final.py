"""Ours against the judge: every objective's number by our likelihood and by pyhf's, with its options."""

import inspect
import json

import jax
import pyhf
import pytest
from test_objective import two_channels

from pipeline import config
from pipeline.config.sections import OBJECTIVE_OPTIONS
from pipeline.final import JUDGES
from pipeline.likelihood import HistFactory
from pipeline.objective import OBJECTIVES


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("discovery", {}),
        ("discovery", {"mu": 2.0}),
        ("cls", {}),
        ("cls", {"mu": 2.0}),
        ("upper_limit", {}),
        ("upper_limit", {"level": 0.1}),
    ],
)
def test_our_number_is_pyhfs(kind, options):
    workspace = pyhf.Workspace(two_channels())
    theirs = workspace.model()
    model = HistFactory.from_workspace(json.loads(json.dumps(workspace)))
    ours = jax.jit(OBJECTIVES[kind].of(options))(model, model.templates)
    assert ours.converged
    judged = JUDGES[kind](theirs, workspace.data(theirs), 0.0, **options)
    assert float(ours.value) == pytest.approx(judged, rel=1e-5)


def test_every_objective_has_a_judge_and_the_options_that_the_configuration_knows():
    assert JUDGES.keys() == OBJECTIVES.keys()
    for kind, objective in OBJECTIVES.items():
        options = list(inspect.signature(objective.function).parameters)[2:]
        assert tuple(options) == OBJECTIVE_OPTIONS.get(kind, ())


def test_an_option_of_another_objective_is_refused():
    with pytest.raises(ValueError, match=r"mu means nothing to 'upper_limit', which has level; remove it"):
        config.sections.Objective(kind="upper_limit", mu=2.0)
    assert config.sections.Objective(kind="cls", mu=2.0).options == {"mu": 2.0}
