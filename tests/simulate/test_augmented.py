"""Joint ratio and score: by finite differences, by hand, and averaged over latent variables against the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.simulate.augmented import joint

SPREAD = 0.7  # of what is measured around the latent variable


def chain(theta, latents):
    """Two normal steps: z ~ N(theta_0, exp(theta_1)), x ~ N(z, SPREAD); x is N(theta_0, exp(2 theta_1) + SPREAD^2)."""
    z, x = latents
    return -0.5 * ((z - theta[0]) * jnp.exp(-theta[1])) ** 2 - theta[1] - 0.5 * ((x - z) / SPREAD) ** 2


def drawn(theta, number, seed=1):
    """Latent variables of so many events."""
    rng = np.random.default_rng(seed)
    z = rng.normal(theta[0], np.exp(theta[1]), number)
    return z, rng.normal(z, SPREAD)


def test_ratio_and_score_are_those_by_hand_and_by_finite_differences():
    at, reference = np.asarray([[0.3, -0.2], [-0.5, 0.4]] * 3), np.asarray([0.1, 0.0])
    latents = drawn(reference, len(at))
    found = joint(chain, latents, at, reference)
    step, steps = 1e-6, 1e-6 * np.asarray([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    with jax.enable_x64(True):
        of_events = jax.jit(jax.vmap(jax.vmap(chain, (0, None))))
        moved = np.asarray(of_events(at[:, None] + steps[None], latents))
        at_reference = np.asarray(of_events(np.broadcast_to(reference, (len(at), 1, 2)), latents))
    np.testing.assert_allclose(found.log_ratio, moved[:, 0] - at_reference[:, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        found.score, (moved[:, 1::2] - moved[:, 2::2]) / (2 * step), rtol=1e-7, atol=1e-8
    )
    assert found.score.dtype == np.float64
    one = joint(chain, latents, at[0], reference)
    np.testing.assert_array_equal(one.score[::2], found.score[::2])


def test_averages_over_the_latent_variable_are_ratio_and_score_of_what_is_measured():
    """Given x, z is normal; Gauss-Hermite quadrature over it is exact to rounding."""
    theta_0, theta_1 = np.asarray([0.3, -0.2]), np.asarray([0.1, 0.0])
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)

    def averages(theta, what, x):
        precision = np.exp(-2 * theta[1]) + SPREAD**-2
        mean = (theta[0] * np.exp(-2 * theta[1]) + x / SPREAD**2) / precision
        latents = mean + nodes / np.sqrt(precision), np.full(len(nodes), x)
        return weights @ what(joint(chain, latents, theta_0, theta_1)) / weights.sum()

    for x in (-1.0, 0.4, 2.0):
        variance = np.exp(2 * np.stack([theta_0[1], theta_1[1]])) + SPREAD**2
        pulls = (x - np.stack([theta_0[0], theta_1[0]])) ** 2 / variance
        log_density = -0.5 * (pulls + np.log(variance))
        ratio = averages(theta_1, lambda gold: np.exp(gold.log_ratio), x)
        np.testing.assert_allclose(ratio, np.exp(log_density[0] - log_density[1]), rtol=1e-9)
        wanted = [(x - theta_0[0]) / variance[0], (pulls[0] - 1) * np.exp(2 * theta_0[1]) / variance[0]]
        np.testing.assert_allclose(averages(theta_0, lambda gold: gold.score, x), wanted, rtol=1e-9)


def test_events_that_one_of_the_two_cannot_make_are_refused():
    def up_to(theta, z):
        return jnp.where(z < theta, -jnp.log(theta), -jnp.inf)

    z = np.asarray([0.1, 0.9, 1.7, 1.8])
    with pytest.raises(
        InputError, match=r"2 of 4 events are impossible at the reference theta_1 \(1\.0\).*event 2 is -inf"
    ):
        joint(up_to, z, 2.0, 1.0)
    with pytest.raises(InputError, match=r"1 of 2 events are impossible at theta_0 \(0\.5\)"):
        joint(up_to, z[:2], 0.5, 1.0)
    with pytest.raises(
        InputError, match="2 of 2 events have a derivative of log_probability by theta that is not finite"
    ):
        joint(lambda theta, z: jnp.where(theta > 0, z * jnp.sqrt(jnp.abs(theta)), 0.0), z[:2], 0.0, 1.0)
