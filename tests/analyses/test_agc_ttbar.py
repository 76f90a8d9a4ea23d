"""The shipped ttbar analysis with exact cuts equals a plain event loop over the ROOT files."""

import numpy as np
import pytest
from eventloop import loop

from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.templates.fill import EXACT

POINTS = [
    {},
    {"lepton_pt": 41.7, "jet_pt": 37.3, "btag": 0.31},
    {"lepton_pt": 25.0, "jet_pt": 25.0, "btag": 0.9},
]


@pytest.mark.simulate
@pytest.mark.parametrize("point", POINTS, ids=["initial", "tight", "loose"])
def test_exact_yields_equal_an_event_loop(miniature, miniature_columns, point):
    parameters = {**initial_parameters(miniature), **point}
    work = prepare_work(miniature, miniature_columns, datasets.ALL)
    templates = forward(InProcess(), work, parameters, EXACT)
    for variation, scale in (("nominal", 1.0), ("pt_scale_up", 1.03)):
        expected = loop(miniature, parameters, scale)
        for channel in miniature.channels:
            for sample in miniature.data.samples:
                found = templates.yields[channel][work.axes.row(sample, variation)]
                np.testing.assert_allclose(
                    found, expected[channel][sample], rtol=1e-9, err_msg=f"{channel} {sample}"
                )
    assert sum(t.sum() for t in templates.yields.values()) > 0


@pytest.mark.simulate
def test_weight_variations(miniature, miniature_columns):
    work = prepare_work(miniature, miniature_columns, datasets.ALL)
    templates = forward(InProcess(), work, initial_parameters(miniature), EXACT)
    for channel, yields in templates.yields.items():
        nominal, up, down = (
            yields[work.axes.row("wjets", v)] for v in ("nominal", "scale_var_up", "scale_var_down")
        )
        np.testing.assert_allclose(up, 1.025 * nominal)
        np.testing.assert_allclose(down, 0.975 * nominal)
        rows = [yields[work.axes.row("ttbar", v)] for v in ("nominal", "btag_var_0_up", "btag_var_0_down")]
        np.testing.assert_allclose(rows[1] + rows[2], 2 * rows[0], err_msg=channel)
        assert rows[1].sum() > rows[0].sum()
