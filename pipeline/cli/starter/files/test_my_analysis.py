"""On a few events the exact selection is NumPy's, and the smooth one approaches it and has the right derivative.

Run these tests by `pytest` in this folder after every change of the analysis.
"""

import awkward as ak
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make_events import EVENTS, events
from my_analysis import MyAnalysis

from pipeline.containers import Columns, Parameters
from pipeline.relax import Exact, Relaxed

jax.config.update("jax_enable_x64", True)
ANALYSIS = MyAnalysis()
START = {name: free.initial for name, free in ANALYSIS.parameters.items()}
WIDTHS = {"lepton_pt": 4.0, "missing_et": 5.0, "jet_pt": 4.0, "btag": 0.06}
CROSS_SECTIONS = {"zprime": 10.0, "ttbar": 150.0, "wjets": 3000.0}


def made(sample, number=2000):
    """Return some events as `columns` is given them."""
    branches = events(sample, number, np.random.default_rng(7))
    return ak.zip({**branches, "event_number": branches["event"]}, depth_limit=1)


def observed(sample, parameters, relaxed):
    """Return what is observed in the channel of the fit, by exact operations or by smooth ones of some widths."""
    found = ANALYSIS.columns(made(sample), sample)
    columns = Columns({name: jnp.asarray(ak.to_numpy(array)) for name, array in found.items()})
    p = Parameters({name: jnp.asarray(value) for name, value in parameters.items()})
    relax = Exact() if relaxed is None else Relaxed(relaxed, thresholds=p.arrays)
    return ANALYSIS.observe(p, columns, relax)["four_jets"]


def objective(parameters):
    """Return the relative statistical uncertainty of the signal's rate, smooth in the cuts."""
    yields = {s: CROSS_SECTIONS[s] * observed(s, parameters, WIDTHS).weight.sum() for s in EVENTS}
    return jnp.sqrt(sum(yields.values())) / yields["zprime"]


@pytest.mark.parametrize("sample", EVENTS)
def test_the_exact_selection_is_numpys(sample):
    """Awkward and NumPy alone select the same events, and fill the same histogram."""
    some = made(sample)
    jets = some.jet_pt > START["jet_pt"]
    passes = (some.lepton_pt > START["lepton_pt"]) & (some.missing_et > START["missing_et"])
    passes = passes & (ak.sum(jets, axis=1) >= 4) & ak.any(jets & (some.jet_btag > START["btag"]), axis=1)
    chosen, edges = some[passes], [300, 600, 750, 1000]
    expected, _ = np.histogram(ak.to_numpy(chosen.mass), edges, weights=ak.to_numpy(chosen.weight))
    found = observed(sample, START, None)
    filled, _ = np.histogram(found.value, edges, weights=found.weight)
    assert expected.sum() > 0
    np.testing.assert_allclose(filled, expected)


@pytest.mark.parametrize("sample", EVENTS)
def test_the_smooth_selection_approaches_the_exact_one(sample):
    """The narrower the cuts, the closer."""
    exact = np.asarray(observed(sample, START, None).weight)
    apart = [
        np.abs(
            np.asarray(observed(sample, START, {name: part * width for name, width in WIDTHS.items()}).weight)
            - exact
        )
        for part in (1.0, 0.1, 1e-9)
    ]
    assert apart[0].sum() > apart[1].sum() > 0
    assert apart[2].max() < 1e-6


@pytest.mark.parametrize("name", START)
def test_the_gradient_is_that_of_finite_differences(name):
    """A parameter with a derivative of exactly 0 would never move."""
    step = 1e-5 * WIDTHS[name]
    up, down = (float(objective({**START, name: START[name] + sign * step})) for sign in (1, -1))
    found = float(jax.grad(objective)({n: jnp.asarray(value) for n, value in START.items()})[name])
    assert found != 0
    assert found == pytest.approx((up - down) / (2 * step), rel=1e-5)
