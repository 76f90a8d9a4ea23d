"""A likelihood with several minima: the fit finds the lowest, and so does the judge; neither where it starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from jax.test_util import check_grads

from pipeline.config import Objective
from pipeline.config.quantities import Discovery
from pipeline.evaluate.by_pyhf.objectives import judged
from pipeline.fit import fit
from pipeline.fit.hypotest import conditional_fit
from pipeline.likelihood import HistFactory, templates_from_workspace
from pipeline.objective import Inputs, value_of

pytestmark = pytest.mark.usefixtures("compiled_quickly")


# What an optimiser made of two shapes that both fill the signal's bins, when fits stopped in the nearest minimum.
UP, DOWN = [70.9, 4.3, 6.7, 18.1], [64.0, 6.8, 18.6, 10.6]
SPEC = {
    "channels": [
        {
            "name": "output",
            "samples": [
                {
                    "name": "background",
                    "data": [96.0, 3.27, 0.67, 0.075],
                    "modifiers": [
                        {"name": "gamma", "type": "histosys", "data": {"hi_data": UP, "lo_data": DOWN}}
                    ],
                },
                {
                    "name": "signal",
                    "data": [2.8, 6.0, 9.3, 1.9],
                    "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
                },
            ],
        }
    ],
    "observations": [{"name": "output", "data": [98.8, 9.27, 9.97, 1.975]}],
    "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
    "version": "1.0.0",
}


@pytest.fixture(scope="module")
def model():
    return HistFactory.from_workspace(SPEC)


def scan(mu, truth):
    """-2 ln L of a scan of gamma at mu, on the Asimov data of `truth`, above that at the truth; by pyhf."""
    theirs = pyhf.Workspace(SPEC).model()
    order = {name: theirs.config.par_slice(name).start for name in ("mu", "gamma")}

    def at(mu, gamma):
        return [{order["mu"]: mu, order["gamma"]: gamma}[place] for place in range(2)]

    data = theirs.expected_data(at(truth, 0.0))
    gammas = np.linspace(-3, 3, 6001)
    values = np.array([float(-2 * theirs.logpdf(at(mu, gamma), data)[0]) for gamma in gammas])
    values = np.where(np.isfinite(values), values, np.inf) - float(
        -2 * theirs.logpdf(at(truth, 0.0), data)[0]
    )
    inner = values[1:-1]
    return values.min(), int(np.sum((inner < values[:-2]) & (inner < values[2:])))


def test_the_lowest_of_three_minima(model):
    lowest, minima = scan(0.0, 1.0)
    assert minima == 3
    assert lowest < 10  # the one next to the start is at 50
    truth = model.initial
    found = conditional_fit(model, model.expected_data(truth), 0.0, model.dense(None))
    assert found.converged
    q = found.twice_nll + 2 * model.logpdf(truth, model.expected_data(truth))
    np.testing.assert_allclose(q, lowest, atol=1e-3)


@pytest.mark.parametrize(("kind", "mu", "truth"), [("discovery", 0.0, 1.0), ("cls", 1.0, 0.0)])
def test_both_likelihoods_say_what_the_scan_says(model, kind, mu, truth):
    lowest, _ = scan(mu, truth)
    expected = {
        "discovery": np.sqrt(lowest),
        "cls": np.log(2) + float(jax.scipy.special.log_ndtr(-jnp.sqrt(lowest))),
    }[kind]
    theirs = pyhf.Workspace(SPEC).model()
    ours = value_of(Objective(kind=kind).quantity, Inputs(model, model.templates))
    assert ours.converged
    np.testing.assert_allclose(ours.value, expected, rtol=1e-4)
    asimov = theirs.expected_data(theirs.config.suggested_init())
    np.testing.assert_allclose(
        judged(Objective(kind=kind).quantity, theirs, asimov, 0.0), expected, rtol=1e-4
    )


@pytest.mark.slow
def test_its_derivative_is_that_of_the_lowest(model):
    named = templates_from_workspace(SPEC)

    def significance(nominal):
        moved = {**named["output"]["background"], "data": nominal}
        templates = {"output": {**named["output"], "background": moved}}
        return value_of(Discovery(), Inputs(model, templates)).value

    check_grads(significance, (named["output"]["background"]["data"],), order=1, rtol=1e-5)


def test_a_held_shape_is_not_moved(model):
    found = fit(model, model.expected_data(model.initial), fixed=jnp.ones(2, dtype=bool))
    np.testing.assert_array_equal(found.parameters, model.initial)
