"""Decays of taus along their line of flight, by their polarisation.

B. K. Bullock, K. Hagiwara, A. D. Martin, Nucl. Phys. B 395 (1993) 499. With x the visible share of the momentum and P
the polarisation, 1 where a pion is hard:

    l nu nu   f(x) = [5 - 9 x^2 + 4 x^3 + P (1 - 9 x^2 + 8 x^3)] / 3
    h nu      f(c) = (1 + a P c) / 2,  x = (1 + r + (1 - r) c) / 2,  r = m_h^2 / m_tau^2

with a = 1 for a pion and (1 - 2 r) / (1 + 2 r) for the vector mesons rho and a_1, taken as narrow.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from pipeline.simulate.pythia.generator import EventRecord

TAU, Z_BOSON, W_BOSON, HIGGS = 15, 23, 24, 25
TAU_MASS = 1.77686  # GeV
MESON_MASSES = (0.13957, 0.77526, 1.230)  # GeV: pi, rho, a_1
TO_LEPTONS = 0.3521
MESON_SHARES = (0.178, 0.393, 0.429)  # of the hadronic decays; those to other hadrons are taken as a_1
MEAN_POLARISATION = -0.147  # of taus from Z bosons
GRID = np.linspace(0.0, 1.0, 1001)


def polarisations(
    record: EventRecord,
    rows: Int64[np.ndarray, "events objects"],
    pdg: Int64[np.ndarray, "events objects"],
    rng: np.random.Generator,
) -> Float64[np.ndarray, "events objects"]:
    """Return a polarisation, 1 or -1, of each tau.

    Those of a Z boson have the same, those of a Higgs boson opposite ones; of a W boson it is -1.
    """
    row = rows.copy()
    while True:
        moved = np.where(np.abs(record.pdg[row]) == TAU, record.mother[row], row)
        if np.array_equal(moved, row):
            break
        row = moved
    boson = np.abs(record.pdg[row])
    of_z = np.where(rng.random((len(rows), 1)) < (1 + MEAN_POLARISATION) / 2, 1.0, -1.0)
    of_higgs = np.sign(rng.random((len(rows), 1)) - 0.5) * np.sign(pdg)
    return np.where(boson == W_BOSON, -1.0, np.where(boson == HIGGS, of_higgs, of_z))


def decayed(
    is_tau: Bool[np.ndarray, "events objects"],
    polarisation: Float64[np.ndarray, "events objects"],
    rng: np.random.Generator,
) -> tuple[Bool[np.ndarray, "events objects"], Float64[np.ndarray, "events objects"]]:
    """Return which leptons are hadronic taus, and the visible share of each: 1 of what is no tau."""
    hadronic = is_tau & (rng.random(is_tau.shape) >= TO_LEPTONS)
    leptonic = _leptonic(polarisation, rng)
    return hadronic, np.where(hadronic, _hadronic(polarisation, rng), np.where(is_tau, leptonic, 1.0))


def _leptonic(
    polarisation: Float64[np.ndarray, "events objects"], rng: np.random.Generator
) -> Float64[np.ndarray, "events objects"]:
    """Return shares drawn by inverting the cumulated distributions."""
    drawn = rng.random(polarisation.shape)
    right = np.interp(drawn, 2 * GRID - 2 * GRID**3 + GRID**4, GRID)
    left = np.interp(drawn, (4 * GRID - GRID**4) / 3, GRID)
    return np.where(polarisation > 0, right, left)


def _hadronic(
    polarisation: Float64[np.ndarray, "events objects"], rng: np.random.Generator
) -> Float64[np.ndarray, "events objects"]:
    """Return shares: of the cosine, a flat one changes its sign as often as the slope asks for."""
    ratio = (np.asarray(MESON_MASSES) / TAU_MASS) ** 2
    slope = (1 - 2 * ratio) / (1 + 2 * ratio)
    slope[0] = 1.0
    meson = rng.choice(len(ratio), size=polarisation.shape, p=MESON_SHARES)
    cosine = rng.uniform(-1.0, 1.0, polarisation.shape)
    kept = rng.random(polarisation.shape) < (1 + slope[meson] * polarisation * cosine) / 2
    cosine = np.where(kept, cosine, -cosine)
    return np.asarray((1 + ratio[meson] + (1 - ratio[meson]) * cosine) / 2)
