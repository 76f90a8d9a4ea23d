"""Of a run's configuration: its groups, two parameters of interest, and an objective of a group, by us and by pyhf."""

import numpy as np
import pytest

from pipeline import config as configuration
from pipeline.containers import Templates
from pipeline.errors import ConfigError
from pipeline.evaluate.at_point import parts_of
from pipeline.evaluate.by_pyhf.fit import pyhf_objective
from pipeline.gradient.loss import described, judge
from pipeline.likelihood import HistFactory
from pipeline.likelihood.configured.run_workspace import beyond_pyhf, likelihood, workspace
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.templates.axes import axes_of

pytestmark = pytest.mark.usefixtures("compiled_quickly")

NORMS = "[{name: ttbar_norm, samples: [ttbar]}, {name: wjets_norm, samples: [wjets]}]"
SYSTEMATICS = (
    "[{name: jes, type: NormPlusShape, up: pt_scale_up, group: jets}, {name: jer, type: NormPlusShape, up: pt_res_up, "
    "group: jets}, {name: xsec, type: Normalization, up: 0.2, down: -0.2, samples: [single_top_tW], "
    "constraint_width: %s}]"
)
OBJECTIVE = "objective={kind: uncertainty_part, group: jets}"


def loaded(request, width, *overrides):
    path = request.config.rootpath / "config" / "miniature.yaml"
    model = [f"model.normfactors={NORMS}", f"model.systematics={SYSTEMATICS % width}", "model.pseudodata={}"]
    return configuration.load(path, [*model, "model.further_pois=[wjets_norm]", *overrides])


def templates_of(run):
    """Three samples of different shapes; the variations tilt them."""
    rows = axes_of(run, ("pt_scale_up", "pt_res_up"))
    shapes = {"ttbar": (20.0, 80.0, 60.0), "wjets": (90.0, 40.0, 20.0), "single_top_tW": (20.0, 20.0, 20.0)}
    tilt = {"nominal": (0.0, 0.0, 0.0), "pt_scale_up": (-0.1, 0.02, 0.1), "pt_res_up": (0.04, -0.06, 0.03)}
    yields = np.array(
        [
            [np.array(shapes[s.partition("__")[0]]) * (1 + np.array(tilt[v])) for v in rows.variations]
            for s in rows.samples
        ]
    )
    factors = {name: 1.0 + number for number, name in enumerate(run.channels)}
    return rows, Templates(
        {name: factor * yields for name, factor in factors.items()},
        {name: 0.5 * factor * yields[:, 0] for name, factor in factors.items()},
    )


@pytest.mark.slow
def test_a_run_s_breakdown_contours_and_objective_are_of_one_likelihood(request):
    run = loaded(request, "2.0", OBJECTIVE)  # of a width that pyhf cannot say
    assert beyond_pyhf(run)
    rows, templates = templates_of(run)
    specifier = Specifier.of(templates, rows, run)
    found = parts_of(run, specifier, templates, None)
    assert not found.no_breakdown + found.no_contours
    assert set(found.breakdowns) == {"ttbar_norm", "wjets_norm"}
    for own in found.breakdowns.values():
        assert set(own.groups) == {"data_statistics", "mc_statistics", "jets", "xsec", "lumi"}
        squares = sum(part.impact**2 for part in own.groups.values())
        assert squares == pytest.approx(own.total**2, rel=1e-10)
        assert set(own.systematics) == {"jes", "jer", "xsec", "lumi"}
    (contour,) = found.contours
    assert contour.parameters == run.model.pois
    deviations = np.sqrt(np.diagonal(contour.covariance))
    totals = [found.breakdowns[name].total for name in contour.parameters]
    np.testing.assert_allclose(deviations, totals, rtol=1e-9)
    judged = judge(run, rows, specifier)(templates, {})
    assert judged.objective == pytest.approx(found.breakdowns["ttbar_norm"].groups["jets"].impact, rel=1e-9)
    assert any(np.any(slope != 0) for slope in judged.slopes.yields.values())
    assert described(run).label == "part of the uncertainty on the parameter of interest by jets"


def test_pyhf_has_the_same_number_of_a_group(request):
    run = loaded(request, "1.0", OBJECTIVE)
    rows, templates = templates_of(run)
    spec = workspace(templates, rows, run)
    assert spec["measurements"][0]["config"]["poi"] == "ttbar_norm"
    ours = parts_of(
        run.model_copy(update={"model": run.model.model_copy(update={"further_pois": ()})}),
        Specifier.of(templates, rows, run),
        templates,
        None,
    ).breakdowns["ttbar_norm"]
    assert pyhf_objective(run, spec) == pytest.approx(ours.groups["jets"].impact, rel=1e-4)
    with pytest.raises(ConfigError, match="constraint_width of 'xsec' is not 1"):
        workspace(templates, rows, loaded(request, "2.0"))


def test_the_likelihood_of_a_run_is_that_of_its_workspace(request):
    run = loaded(request, "1.0")
    rows, templates = templates_of(run)
    ours = likelihood(templates, Specifier.of(templates, rows, run))
    theirs = HistFactory.from_workspace(workspace(templates, rows, run))
    np.testing.assert_allclose(ours.data(), theirs.data(), rtol=1e-14)
    np.testing.assert_array_equal(ours.fixed, theirs.fixed)
    assert ours.parameter_names == theirs.parameter_names
    moved = theirs.initial + 0.01
    np.testing.assert_allclose(
        ours.logpdf(moved, ours.data()), theirs.logpdf(moved, theirs.data()), rtol=1e-12
    )
