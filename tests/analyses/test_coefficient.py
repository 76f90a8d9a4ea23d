"""Muon pairs with a contact interaction: the matrix element against closed forms, weights against the density."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.analyses import contact_interaction as physics
from pipeline.analyses.coefficient import Coefficient, events, pair, score
from pipeline.analysis.theory import components_of, weight_at, weight_fault
from pipeline.containers import Columns

NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)


@pytest.fixture(scope="module")
def columns():
    made = events("drell_yan", 400, np.random.default_rng(1))
    made["true_factor"] = np.exp(made.pop("true_rapidity"))
    return Columns({name: jnp.asarray(array) for name, array in made.items()})


@pytest.mark.parametrize("quark", ["u", "d"])
@pytest.mark.parametrize("coefficients", [{}, {"ll": 0.3, "lr": -0.1}, {"rr": -2.0, "rl": 0.7}])
def test_cross_section_and_asymmetry_are_the_closed_ones(quark, coefficients):
    for energy in (20.0, 91.19, 500.0, 2000.0):
        s = energy**2
        values = physics.partonic(s, NODES, physics.squares(quark, s, coefficients))
        total, difference = np.sum(WEIGHTS * values), 0.0
        for side in (1, -1):
            half = side * (NODES + 1) / 2
            own = physics.partonic(s, half, physics.squares(quark, s, coefficients))
            difference += side * np.sum(WEIGHTS / 2 * own)
        sigma, asymmetry = physics.closed_form(quark, s, coefficients)
        np.testing.assert_allclose(total, sigma, rtol=1e-12)
        np.testing.assert_allclose(difference / total, asymmetry, rtol=1e-10, atol=1e-12)


def test_far_below_the_z_it_is_the_photons_cross_section():
    """4 pi alpha^2 Q^2 / (9 s), a third of that of muons for the colours; no asymmetry."""
    sigma, asymmetry = physics.closed_form("u", 1.0, {})
    np.testing.assert_allclose(sigma, 4 * math.pi * physics.ALPHA**2 * (2 / 3) ** 2 / 9, rtol=1e-3)
    assert abs(asymmetry) < 1e-3


def test_valence_quarks_obey_their_sum_rules():
    x, step = np.linspace(0, 1, 400001)[1:-1], 1 / 400000
    for quark, number in (("u", 2), ("d", 1)):
        y = x**4  # the density diverges at 0
        np.testing.assert_allclose(np.sum(physics.VALENCE[quark](y) * 4 * x**3) * step, number, rtol=1e-6)


def test_derivatives_of_weights_are_those_of_finite_differences(columns):
    """Degree 2, so that central differences are exact: 1e-8, as are the products' components."""
    analysis, step = Coefficient(), 0.1
    parts = components_of(analysis, columns)

    def at(ll, lr):
        return np.asarray(weight_at(analysis, {"c_ll": ll, "c_lr": lr}, columns))

    one = at(0.0, 0.0)
    np.testing.assert_allclose(one, 1.0, rtol=1e-14)
    wanted = {
        ("c_ll",): (at(step, 0.0) - at(-step, 0.0)) / (2 * step),
        ("c_lr",): (at(0.0, step) - at(0.0, -step)) / (2 * step),
        ("c_ll", "c_ll"): (at(step, 0.0) + at(-step, 0.0) - 2 * one) / (2 * step**2),
        ("c_lr", "c_lr"): (at(0.0, step) + at(0.0, -step) - 2 * one) / (2 * step**2),
        ("c_ll", "c_lr"): (at(step, step) + at(-step, -step) - at(step, -step) - at(-step, step))
        / (4 * step**2),
    }
    assert set(parts) == set(wanted)
    for monomial, difference in wanted.items():
        size = np.abs(np.asarray(parts[monomial])).max()
        np.testing.assert_allclose(
            parts[monomial], difference, rtol=1e-8, atol=1e-9 * size + 1e-12, err_msg=str(monomial)
        )
    own = score(columns.true_mass, columns.true_factor, columns.true_cosine)
    np.testing.assert_allclose(parts["c_ll",], own, rtol=1e-10)
    assert weight_fault(analysis, columns.arrays) is None


