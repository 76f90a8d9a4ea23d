"""What leptons and jets share: pairs of neighbours, resolutions, the order of a collection."""

import dataclasses
from collections.abc import Mapping

import awkward as ak
import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from pipeline.simulate.pythia.generator import Particles


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolution:
    """sigma(pt) / pt = noise / pt (+) stochastic / sqrt(pt) (+) constant (+) curvature pt.

    (+) adds in quadrature; momenta in GeV.
    """

    noise: float = 0.0
    stochastic: float = 0.0
    constant: float = 0.0
    curvature: float = 0.0

    def relative(self, pt: Float64[np.ndarray, " objects"]) -> Float64[np.ndarray, " objects"]:
        """Return sigma(pt) / pt."""
        square = (
            (self.noise / pt) ** 2 + self.stochastic**2 / pt + self.constant**2 + (self.curvature * pt) ** 2
        )
        return np.sqrt(square)

    def factors(
        self, pt: Float64[np.ndarray, " objects"], rng: np.random.Generator
    ) -> Float64[np.ndarray, " objects"]:
        """Return measured over true pt, log-normal with mean 1: exp(s z - s^2 / 2), s = sigma(pt) / pt."""
        sigma = self.relative(pt)
        return np.exp(sigma * rng.standard_normal(len(pt)) - sigma**2 / 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    """Every object with every particle of its event; indices and distance dR = sqrt(d eta^2 + d phi^2)."""

    object: Int64[np.ndarray, " pairs"]
    particle: Int64[np.ndarray, " pairs"]
    distance: Float64[np.ndarray, " pairs"]

    def sums(
        self, values: Float64[np.ndarray, " particles"], *, where: Bool[np.ndarray, " pairs"], objects: int
    ) -> Float64[np.ndarray, " objects"]:
        """Return the sum of the particles' values over the pairs chosen, for each object."""
        weights = values[self.particle[where]]
        return np.bincount(self.object[where], weights=weights, minlength=objects).astype(np.float64)


def pairs(
    event: Int64[np.ndarray, " objects"],
    eta: Float64[np.ndarray, " objects"],
    phi: Float64[np.ndarray, " objects"],
    particles: Particles,
) -> Pairs:
    """Return all (object, particle) combinations within the same event."""
    begins, counts = particles.offsets[event], np.diff(particles.offsets)[event]
    which = np.repeat(np.arange(len(event)), counts)
    first_pair = np.repeat(np.cumsum(counts) - counts, counts)
    other = np.arange(counts.sum()) - first_pair + begins[which]
    delta_phi = np.remainder(phi[which] - particles.phi[other] + np.pi, 2 * np.pi) - np.pi
    return Pairs(
        object=which, particle=other, distance=np.hypot(eta[which] - particles.eta[other], delta_phi)
    )


def wrap(phi: Float64[np.ndarray, " objects"]) -> Float64[np.ndarray, " objects"]:
    """Return azimuth brought back to [-pi, pi)."""
    return np.remainder(phi + np.pi, 2 * np.pi) - np.pi


def collection(
    event: Int64[np.ndarray, " objects"],
    columns: Mapping[str, Shaped[np.ndarray, " objects"]],
    *,
    events: int,
) -> ak.Array:
    """Return objects as one record array per event, hardest first; floats in the single precision of NanoAOD."""
    order = np.lexsort((-columns["pt"], event))
    narrow = {
        name: column.astype(np.float32) if column.dtype == np.float64 else column
        for name, column in columns.items()
    }
    counts = np.bincount(event, minlength=events)
    return ak.zip({name: ak.unflatten(column[order], counts) for name, column in narrow.items()})
