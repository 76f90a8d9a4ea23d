"""The parts of an uncertainty: they add up, and are what fits to shifted data say, ours and pyhf's."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from workspaces import modifier, two_channels, workspace_of

from pipeline.fit import fit, fit_with_covariance
from pipeline.fit.breakdown import breakdown
from pipeline.fit.impacts import impacts
from pipeline.fit.shares import combination, fit_with_shares, is_of_parameters
from pipeline.likelihood import HistFactory

pytestmark = pytest.mark.usefixtures("compiled_quickly")

GROUPS = {
    "data_statistics": (),
    "mc_statistics": ("stat_sr", "stat_cr"),
    "background": ("tilt", "norm"),
    "lumi": ("lumi",),
}


def with_counts():
    """A free background, uncertainties of single bins with Poisson auxiliary measurements, and an empty bin."""
    samples = [
        {"name": "s", "data": [9.0, 0.0, 4.0, 1.0], "modifiers": [modifier("mu", "normfactor")]},
        {
            "name": "b",
            "data": [30.0, 0.0, 50.0, 70.0],
            "modifiers": [
                modifier("free", "normfactor"),
                modifier("own", "shapesys", [4.0, 0.0, 6.0, 5.0]),
            ],
        },
        {
            "name": "other",
            "data": [10.0, 0.0, 12.0, 3.0],
            "modifiers": [modifier("norm", "normsys", {"hi": 1.2, "lo": 0.9})],
        },
    ]
    return workspace_of([{"name": "c", "samples": samples}], {"c": [49.0, 0.0, 66.0, 74.0]})


SHARES = eqx.filter_jit(fit_with_shares)  # one program for all models of a structure


def shares_of(model, data):
    result, shares = SHARES(model, data, combination(model, {}, "test"))
    assert result.converged
    return result, shares


FIT = eqx.filter_jit(fit)


def shifted_fits(model, data, steps):
    """The derivative of the fitted POI with respect to each datum, by refits."""

    def fitted(place, by):
        return float(FIT(model, data.at[place].add(by)).parameters[model.poi_index])

    return np.array([(fitted(i, by) - fitted(i, -by)) / (2 * by) for i, by in enumerate(steps.tolist())])


@pytest.mark.parametrize(
    ("content", "parts"), [(two_channels(), 15), (with_counts(), 7)], ids=["gaussian", "poisson"]
)
def test_squares_add_up_and_are_those_of_refits(content, parts):
    """Of every bin and every auxiliary measurement, on Asimov data; an empty bin has none."""
    model = HistFactory.from_workspace(content)
    data = model.data()  # Asimov
    _, shares = shares_of(model, data)
    np.testing.assert_allclose(jnp.sum(shares.squares), shares.variance, rtol=1e-10)
    bins, terms = sum(model.bins), model.constraints
    auxiliary = jnp.where(terms.is_poisson, jnp.sqrt(data[bins:]), model.dense().width)
    deviations = jnp.concatenate([jnp.sqrt(data[:bins]), auxiliary])
    slopes = shifted_fits(model, data, jnp.where(data > 0, 1e-4 * deviations, 1e-4))
    brute = (slopes * np.asarray(deviations)) ** 2
    assert np.sum(brute > 0) == parts
    np.testing.assert_allclose(shares.squares, brute, rtol=1e-5)


def test_what_yields_that_are_not_linear_add_off_asimov_data():
    """The squares and the second derivatives of the yields, weighted by how far data and yields differ."""
    model = HistFactory.from_workspace(two_channels())
    bins = sum(model.bins)
    data = model.data().at[:bins].multiply(jnp.linspace(0.8, 1.3, bins))
    result, shares = shares_of(model, data)
    assert abs(jnp.sum(shares.squares) / shares.variance - 1) > 1e-4

    @jax.jit
    def curved(w):
        rates = lambda p: model.expected_data(p, include_auxdata=False)  # noqa: E731
        expected, bent = (
            rates(result.parameters),
            jax.jvp(lambda p: jax.jvp(rates, (p,), (w,))[1], (result.parameters,), (w,))[1],
        )
        return jnp.sum((1 - data[:bins] / expected) * bent)

    rest = curved(shares.covariances)
    np.testing.assert_allclose(jnp.sum(shares.squares) + rest, shares.variance, rtol=1e-10)


def test_parts_are_those_of_pyhfs_fits_to_shifted_data():
    content = two_channels()
    theirs = pyhf.Workspace(content).model()
    data = np.asarray(theirs.expected_data(theirs.config.suggested_init()))
    model = HistFactory.from_workspace(content)
    _, shares = shares_of(model, jnp.asarray(data))
    bins = sum(model.bins)

    def fitted(place, by):
        shifted = data.copy()
        shifted[place] += by
        return pyhf.infer.mle.fit(shifted, theirs)[theirs.config.poi_index]

    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(strategy=0, tolerance=1e-6))
    try:
        for name in ("norm", "lumi", "tilt", "stat_sr"):
            place = int(np.flatnonzero(is_of_parameters(model, [name]))[-1])
            step = 0.1 * float(model.dense().width[place - bins])
            impact = (fitted(place, step) - fitted(place, -step)) / 0.2
            assert impact**2 == pytest.approx(float(shares.squares[place]), rel=5e-3), name
        for place in (1, 5):
            step = 0.2 * math.sqrt(data[place])
            impact = (fitted(place, step) - fitted(place, -step)) / 0.4
            assert impact**2 == pytest.approx(float(shares.squares[place]), rel=5e-3), place
    finally:
        pyhf.set_backend("numpy")


def test_the_breakdown_of_groups_and_systematics():
    content = two_channels()
    model = HistFactory.from_workspace(content)
    found = breakdown(model, GROUPS)
    parts = found.groups
    assert math.fsum(own.impact**2 for own in parts.values()) == pytest.approx(found.total**2, rel=1e-10)
    assert next(iter(parts)) == "data_statistics"
    sizes = [max(own.impact, own.traditional) for name, own in parts.items() if name != "data_statistics"]
    assert sizes == sorted(sizes, reverse=True)
    both = [found.systematics[name].impact for name in ("tilt", "norm")]
    assert math.hypot(*both) == pytest.approx(parts["background"].impact, rel=1e-12)
    assert parts["lumi"].impact == pytest.approx(abs(found.systematics["lumi"].impact), rel=1e-12)
    refits = {own.label: (own.up, own.down) for own in impacts(content, {"tilt": 1.0, "norm": 1.0})}
    for name, shifts in refits.items():
        assert (found.systematics[name].up, found.systematics[name].down) == pytest.approx(shifts, rel=1e-9)
        assert found.systematics[name].impact * found.systematics[name].up > 0


def test_traditional_impacts_of_groups_are_those_of_fits_with_fixed_parameters():
    model = HistFactory.from_workspace(two_channels())
    found = breakdown(model, GROUPS, known=[])
    variance = eqx.filter_jit(lambda d, f: fit_with_covariance(model, d, [model.poi_index], fixed=f))
    for group, own in GROUPS.items():
        members = [name for names in GROUPS.values() for name in names] if group == "data_statistics" else own
        held = np.array([name.partition("[")[0] in members for name in model.parameter_names])
        assert held.sum() == {"data_statistics": 9, "mc_statistics": 6, "background": 2, "lumi": 1}[group]
        result, covariance = variance(model.data(), jnp.asarray(held))
        assert result.converged
        left = float(covariance[0, 0])
        expected = left if group == "data_statistics" else found.total**2 - left
        assert found.groups[group].traditional ** 2 == pytest.approx(expected, rel=1e-8)


def test_a_free_parameter_has_no_part_but_a_traditional_one():
    model = HistFactory.from_workspace(with_counts())
    groups = {"data_statistics": (), "own": ("own",), "norm": ("norm",), "free": ("free",)}
    found = breakdown(model, groups, known=[])
    assert found.groups["free"].impact is None
    assert found.groups["free"].traditional > 0
    squares = [own.impact**2 for own in found.groups.values() if own.impact is not None]
    assert math.fsum(squares) == pytest.approx(found.total**2, rel=1e-10)


def test_the_breakdown_of_another_parameter():
    model = HistFactory.from_workspace(with_counts())
    groups = {"data_statistics": (), "own": ("own",), "norm": ("norm",), "mu": ("mu",)}
    found = breakdown(model, groups, parameter="free")
    _, shares = SHARES(model, model.data(), combination(model, {"free": 1.0}, "test"))
    assert found.total**2 == pytest.approx(float(shares.variance), rel=1e-9)
    squares = [own.impact**2 for own in found.groups.values() if own.impact is not None]
    assert math.fsum(squares) == pytest.approx(found.total**2, rel=1e-10)
    assert found.systematics["norm"].up < 0  # a larger normalisation leaves less to the other sample


def test_a_switched_off_constraint_has_no_part():
    model = HistFactory.from_workspace(two_channels(), constraint_widths={"norm": None, "tilt": 0.5})
    found = breakdown(model, {**GROUPS, "background": ("tilt",), "norm": ("norm",)})
    assert found.groups["norm"].impact is None
    assert "norm" not in found.systematics
    squares = [own.impact**2 for own in found.groups.values() if own.impact is not None]
    assert math.fsum(squares) == pytest.approx(found.total**2, rel=1e-10)
