"""Constraints and ranking against cabinetry's, which fits with pyhf and iminuit."""

import cabinetry
import numpy as np
import pytest

from pipeline.fit.impacts import impacts, widths_before

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def spec(observed):
    """Two channels, a shape and two normalisation systematics, ten per cent statistical uncertainty per bin."""

    def sample(name, yields, modifiers, channel):
        statistical = {"name": f"staterror_{channel}", "type": "staterror", "data": [0.1 * y for y in yields]}
        return {"name": name, "data": yields, "modifiers": [*modifiers, statistical]}

    def shape(yields, slope):
        up, down = ([y * (1 + sign * slope * (i - 1)) for i, y in enumerate(yields)] for sign in (1, -1))
        return {"name": "scale", "type": "histosys", "data": {"hi_data": up, "lo_data": down}}

    signal = [{"name": "mu", "type": "normfactor", "data": None}]
    background = [{"name": "norm", "type": "normsys", "data": {"hi": 1.2, "lo": 0.8}}]
    both = {"name": "both", "type": "normsys", "data": {"hi": 1.05, "lo": 0.95}}
    channels = [
        {
            "name": name,
            "samples": [
                sample("s", s, [*signal, both, shape(s, 0.1)], name),
                sample("b", b, [*background, both, shape(b, -0.05)], name),
            ],
        }
        for name, s, b in (
            ("A", [30.0, 60.0, 90.0], [200.0, 150.0, 100.0]),
            ("B", [5.0, 10.0, 5.0], [300.0, 200.0, 100.0]),
        )
    ]
    return {
        "version": "1.0.0",
        "channels": channels,
        "observations": [{"name": name, "data": data} for name, data in observed.items()],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
    }


@pytest.mark.parametrize(
    "observed",
    [
        {"A": [230.0, 210.0, 190.0], "B": [305.0, 210.0, 105.0]},
        {"A": [240.0, 228.0, 185.0], "B": [290.0, 215.0, 120.0]},
    ],
    ids=["asimov", "fluctuated"],
)
def test_pulls_and_ranking_are_those_of_cabinetry(observed):
    model, data = cabinetry.model_utils.model_and_data(spec(observed))
    theirs = cabinetry.fit.fit(
        model, data, tolerance=1e-3
    )  # of Minuit, whose usual 0.1 leaves pulls 0.005 off
    order = cabinetry.fit.ranking(model, data, fit_results=theirs)
    before = cabinetry.model_utils.prefit_uncertainties(model)
    ours = impacts(spec(observed), widths_before(model, before))
    assert {impact.label for impact in ours} == {"scale", "norm", "both"}
    sizes = [max(abs(impact.up), abs(impact.down)) for impact in ours]
    assert sizes == sorted(sizes, reverse=True)
    for impact in ours:
        index, row = theirs.labels.index(impact.label), order.labels.index(impact.label)
        np.testing.assert_allclose(impact.pull, theirs.bestfit[index], atol=2e-3)
        np.testing.assert_allclose(impact.constraint, theirs.uncertainty[index], rtol=2e-2)
        np.testing.assert_allclose(impact.up, order.postfit_up[row], atol=4e-3)
        np.testing.assert_allclose(impact.down, order.postfit_down[row], atol=4e-3)
