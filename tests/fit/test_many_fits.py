"""Toys: fits in lanes against the usual ones, distributions against pyhf's toys, the same numbers for any workers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from scipy import stats
from workspaces import counting, modifier, two_channels, workspace_of

from pipeline.evaluate.robustness.toy_measures import statistic_of
from pipeline.fit import fit
from pipeline.fit.many_fits import fits_of, fitting_at, saturated, starts
from pipeline.fit.pool import FitQueue
from pipeline.fit.toys import ToyExperiment, block, blocks_of, drawn, fitted
from pipeline.likelihood import HistFactory, cells_at, hessian_of, slopes_of
from pipeline.likelihood.lane_templates import has_lanes, lane_templates
from pipeline.likelihood.lanes import lanes_at

pytestmark = pytest.mark.usefixtures("compiled_quickly")
CODES = {"normsys": {"interpcode": "code1"}, "histosys": {"interpcode": "code0"}}


def one_background():
    """A shapesys of the background alone: no model for lanes."""
    samples = [
        {"name": "s", "data": [6.0, 9.0], "modifiers": [modifier("mu", "normfactor")]},
        {"name": "b", "data": [40.0, 30.0], "modifiers": [modifier("shape", "shapesys", [5.0, 4.0])]},
    ]
    return workspace_of([{"name": "c", "samples": samples}], {"c": [47.0, 37.0]})


def whole_shapesys():
    """A shapesys of the only sample, a Poisson constraint that lanes know."""
    samples = [
        {
            "name": "s",
            "data": [16.0, 29.0],
            "modifiers": [modifier("mu", "normfactor"), modifier("shape", "shapesys", [2.0, 4.0])],
        }
    ]
    return workspace_of([{"name": "c", "samples": samples}], {"c": [17.0, 27.0]})


def experiment(model, toys, *, tested=1.0, seed=3, **settings):
    truth = np.asarray(model.initial.at[model.poi_index].set(tested))
    return ToyExperiment(truth, tested, toys, seed, 0, **settings)


def spread(model, random, lanes):
    """Points around the initial ones, a lane each."""
    by = 0.2 * random.normal(size=(model.initial.size, lanes))
    return jnp.clip(model.initial[:, None] + by, model.bounds[:, :1] + 0.05, model.bounds[:, 1:] - 0.05)


@pytest.mark.parametrize(
    ("workspace", "codes"),
    [(two_channels, {}), (two_channels, CODES), (counting, {}), (whole_shapesys, {})],
)
def test_a_lane_has_the_derivatives_of_one_fit(workspace, codes):
    """Every second lane with the matrix of Fisher scoring."""
    model, random = HistFactory.from_workspace(workspace(), modifier_settings=codes), np.random.default_rng(5)
    dense, fixed = model.dense(), model.fixed_parameters()
    assert has_lanes(model)
    points = spread(model, random, 6)
    data = jnp.asarray(drawn(model, np.asarray(model.initial), 6, (1,)))

    def alone(point, own, scored):
        at, cells = cells_at(model, point, own, dense, fixed)
        slopes = slopes_of(model, at, cells, own, dense)
        free = ~fixed
        hessian = hessian_of(model, cells, slopes, dense, free)
        expected = (hessian.jacobians[0] * hessian.expected[None]) @ hessian.jacobians[0].T
        matrix = jnp.where(scored, expected + jnp.diag(hessian.constraint), hessian.reduced)
        nll = cells.nll + saturated(model, own, dense)
        return at, nll, slopes.gradient[model.multiplying.kept], matrix

    scored = jnp.arange(6) % 2 == 0
    at, nll, gradient, matrix = jax.jit(jax.vmap(alone))(points.T, data, scored)
    held = jnp.broadcast_to(fixed[:, None], points.shape)
    found = eqx.filter_jit(lanes_at)(lane_templates(model, dense), points, data.T, held, scored)
    np.testing.assert_allclose(found.parameters.T, at, rtol=1e-12)
    np.testing.assert_allclose(found.nll, nll, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.gradient.T, gradient, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.hessian, matrix, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("workspace", [two_channels, one_background])
def test_fits_of_many_are_those_of_one(workspace):
    model, toys = HistFactory.from_workspace(workspace()), 80  # more than there are lanes
    truth = model.initial
    data = jnp.asarray(drawn(model, np.asarray(truth), toys, (2,)))
    free, held = (
        starts(model, fitting, data, value)
        for fitting, value in ((fitting_at(model, truth), own) for own in (None, 0.5))
    )
    which = jnp.tile(jnp.arange(toys), 2)
    is_held = jnp.arange(2 * toys) >= toys
    found = eqx.filter_jit(fits_of)(model, FitQueue(data, which, jnp.concatenate([free, held]), is_held))
    assert found.converged.all()
    fixed, poi = model.fixed_parameters(), model.poi_index

    @jax.jit
    def alone(own, is_held):
        start = model.initial.at[poi].set(jnp.where(is_held, 0.5, 1.0))
        result = fit(model, own, init=start, fixed=fixed.at[poi].set(is_held))
        return result.twice_nll + 2 * saturated(model, own, model.dense()), result.parameters

    for number in range(0, 2 * toys, 20):
        lowest, parameters = alone(data[which[number]], is_held[number])
        np.testing.assert_allclose(2 * found.nll[number], lowest, atol=1e-8)
        np.testing.assert_allclose(found.parameters[number], parameters, atol=1e-4)


def test_toys_are_drawn_as_pyhfs_are():
    model = HistFactory.from_workspace(one_background())
    theirs = pyhf.Workspace(one_background()).model()
    ours = drawn(model, np.asarray(model.initial), 20_000, (3,))
    pyhf.set_backend("numpy")
    np.random.seed(7)  # noqa: NPY002  # what pyhf draws from
    drawn_by_pyhf = theirs.make_pdf(pyhf.tensorlib.astensor(theirs.config.suggested_init())).sample((20_000,))
    for column in range(ours.shape[1]):
        assert stats.ks_2samp(ours[:, column], drawn_by_pyhf[:, column]).pvalue > 1e-3


def test_the_statistic_is_distributed_as_pyhfs_toys():
    """q~ and p-values of the signal hypothesis and of the background, 300 toys each by pyhf."""
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer())
    workspace = pyhf.Workspace(counting(signal=8.0, background=30.0, observed=33.0))
    theirs, toys = workspace.model(), 300
    data = workspace.data(theirs)
    np.random.seed(11)  # noqa: NPY002  # what pyhf draws from
    calculator = pyhf.infer.calculators.ToyCalculator(data, theirs, ntoys=toys, track_progress=False)
    distributions = calculator.distributions(1.0)
    observed = calculator.teststatistic(1.0)
    model = HistFactory.from_workspace(dict(workspace))
    for poi, reference in zip((1.0, 0.0), distributions, strict=True):
        best = np.asarray(pyhf.infer.mle.fixed_poi_fit(poi, data, theirs))
        order = [theirs.config.par_names.index(name) for name in model.parameter_names]
        own = block(model, ToyExperiment(best[order], 1.0, 1000, 5, int(poi)), 0)
        assert own.converged.all()
        q = statistic_of("q_mu_tilde", own, 1.0)
        assert stats.ks_2samp(np.round(q, 5), np.round(reference.samples, 5)).pvalue > 0.01
        ours, pyhfs = np.mean(q >= observed), float(reference.pvalue(observed))
        assert abs(ours - pyhfs) < 3 * np.sqrt(pyhfs * (1 - pyhfs) * (1 / toys + 1 / 1000)) + 1e-9


def test_a_toy_does_not_depend_on_how_many_there_are_in_its_block():
    model = HistFactory.from_workspace(two_channels())
    data = drawn(model, np.asarray(model.initial), 70, (4,))
    own = experiment(model, 70)
    every, some = fitted(model, own, data), fitted(model, own, data[40:])
    np.testing.assert_allclose(every.t[40:], some.t, atol=1e-8)
    again = fitted(model, own, data)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(every, again, strict=True))


@pytest.mark.parametrize(
    ("toys", "sizes"), [(1, [1]), (1000, [1000]), (1001, [501, 500]), (2500, [834, 834, 832])]
)
def test_blocks_have_all_toys(toys, sizes):
    assert blocks_of(toys) == sizes
