"""What a fit must survive and say: saddles, flat directions, starts without a value, yields below zero, size."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from workspaces import modifier, workspace_of

from pipeline.fit import FitStatus, covariance, fisher_information, fit, fit_with_covariance
from pipeline.fit.crossing import falling_root
from pipeline.likelihood import HistFactory, cells_at
from pipeline.objective import OBJECTIVES, Inputs, value_of

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def model_of(signal, background, modifiers, observed, **settings):
    """One channel, a signal with mu and a background with modifiers."""
    entries = [
        {"name": "s", "data": signal, "modifiers": [modifier("mu", "normfactor")]},
        {"name": "b", "data": background, "modifiers": modifiers},
    ]
    return HistFactory.from_workspace(
        workspace_of([{"name": "c", "samples": entries}], {"c": observed}), **settings
    )


def shape(name, high, low):
    return modifier(name, "histosys", {"hi_data": high, "lo_data": low})


def marked(model, flags):
    return {name for name, is_one in zip(model.parameter_names, flags.tolist(), strict=True) if is_one}


jitted = eqx.filter_jit(fit)


@pytest.mark.parametrize("observed", [[59.0, 60.0, 74.0], [54.0, 76.0, 80.0], [52.0, 66.0, 72.0]])
def test_a_saddle_is_left_along_its_negative_curvature(observed):
    """Both variations on one side: at 0 nothing changes to first order, and the likelihood may rise or fall."""
    varied = [58.0, 66.0, 72.0]
    model = model_of(
        [2.0, 6.0, 2.0],
        [50.0, 60.0, 70.0],
        [modifier("nf", "normfactor"), shape("h", varied, varied)],
        observed,
    )
    for held in (False, True):
        fixed = model.fixed.at[model.poi_index].set(held)
        found = jitted(model, model.data(), fixed=fixed)
        assert found.converged, found.describe(model.parameter_names)
        place = model.parameter_names.index("h")
        fixed = fixed.at[place].set(True)
        for h in np.linspace(-3.0, 3.0, 13):
            scanned = jitted(model, model.data(), fixed=fixed, init=model.initial.at[place].set(h))
            assert found.twice_nll <= scanned.twice_nll + 1e-6


def test_yields_below_zero_are_said():
    modifiers = [shape("h", [70.0, 61.0], [10.0, 59.0]), modifier("st", "staterror", [12.0, 5.0])]
    model = model_of([0.5, 5.0], [40.0, 60.0], modifiers, [0.0, 60.0])
    found = jitted(model, model.data())
    assert bool(found.negative[0]) == bool(model.expected_data(found.parameters)[0] < 0)
    if bool(found.negative[0]):
        assert "fewer than no events expected in bins [0]" in found.describe(model.parameter_names)
    assert not found.negative[1]


def test_a_parameter_without_effect_is_held_and_said():
    model = model_of([0.0, 0.0], [40.0, 60.0], [shape("h", [44.0, 61.0], [37.0, 59.0])], [50.0, 60.0])
    found, block = eqx.filter_jit(fit_with_covariance)(model, model.data(), [0, 1])
    assert found.converged
    assert found.steps < 10
    assert marked(model, found.flat) == {"mu"}
    mu, h = (model.parameter_names.index(name) for name in ("mu", "h"))
    assert found.parameters[mu] == model.initial[mu]
    assert jnp.isnan(block[mu, mu])
    assert block[h, h] > 0
    assert not value_of(OBJECTIVES["poi_uncertainty"](), Inputs(model, model.templates)).converged


@pytest.mark.parametrize("observed", [[50.0, 66.0], [50.0, 90.0]])
def test_a_direction_that_nothing_determines_is_said(observed):
    """Two normalisations of one shape: their sum is fitted, their difference is not."""
    model = model_of([4.0, 6.0], [4.0, 6.0], [modifier("k", "normfactor")], observed)
    found = jitted(model, model.data())
    assert found.status == FitStatus.FLAT
    assert not found.converged
    assert found.steps < 50
    assert marked(model, found.flat) == {"mu", "k"}
    total = float(jnp.sum(model.observations) / 10.0)
    assert float(jnp.sum(found.parameters)) == pytest.approx(total, rel=1e-6)


def test_a_start_without_a_value_is_replaced():
    """At the nominal point a bin with events expects none; half a standard deviation further it does."""
    model = model_of([0.0, 5.0], [0.0, 60.0], [shape("h", [8.0, 61.0], [-8.0, 59.0])], [4.0, 60.0])
    assert not jnp.isfinite(model.logpdf(model.initial, model.data()))
    found = jitted(model, model.data())
    assert found.converged
    assert jnp.isfinite(found.twice_nll)


@pytest.mark.parametrize(
    ("modifiers", "observed"),
    [
        (
            [
                shape("h", [44.0, 61.0, 38.0], [37.0, 59.0, 43.0]),
                modifier("st", "staterror", [4.0, 3.0, 9.0]),
            ],
            [50.0, 60.0, 30.0],
        ),
        (
            [modifier("sh", "shapesys", [8.0, 0.0, 5.0]), modifier("st", "staterror", [4.0, 3.0, 9.0])],
            [50.0, 60.0, 0.0],
        ),
        (
            [modifier("n", "normsys", {"hi": 1.2, "lo": 0.9}), modifier("st", "staterror", [30.0, 3.0, 9.0])],
            [0.0, 90.0, 30.0],
        ),
        (
            [modifier("a", "shapesys", [8.0, 9.0, 5.0]), modifier("b", "shapesys", [3.0, 20.0, 1.0])],
            [51.0, 20.0, 60.0],
        ),
    ],
    ids=["staterror", "two layers", "empty bin", "two shapesys"],
)
def test_gammas_are_where_they_fit_best(modifiers, observed):
    """By their gradient; where there is one layer of them in closed form, from any point."""
    model = model_of([4.0, 6.0, 8.0], [40.0, 60.0, 40.0], modifiers, observed)
    data, dense = model.data(), model.dense()
    gammas = np.unique(np.asarray(model.multiplying.gamma))
    rng = np.random.default_rng(2)
    start = model.initial + 0.2 * jnp.asarray(rng.normal(size=model.initial.size))
    moved, cells = jax.jit(lambda p: cells_at(model, p, data, dense, model.fixed))(start)
    slope = jax.jit(jax.grad(lambda p: -model.logpdf(p, data, dense)))
    free = gammas[~np.asarray(model.fixed)[gammas]]
    np.testing.assert_allclose(cells.nll, -model.logpdf(moved, data, dense), rtol=1e-12)
    assert cells.nll <= -model.logpdf(start, data, dense)
    if model.multiplying.gamma.shape[0] == 1:
        np.testing.assert_allclose(inside(slope, moved, free), 0.0, atol=1e-9)
    found = jitted(model, data)
    assert found.converged
    np.testing.assert_allclose(inside(slope, found.parameters, free), 0.0, atol=1e-6)


def inside(slope, point, places):
    """Slopes in some parameters that are not at their bound at 1e-10, where one may rise."""
    return np.where(np.asarray(point)[places] > 1e-9, slope(point)[places], 0.0)


def test_the_eliminated_hessian_has_the_inverse_of_the_whole():
    """A staterror that leaves the signal alone, beside a shapesys: two layers that multiply different samples."""
    modifiers = [
        shape("h", [44.0, 61.0, 38.0], [37.0, 59.0, 43.0]),
        modifier("st", "staterror", [4.0, 3.0, 9.0]),
        modifier("sh", "shapesys", [3.0, 2.0, 1.0]),
    ]
    model = model_of([4.0, 6.0, 8.0], [40.0, 60.0, 40.0], modifiers, [52.0, 70.0, 55.0])
    every = list(range(model.initial.size))
    found, block = eqx.filter_jit(fit_with_covariance)(model, model.data(), every)
    assert found.converged
    information = eqx.filter_jit(fisher_information)(model, found.parameters, model.data())
    np.testing.assert_allclose(block @ information, np.eye(len(every)), atol=1e-9)
    whole = eqx.filter_jit(covariance)(model, found.parameters, model.data())
    np.testing.assert_allclose(block, whole, rtol=1e-9, atol=1e-14)


def test_patches_of_one_structure_share_a_program():
    """Names of samples and of their templates are no part of what is compiled."""
    traced = []

    @eqx.filter_jit
    def counted(model):
        traced.append(1)
        return fit(model, model.data()).twice_nll

    values = []
    for number, name in enumerate(("s_900", "a_1000", "z_1100")):
        entries = [
            {"name": name, "data": [4.0 + number, 6.0], "modifiers": [modifier("mu", "normfactor")]},
            {
                "name": "b",
                "data": [40.0, 60.0],
                "modifiers": [modifier("n", "normsys", {"hi": 1.2, "lo": 0.9})],
            },
        ]
        content = workspace_of([{"name": "c", "samples": entries}], {"c": [50.0, 61.0]})
        values.append(float(counted(HistFactory.from_workspace(content))))
    assert len(traced) == 1
    assert len(set(values)) == 3


@pytest.mark.parametrize("signal", [1.5, 5.0])
def test_an_interval_wider_than_the_distance_to_the_bound(signal):
    """Both ends are found where the uncertainty is larger than mu = 1 is away from its bound at 0."""
    model = model_of([signal], [50.0], [], [51.0])
    found = jax.jit(lambda t: value_of(OBJECTIVES["profile_interval"](), Inputs(model, t)))(model.templates)
    assert found.converged

    def rise(mu):
        n, rate = 50.0 + signal, 50.0 + signal * mu
        return 2 * (rate - n - n * np.log(rate / n))

    scan = np.linspace(1 - 49 / signal, 1 + 60 / signal, 2_000_001)
    inside = scan[rise(scan) <= 1]
    assert float(found.value) == pytest.approx((inside[-1] - inside[0]) / 2, rel=1e-4)


def test_a_limit_below_the_range_that_is_looked_at_is_none():
    place, found = jax.jit(
        lambda low: falling_root(lambda x: (1.0 - x, jnp.asarray(True)), low, jnp.asarray(3.0))
    )(jnp.asarray(2.0))
    assert not found
    assert 2.0 <= place <= 3.0


@pytest.mark.parametrize("observed", [[52.0, 70.0], [60.0, 55.0]])
def test_a_factor_of_what_another_factor_switches_off_has_no_effect(observed):
    """With mu held at 0 nothing depends on r."""
    both = [modifier("mu", "normfactor"), modifier("r", "normfactor")]
    samples = [
        {"name": "s", "data": [5.0, 10.0], "modifiers": both},
        {"name": "b", "data": [50.0, 60.0], "modifiers": [modifier("n", "normsys", {"hi": 1.1, "lo": 0.9})]},
    ]
    model = HistFactory.from_workspace(workspace_of([{"name": "c", "samples": samples}], {"c": observed}))
    mu, r = (model.parameter_names.index(name) for name in ("mu", "r"))
    found = jitted(
        model, model.data(), init=model.initial.at[mu].set(0.0), fixed=model.fixed.at[mu].set(True)
    )
    assert bool(found.converged)
    assert marked(model, found.flat) == {"r"}
    assert found.parameters[r] == 1.0
