"""Where to put the planes of a tracker that measures the slope of tracks: N planes between two walls, as in MUonE.

Without scattering the slope is known best with half of the planes at either end: sqrt(3 (N - 1) / (N + 1)) times
better than with equal distances (R. Gluckstern, NIM 24 (1963) 381). With it the first planes deflect what the others
measure. MUonE has stations of six planes on a metre (arXiv:2201.13177). docs/planes.md.
"""

from collections.abc import Mapping

import awkward as ak
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analyses.scattering import highland
from pipeline.analysis import Analysis, FlatTree, Free, Made
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

LENGTH = 1.0  # m, between the walls
RESOLUTION = 20e-6  # m
MOMENTA = (1.0, 150.0)  # GeV; uniform in the logarithm, the electrons and muons of elastic scattering
PLANES = 6
NAMES = tuple(f"z_{plane}" for plane in range(PLANES))


def tracks(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return tracks in one projection, as momenta and random numbers.

    A track has two normal random numbers for each plane: of its deflection there and of its measurement.
    """
    del sample
    low, high = np.log(MOMENTA)
    normal = rng.standard_normal((2 * PLANES, number))
    return {
        "momentum": np.exp(rng.uniform(low, high, number)),
        **{f"kick_{plane}": normal[plane] for plane in range(PLANES)},
        **{f"noise_{plane}": normal[PLANES + plane] for plane in range(PLANES)},
    }


def covariance(z: Float[Array, " hits"], width: Float[Array, " events"]) -> Float[Array, "events hits hits"]:
    """Return the covariance [m^2] of the positions at the planes: measurement, and deflections by the planes before."""
    after = jnp.maximum(z[:, None] - z[None, :], 0.0)  # [measured, deflecting]
    measured = RESOLUTION**2 * jnp.eye(len(z), dtype=z.dtype)
    return measured[None] + width[:, None, None] ** 2 * (after @ after.T)[None]


def slope_weights(
    z: Float[Array, " hits"], width: Float[Array, " events"]
) -> tuple[Float[Array, "events hits"], Float[Array, " events"]]:
    """Return weights of the positions in the best estimate of the slope in front of the first plane; its variance."""
    design = jnp.stack([jnp.ones_like(z), z], axis=1)
    factor = jnp.linalg.cholesky(covariance(z, width))
    whitened = jax.vmap(lambda f: jax.scipy.linalg.solve_triangular(f, design, lower=True))(factor)
    inverse = jnp.linalg.inv(jnp.einsum("ehi,ehj->eij", whitened, whitened))
    solved = jax.vmap(lambda f, w: jax.scipy.linalg.solve_triangular(f.T, w, lower=False))(factor, whitened)
    return jnp.einsum("ej,ehj->eh", inverse[:, 1], solved), inverse[:, 1, 1]


class Planes(Analysis):
    """Sums of the logarithm of the slope's variance as the fit has it, of its pull squared, and of the tracks.

    The slope of every track is 0: the fit is linear, so another one has the same error.
    """

    merit_label, merit_unit = "uncertainty on the slope", "μrad"
    reads = FlatTree(
        tree="Events",
        branches=("momentum", *(f"{kind}_{plane}" for kind in ("kick", "noise") for plane in range(PLANES))),
        event="event",
    )
    parameters: Mapping[str, Free] = {
        name: Free(LENGTH * plane / (PLANES - 1), bounds=(0.0, LENGTH), unit="m")
        for plane, name in enumerate(NAMES)
    }

    def __init__(self, radiation_lengths: float = 0.0) -> None:
        self.radiation_lengths = radiation_lengths

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every track; the random numbers of all planes together."""
        del dataset
        kinds = {
            kind: np.stack([getattr(events, f"{kind}_{plane}") for plane in range(PLANES)], axis=1)
            for kind in ("kick", "noise")
        }
        width = highland(self.radiation_lengths, np.asarray(events.momentum))
        return {"weight": np.ones(len(width)), "width": width, **kinds}

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return positions at the planes, the slope fitted to them, and how far it is off."""
        del relax
        c = c.widened()
        z = jnp.stack([p.arrays[name] for name in NAMES])
        after = jnp.maximum(z[:, None] - z[None, :], 0.0)
        positions = RESOLUTION * c.noise + c.width[:, None] * (c.kick @ after.T)
        weights, variance = slope_weights(z, c.width)
        error = jnp.sum(weights * positions, axis=1)
        return {
            "logarithms": Observation(weight=c.weight * jnp.log(variance)),
            "pulls": Observation(weight=c.weight * error**2 / variance),
            "tracks": Observation(weight=c.weight),
        }

    def merit(self, p: Parameters, sums: Mapping[str, Array]) -> Array:
        """Return the geometric mean of the uncertainty, in microradians; ``pulls`` are there to check it by."""
        del p
        return 1e6 * jnp.exp(sums["logarithms"].sum() / sums["tracks"].sum() / 2)
