"""Multiple scattering of a charged particle, and straight tracks through planes that measure them."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SCALE, LOGARITHM = 0.0136, 0.038  # GeV; PDG, Passage of particles through matter, eq. 34.16 (2024)


def highland(lengths: np.ndarray | float, momentum: np.ndarray | float) -> np.ndarray:
    """Width [rad] of the angle projected on a plane, behind so many radiation lengths; momentum in GeV, beta 1.

    0 where there is no matter; not below 0, where the formula's logarithm leaves its range at 4e-12 lengths.
    """
    there = np.asarray(lengths) > 0
    safe = np.where(there, lengths, 1.0)
    width = SCALE / momentum * np.sqrt(safe) * np.maximum(1.0 + LOGARITHM * np.log(safe), 0.0)
    return np.where(there, width, 0.0)


def weighted_line(
    z: Float[Array, "*batch hits"], x: Float[Array, "*batch hits"], weight: Float[Array, "*batch hits"]
) -> tuple[Float[Array, " *batch"], ...]:
    """The line x = a + b z of least weighted squares: mean of z, x there, b; and variances of the latter two.

    The two are not correlated; variances are those of hits with variance 1 / weight. With one hit nothing is finite.
    """
    total = jnp.sum(weight, axis=-1)
    centre = jnp.sum(weight * z, axis=-1) / total
    mean = jnp.sum(weight * x, axis=-1) / total
    lever = z - centre[..., None]
    square = jnp.sum(weight * lever**2, axis=-1)
    slope = jnp.sum(weight * lever * x, axis=-1) / square
    return centre, mean, slope, 1.0 / total, 1.0 / square
