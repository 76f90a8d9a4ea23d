"""Transport of charged particles and the tracker made of it: helices, Jacobians, pulls, derivatives of a design."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pipeline.analyses import tracker
from pipeline.analyses.scattering import highland
from pipeline.analyses.transport import TURNING, TrackState, advance, to_cylinder, turned

RADII = np.array([0.0375, 0.09, 0.19, 0.4, 0.775])


def state(pt, eta=0.3, azimuth=0.4, charge=1.0):
    direction = jnp.array([math.cos(azimuth), math.sin(azimuth), math.sinh(eta)]) / math.cosh(eta)
    return TrackState(jnp.array([0.01, -0.02, 0.03]), direction, jnp.asarray(charge / (pt * math.cosh(eta))))


def flat(found):
    return jnp.concatenate([found.position, found.direction])


def helix(start, length):
    """Position and direction behind a length in 2 T along z, in closed form."""
    x, y, z = start.position
    u, v, w = start.direction
    rate = -TURNING * float(start.charge_over_momentum) * tracker.TESLA  # d azimuth / d length
    angle = rate * length
    turn = (
        np.array([[math.sin(angle), -(1 - math.cos(angle))], [1 - math.cos(angle), math.sin(angle)]]) / rate
    )
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.concatenate([np.array([x, y]) + turn @ [u, v], [z + length * w], rotation @ [u, v], [w]])


@pytest.mark.parametrize("charge", [1.0, -1.0])
def test_a_step_is_a_helix(charge):
    start = state(1.0, charge=charge)
    np.testing.assert_allclose(
        flat(advance(start, jnp.asarray(0.1), tracker.field)), helix(start, 0.1), atol=1e-8
    )
    error = [
        np.abs(flat(advance(start, jnp.asarray(s), tracker.field)) - helix(start, s)).max()
        for s in (0.4, 0.2)
    ]
    assert 20 < error[0] / error[1] < 45  # fifth order in one step


def test_a_step_in_a_field_that_changes():
    """Against a solver of SciPy, in a field that falls with z and has a radial part."""

    def field(position):
        x, y, z = position
        return jnp.stack([0.2 * x * z, 0.2 * y * z, 2.0 - 0.2 * z**2])

    def slope(_, y):
        bend = (
            TURNING
            * float(start.charge_over_momentum)
            * np.cross(y[3:], np.asarray(field(jnp.asarray(y[:3]))))
        )
        return np.concatenate([y[3:], bend])

    start = state(1.0, eta=1.0)
    found = start
    for _ in range(20):
        found = advance(found, jnp.asarray(0.05), field)
    expected = solve_ivp(slope, (0, 1), np.asarray(flat(start)), rtol=1e-11, atol=1e-13).y[:, -1]
    np.testing.assert_allclose(flat(found), expected, atol=1e-8)


def test_the_jacobian_of_the_transport_is_that_of_central_differences():
    """At 1 GeV in 2 T, along the step and onto a cylinder, to 1e-6 of each column's largest element."""

    def moved(numbers, transport):
        return flat(transport(TrackState(numbers[:3], numbers[3:6], numbers[6])))

    start = state(1.0)
    numbers = jnp.concatenate([flat(start), start.charge_over_momentum[None]])
    for transport in (
        lambda s: advance(s, jnp.asarray(0.2), tracker.field),
        lambda s: to_cylinder(s, jnp.asarray(0.3), tracker.field),
    ):
        jacobian = jax.jacfwd(moved)(numbers, transport)
        h = 1e-5
        steps = h * jnp.eye(7)
        near, far = (
            jnp.stack(
                [(moved(numbers + k * s, transport) - moved(numbers - k * s, transport)) for s in steps], 1
            )
            for k in (1, 2)
        )
        central = (8 * near - far) / (12 * h)
        largest = jnp.abs(jacobian).max(axis=0)
        assert jnp.max(jnp.abs(jacobian - central) / largest[None]) < 1e-6


def test_it_is_on_the_cylinder():
    found = to_cylinder(state(0.7), jnp.asarray(0.9), tracker.field)
    np.testing.assert_allclose(jnp.hypot(*found.position[:2]), 0.9, rtol=1e-12)
    straight = turned(found, jnp.asarray(0.1))
    np.testing.assert_allclose(
        straight.direction[:2] @ found.direction[:2], math.cos(0.1) * jnp.sum(found.direction[:2] ** 2)
    )


def fit_of(number):
    """Errors and covariances of the fits of so many tracks as a function of the radii; transverse momenta."""
    branches = tracker.tracks("tracks", number, np.random.default_rng(5))
    pt, eta = branches["pt"], branches["eta"]
    width = highland(tracker.LENGTHS * np.cosh(eta), pt * np.cosh(eta)) * np.cosh(eta)
    kick, noise = (
        np.stack([branches[f"{kind}_{layer}"] for layer in range(tracker.LAYERS)], axis=1)
        for kind in ("kick", "noise")
    )
    truth = np.stack([np.zeros_like(pt), np.zeros_like(pt), branches["charge"] / pt], axis=1)
    over_tracks = jax.vmap(tracker.fitted, in_axes=(0, 0, 0, None, 0, 0))
    return jax.jit(lambda radii: over_tracks(truth, eta, width, radii, kick, noise)), pt


def test_pulls_have_width_one():
    """Of impact parameter, azimuth and momentum, for soft tracks that scatter and hard ones that do not."""
    fit, pt = fit_of(100_000)
    error, covariance = fit(jnp.asarray(RADII))
    pulls = error / jnp.sqrt(jnp.diagonal(covariance, axis1=1, axis2=2))
    np.testing.assert_allclose(jnp.std(pulls, axis=0), 1.0, atol=0.02)
    np.testing.assert_allclose(jnp.mean(pulls, axis=0), 0.0, atol=0.02)
    for slow in (pt < 2, pt > 15):
        np.testing.assert_allclose(jnp.std(pulls[slow], axis=0), 1.0, atol=0.03)


def test_a_resolution_s_derivative_with_respect_to_a_radius():
    fit, _ = fit_of(1000)

    @jax.jit
    def impact(radii):
        return jnp.mean(jnp.sqrt(fit(radii)[1][:, 0, 0]))

    slope = jax.jacfwd(impact)(jnp.asarray(RADII))
    for layer in range(tracker.LAYERS):
        h = 1e-3 * RADII[layer] * np.eye(tracker.LAYERS)[layer]
        near, far = (
            float(impact(jnp.asarray(RADII + k * h)) - impact(jnp.asarray(RADII - k * h))) for k in (1, 2)
        )
        np.testing.assert_allclose(slope[layer], (8 * near - far) / (12 * h[layer]), rtol=1e-4)
