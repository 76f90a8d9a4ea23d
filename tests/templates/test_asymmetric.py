"""Likelihoods that are no parabola, or end where a bin expects no events: what is judged, what is refused."""

import math

import cabinetry
import numpy as np
import pytest
from workspaces import workspace_of

from pipeline import config as configuration
from pipeline.config import Objective
from pipeline.config.quantities import PoiUncertainty
from pipeline.errors import FitError
from pipeline.evaluate.by_pyhf.covariance import variance_of_poi
from pipeline.evaluate.by_pyhf.fit import pyhf_fit, require_agreement
from pipeline.fit.impacts import impacts
from pipeline.likelihood import HistFactory
from pipeline.objective import Inputs, value_of

pytestmark = pytest.mark.usefixtures("compiled_quickly")


YIELDS = {"signal": [1.697, 1.443, 2.216, 14.644], "background": [92.724, 3.619, 2.152, 1.505]}
VARIED = {  # both ends on one side, as neos's
    "hi_data": [68.308, 5.766, 5.816, 20.111],
    "lo_data": [61.593, 14.143, 7.854, 16.41],
}


@pytest.fixture
def config(request):
    overrides = ["objective.kind=poi_uncertainty"]
    return configuration.load(request.config.rootpath / "config" / "neos.yaml", overrides)


def spec(varied):
    """Signal and background with one histosys, observing the nominal expectation."""
    histosys = {"name": "gamma", "type": "histosys", "data": varied}
    samples = [
        {
            "name": "signal",
            "data": YIELDS["signal"],
            "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
        },
        {"name": "background", "data": YIELDS["background"], "modifiers": [histosys]},
    ]
    expected = np.sum(list(YIELDS.values()), axis=0).tolist()
    return workspace_of([{"name": "output", "samples": samples}], {"output": expected})


@pytest.mark.slow
def test_an_interval_that_is_not_symmetric_is_no_disagreement(config):
    """Half of it is far from the Hessian's number; the Hessian of pyhf's likelihood is ours."""
    made = spec(VARIED)
    model = HistFactory.from_workspace(made)
    ours = float(value_of(PoiUncertainty(), Inputs(model, model.templates)).value)
    pyhfs = pyhf_fit(config, made).objective
    assert abs(pyhfs - ours) > 0.3 * ours
    require_agreement(config, made, ours, pyhfs)
    for wrong in (1.05 * ours, 0.95 * ours):
        with pytest.raises(FitError, match=r"by our likelihood but .* by pyhf"):
            require_agreement(config, made, wrong, pyhfs)
    other = config.model_copy(update={"objective": Objective(kind="discovery")})
    with pytest.raises(FitError):
        require_agreement(other, made, ours, pyhfs)


@pytest.mark.parametrize(("lowest", "there"), [(0.1, True), (-1.5, False)])
def test_the_ranking_has_no_shift_where_there_is_no_likelihood(lowest, there):
    """One deviation down the last bin, which has background alone, would expect fewer than no events."""
    made = spec({"hi_data": [92.3, 4.1, 2.1, 0.9], "lo_data": [92.3, 4.1, 2.1, lowest]})
    signal, background = made["channels"][0]["samples"]
    signal["data"], background["data"] = [1.7, 1.5, 1.9, 1e-9], [92.3, 4.1, 2.1, 0.5]
    made["observations"][0]["data"] = [94.0, 5.6, 4.0, 0.5]
    (found,) = impacts(made, {"gamma": 1.0})
    assert found.up is not None
    assert (found.down is not None) == there
    assert 0 < found.constraint < 1


def test_pyhf_s_hessian_is_that_of_the_likelihood(config):
    made = spec(VARIED)
    model = HistFactory.from_workspace(made)
    ours = float(value_of(PoiUncertainty(), Inputs(model, model.templates)).value)
    found = variance_of_poi(*cabinetry.model_utils.model_and_data(made))
    np.testing.assert_allclose(math.sqrt(found), ours, rtol=1e-3)
