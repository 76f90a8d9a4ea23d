"""Radii of the layers of a silicon tracker in 2 T: impact parameter against momentum against the price; a toy.

Tracks are transported through the layers of the design, deflected and measured there, and fitted: residuals to the
undisturbed track by generalised least squares, with the Jacobians of the transport from automatic differentiation and
the covariance of the deflections. docs/tracker.md.
"""

from collections.abc import Mapping

import awkward as ak
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analyses.scattering import highland
from pipeline.analyses.transport import TrackState, to_cylinder, turned
from pipeline.analysis import Analysis, FlatTree, Free, Made
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

TESLA = 2.0
RESOLUTION = 10e-6  # m, along the circumference
LENGTHS = 0.02  # radiation lengths of a layer, for a track at right angles
RANGES = ((0.025, 0.05), (0.05, 0.12), (0.12, 0.25), (0.25, 0.5), (0.5, 1.0))  # m, of the radii
LAYERS = len(RANGES)
AREA, OCCUPANCY = (
    5.0,
    1e-3,
)  # 1/m^2, m^2: price of silicon, and of the channels that a high density of tracks needs
RANDOM = tuple(f"{kind}_{layer}" for kind in ("kick", "noise") for layer in range(LAYERS))


def tracks(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return tracks from the origin, with transverse momenta of 0.7 to 50 GeV.

    The logarithm of the transverse momentum is uniform; the pseudorapidity is up to 1.
    """
    del sample
    low, high = np.log(0.7), np.log(50.0)
    normal = rng.standard_normal((len(RANDOM), number))
    return {
        "pt": np.exp(rng.uniform(low, high, number)),
        "eta": rng.uniform(-1.0, 1.0, number),
        "charge": rng.choice([-1.0, 1.0], number),
        **dict(zip(RANDOM, normal, strict=True)),
    }


def field(position: Float[Array, "3"]) -> Float[Array, "3"]:
    """Return the field, along z everywhere."""
    return jnp.asarray([0.0, 0.0, TESLA], dtype=position.dtype)


def hits(
    track: Float[Array, "3"],
    eta: Float[Array, ""],
    kicks: Float[Array, " layers"],
    radii: Float[Array, " layers"],
) -> Float[Array, " layers"]:
    """Return positions [m] along the circumference of the layers.

    Args:
        track: impact parameter [m], azimuth [rad], charge over transverse momentum [1/GeV].
        kicks: change of the azimuth at each layer.
    """
    impact, azimuth, bend = track
    cosine, sine = jnp.cos(azimuth), jnp.sin(azimuth)
    steepness = jnp.cosh(eta)
    direction = jnp.stack([cosine, sine, jnp.sinh(eta)]) / steepness
    position = jnp.stack([-impact * sine, impact * cosine, jnp.zeros_like(impact)])

    def through(state: TrackState, layer: tuple[Array, Array]) -> tuple[TrackState, Array]:
        radius, kick = layer
        there = to_cylinder(state, radius, field)
        return turned(there, kick), radius * jnp.arctan2(there.position[1], there.position[0])

    found: Array = jax.lax.scan(through, TrackState(position, direction, bend / steepness), (radii, kicks))[1]
    return found


def fitted(
    truth: Float[Array, "3"],
    eta: Float[Array, ""],
    width: Float[Array, ""],
    radii: Float[Array, " layers"],
    kick: Float[Array, " layers"],
    noise: Float[Array, " layers"],
) -> tuple[Float[Array, "3"], Float[Array, "3 3"]]:
    """Return errors of the fitted track parameters, and their covariance as the fit has it."""
    none = jnp.zeros_like(radii)
    by_track = jax.jacfwd(hits)(truth, eta, none, radii)
    by_kick = jax.jacfwd(hits, argnums=2)(truth, eta, none, radii)
    residual = hits(truth, eta, width * kick, radii) + RESOLUTION * noise - hits(truth, eta, none, radii)
    errors = RESOLUTION**2 * jnp.eye(LAYERS, dtype=radii.dtype) + width**2 * by_kick @ by_kick.T
    unit = jnp.asarray(
        [RESOLUTION, 1e-3, 1e-3], dtype=radii.dtype
    )  # so that the matrices are of the order of one
    factor = jnp.linalg.cholesky(errors / RESOLUTION**2)
    whitened = jax.scipy.linalg.solve_triangular(factor, by_track * unit[None] / RESOLUTION, lower=True)
    seen = jax.scipy.linalg.solve_triangular(factor, residual / RESOLUTION, lower=True)
    covariance = jnp.linalg.inv(whitened.T @ whitened)
    return unit * (covariance @ (whitened.T @ seen)), unit[:, None] * unit[None] * covariance


class Tracker(Analysis):
    """Sums over tracks of the logarithms of two variances, and of the squared pulls that say whether they are right."""

    merit_label, merit_unit = "mean logarithm of the resolutions, and cost", ""
    reads = FlatTree(tree="Events", branches=("pt", "eta", "charge", *RANDOM), event="event")
    parameters: Mapping[str, Free] = {
        f"radius_{layer}": Free((low + high) / 2, bounds=(low, high), unit="m")
        for layer, (low, high) in enumerate(RANGES)
    }

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every track; the azimuth is 0 for all, as the tracker is round."""
        del dataset
        pt, eta = np.asarray(events.pt), np.asarray(events.eta)
        kinds = {
            kind: np.stack([getattr(events, f"{kind}_{layer}") for layer in range(LAYERS)], axis=1)
            for kind in ("kick", "noise")
        }
        momentum = pt * np.cosh(eta)
        width = highland(LENGTHS * np.cosh(eta), momentum) * np.cosh(eta)  # of the azimuth
        return {"weight": np.ones(len(pt)), "eta": eta, "bend": events.charge / pt, "width": width, **kinds}

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return the resolutions of impact parameter and momentum that the fit of each track has."""
        del relax
        c = c.widened()
        radii = jnp.stack([p.arrays[f"radius_{layer}"] for layer in range(LAYERS)])
        none = jnp.zeros_like(c.bend)
        truth = jnp.stack([none, none, c.bend], axis=1)
        error, covariance = jax.vmap(fitted, in_axes=(0, 0, 0, None, 0, 0))(
            truth, c.eta, c.width, radii, c.kick, c.noise
        )
        variance = jnp.diagonal(covariance, axis1=1, axis2=2)
        of = {"impact": 0, "momentum": 2}
        return {
            "tracks": Observation(weight=c.weight),
            **{f"log_{n}": Observation(weight=c.weight * jnp.log(variance[:, i])) for n, i in of.items()},
            **{
                f"pull_{n}": Observation(weight=c.weight * error[:, i] ** 2 / variance[:, i])
                for n, i in of.items()
            },
        }

    def merit(self, p: Parameters, sums: Mapping[str, Array]) -> Array:
        """Return the mean logarithm of two resolutions, plus a price.

        The logarithms are ln(sigma of the impact parameter / m) and ln(sigma of q/pT * GeV). The price is
        chosen so that not every layer ends at a bound (docs/tracker.md).
        """
        both = sums["log_impact"].sum() + sums["log_momentum"].sum()
        radii = jnp.stack([p.arrays[f"radius_{layer}"] for layer in range(LAYERS)])
        price = jnp.mean(AREA * radii**2 + OCCUPANCY / radii**2)
        return both / sums["tracks"].sum() / 4 + price