def test_events_are_those_of_the_cross_section():
    """Weighted sums at several coefficients against quadrature, and the asymmetry against integrals of closed forms."""
    made = physics.sampled(40000, np.random.default_rng(2))
    kinematics = made["mass"], np.exp(made["rapidity"]), made["cosine"]
    total, nominal = physics.cross_section({}), physics.density(*kinematics, {})
    np.testing.assert_allclose(total, 1.419, rtol=1e-3)  # the number of config/coefficient.yaml
    for coefficients in ({}, {"ll": 0.1}, {"ll": -0.1, "lr": 0.05}):
        weights = made["weight"] * physics.density(*kinematics, coefficients) / nominal
        error = weights.std() / math.sqrt(weights.size)
        expected = physics.cross_section(coefficients, 100) / total
        assert abs(weights.mean() - expected) < 4 * error, (coefficients, weights.mean(), expected, error)
    for low, high in ((200, 250), (500, 600)):
        inside = (made["mass"] > low) & (made["mass"] < high)
        sign = np.sign(made["cosine"] * made["rapidity"])[inside]
        found, expected = np.average(sign, weights=made["weight"][inside]), _asymmetry(low, high)
        assert abs(found - expected) < 4 / math.sqrt(inside.sum()), (found, expected)


def _asymmetry(low, high):
    """That of the angle to the direction of the pair, by quadrature over the closed forms of the partons."""
    forward = total = 0.0
    for mass, of_mass in zip((NODES + 1) / 2 * (high - low) + low, WEIGHTS, strict=True):
        limit = float(physics.most_rapidity(mass))
        nodes, weights = np.polynomial.legendre.leggauss(60)
        rapidity = limit * (nodes + 1) / 2
        x = mass / physics.ENERGY * np.exp(rapidity), mass / physics.ENERGY * np.exp(-rapidity)
        for quark, valence in physics.VALENCE.items():
            sigma, asymmetry = physics.closed_form(quark, mass**2, {})
            along = (valence(x[0]) + physics.SEA(x[0])) * physics.SEA(x[1])
            against = physics.SEA(x[0]) * (valence(x[1]) + physics.SEA(x[1]))
            scale = of_mass * mass * limit * weights * sigma
            total += np.sum(scale * (along + against))
            forward += np.sum(scale * (along - against)) * asymmetry
    return forward / total


def test_the_detector_keeps_the_kinematics_on_average(columns):
    """Without smearing the measured mass, rapidity and angle are the true ones."""
    size = {name: jnp.exp(-getattr(columns, f"kick_{name}")) for name in ("plus", "minus")}
    exact = columns.replace(
        **{f"pt_{name}": columns.true_mass / 2 * jnp.sqrt(1 - columns.true_cosine**2) for name in size}
    )
    mass, factor, cosine = pair(exact)
    np.testing.assert_allclose(mass, columns.true_mass, rtol=1e-10)
    np.testing.assert_allclose(factor, columns.true_factor, rtol=1e-10)
    np.testing.assert_allclose(cosine, columns.true_cosine, atol=1e-9)
    assert 0.005 < float(jnp.std(pair(columns)[0] / columns.true_mass)) < 0.06


def test_it_is_differentiable_under_jit(columns):
    """The gradient of a sum of weights in the coefficients, traced, is the sum of the components."""
    analysis = Coefficient()

    def total(at):
        return jnp.sum(weight_at(analysis, {"c_ll": at[0], "c_lr": at[1]}, columns))

    slope = jax.jit(jax.grad(total))(jnp.zeros(2))
    parts = components_of(analysis, columns)
    np.testing.assert_allclose(slope, [parts["c_ll",].sum(), parts["c_lr",].sum()], rtol=1e-10)
