"""Quark and antiquark to a pair of muons by photon, Z and a contact interaction, at leading order; pp at 13 TeV.

The amplitude of a quark of chirality i and a muon of chirality j, all massless, at the squared energy s:

    A_ij(s) = e^2 Q_q Q_mu / s + g_i^q g_j^mu / (s - M_Z^2 + i M_Z Gamma_Z) + C_ij
    d sigma / d cos = s / (384 pi) sum_ij |A_ij|^2 (1 +- cos)^2        + for i = j, - for i != j

with cos that of the muon's angle to the quark, averaged over spins and colours, and ``L = C_ij (q_i gamma q_i)
(mu_j gamma mu_j)`` for both quarks (E. Eichten, K. Lane, M. Peskin, PRL 50 (1983) 811; R. K. Ellis, W. J. Stirling,
B. R. Webber, "QCD and Collider Physics", for photon and Z). Parton densities are a toy: x^a (1 - x)^b with the sum
rules of the valence quarks, no evolution, up and down only. Functions are of plain arithmetic: they take NumPy's arrays
and JAX's alike.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

ENERGY = 13000.0  # GeV, of both protons
LOW, HIGH = 200.0, 3000.0  # GeV, of the pair's mass
PB = 0.3893794e9  # pb GeV^2
ALPHA, SINE2 = 1 / 128.0, 0.2312
MASS, WIDTH = 91.19, 2.495  # GeV, of the Z
E2 = 4 * math.pi * ALPHA
MUON = (-1.0, -0.5)  # charge and weak isospin
QUARKS = {"u": (2 / 3, 0.5), "d": (-1 / 3, -0.5)}
CHIRALITIES = ("ll", "lr", "rl", "rr")  # of the quark, of the muon
TEV2 = 1e-6  # GeV^-2, of a coefficient of 1 / TeV^2
STEEPNESS = 3.0  # events are made with the density of masses m^-3, so that the tail has many


class Shape(NamedTuple):
    """x f(x) = size x^power (1 - x)^fall."""

    size: float
    power: float
    fall: float

    def __call__(self, x: Any) -> Any:
        """Return f(x)."""
        return self.size * x ** (self.power - 1.0) * (1.0 - x) ** self.fall


def _valence(number: float, power: float, fall: float) -> Shape:
    beta = math.gamma(power) * math.gamma(fall + 1) / math.gamma(power + fall + 1)
    return Shape(number / beta, power, fall)


VALENCE = {"u": _valence(2.0, 0.7, 3.0), "d": _valence(1.0, 0.7, 4.0)}
SEA = Shape(0.15, -0.2, 7.0)  # of each quark and antiquark


def couplings(charge: float, isospin: float) -> tuple[float, float]:
    """Return the couplings to the Z of both chiralities."""
    unit = math.sqrt(E2 / (SINE2 * (1 - SINE2)))
    return unit * (isospin - charge * SINE2), -unit * charge * SINE2


def squares(quark: str, s: Any, coefficients: Mapping[str, Any]) -> dict[str, Any]:
    """Return |A_ij|^2 [1/GeV^4] at the squared energy s [GeV^2], by chiralities.

    Args:
        quark: ``u`` or ``d``.
        coefficients: C_ij [1/TeV^2], those that are not 0.
    """
    resonance = (s - MASS**2) ** 2 + (MASS * WIDTH) ** 2
    real, imaginary = (s - MASS**2) / resonance, -MASS * WIDTH / resonance
    of_quark, of_muon = (couplings(*kind) for kind in (QUARKS[quark], MUON))
    found = {}
    for i, one in enumerate("lr"):
        for j, other in enumerate("lr"):
            product = of_quark[i] * of_muon[j]
            photon = E2 * QUARKS[quark][0] * MUON[0] / s
            contact = TEV2 * coefficients.get(one + other, 0.0)
            found[one + other] = (photon + product * real + contact) ** 2 + (product * imaginary) ** 2
    return found


def interference(quark: str, s: Any, chiralities: str) -> dict[str, Any]:
    """Return the derivative of ``squares`` in one coefficient, where all are 0."""
    (i, j), resonance = ("lr".index(c) for c in chiralities), (s - MASS**2) ** 2 + (MASS * WIDTH) ** 2
    product = couplings(*QUARKS[quark])[i] * couplings(*MUON)[j]
    real = E2 * QUARKS[quark][0] * MUON[0] / s + product * (s - MASS**2) / resonance
    return {chiralities: 2 * TEV2 * real}


def partonic(s: Any, cosine: Any, own: Mapping[str, Any]) -> Any:
    """Return d sigma / d cos [1/GeV^2] of ``squares``, ``cosine`` that of the muon's angle to the quark."""
    forward, backward = (own.get(a, 0.0) + own.get(b, 0.0) for a, b in (("ll", "rr"), ("lr", "rl")))
    return s / (384 * math.pi) * (forward * (1 + cosine) ** 2 + backward * (1 - cosine) ** 2)


def closed_form(quark: str, s: float, coefficients: Mapping[str, float]) -> tuple[float, float]:
    """Return cross-section [1/GeV^2] and forward-backward asymmetry, integrated over the angle.

    ``s / (144 pi) sum_ij |A_ij|^2`` and ``3/4 (LL + RR - LR - RL) / sum``.
    """
    own = squares(quark, s, coefficients)
    total = sum(own.values())
    return s / (144 * math.pi) * total, 0.75 * (own["ll"] + own["rr"] - own["lr"] - own["rl"]) / total


def density(
    mass: Any,
    rapidity_factor: Any,
    cosine: Any,
    coefficients: Mapping[str, Any],
    *,
    sea: Shape = SEA,
    slope: str | None = None,
) -> Any:
    """Return d sigma / (d mass d rapidity d cos) [pb/GeV] of protons.

    Args:
        mass: of the pair [GeV].
        rapidity_factor: exp of the pair's rapidity.
        cosine: of the angle of the negative muon to the first proton, in the pair's rest frame.
        coefficients: see ``squares``.
        sea: density of each quark and antiquark of the sea.
        slope: chiralities of a coefficient whose derivative is returned instead, where all are 0.
    """
    s = mass * mass
    first, second = mass / ENERGY * rapidity_factor, mass / ENERGY / rapidity_factor
    seas = sea(first), sea(second)
    found = 0.0
    for quark, valence in VALENCE.items():
        own = squares(quark, s, coefficients) if slope is None else interference(quark, s, slope)
        along, against = (valence(first) + seas[0]) * seas[1], seas[0] * (valence(second) + seas[1])
        found = found + along * partonic(s, cosine, own) + against * partonic(s, -cosine, own)
    return PB * 2 * mass / ENERGY**2 * found


def most_rapidity(mass: Any) -> Any:
    """Return the largest rapidity of a pair of this mass."""
    return np.log(ENERGY / mass)


def cross_section(coefficients: Mapping[str, float], points: int = 200) -> float:
    """Return the cross-section [pb] of the range of masses, by Gauss and Legendre's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    logarithm = np.log(LOW) + (nodes + 1) / 2 * np.log(HIGH / LOW)
    mass = np.exp(logarithm)
    limit = most_rapidity(mass)
    factor = np.exp(limit[:, None] * nodes[None] * (1 - 1e-12))
    total = 0.0
    for cosine, weight in zip(
        *np.polynomial.legendre.leggauss(3), strict=True
    ):  # exact: of degree 2 in the angle
        values = density(mass[:, None], factor, cosine, coefficients)
        total += weight * float(np.sum(values * weights[None] * (weights * mass * limit)[:, None]))
    return total * math.log(HIGH / LOW) / 2


def sampled(number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return pairs of the standard model: mass, rapidity, cosine, and a weight of mean 1.

    Masses have the density m^-3, so that the tail has many events; rapidity and cosine are accepted by their density.
    """
    total = cross_section({})
    power = 1.0 - STEEPNESS
    normalised = (HIGH**power - LOW**power) / power
    made: dict[str, list[np.ndarray]] = {"mass": [], "rapidity": [], "cosine": [], "weight": []}
    while sum(map(len, made["mass"])) < number:
        low, high = LOW**power, HIGH**power
        mass = (low + (high - low) * rng.uniform(size=4 * number)) ** (1 / power)
        limit = most_rapidity(mass)
        rapidity, cosine = limit * rng.uniform(-1, 1, mass.size), rng.uniform(-1, 1, mass.size)
        value = density(mass, np.exp(rapidity), cosine, {})
        whole = _of_mass(mass)
        share = 4 * limit * value / whole  # of mean 1 at each mass
        kept = rng.uniform(size=mass.size) * MOST < share
        weight = whole / total * mass**STEEPNESS * normalised * np.maximum(share / MOST, 1.0)
        for name, array in zip(made, (mass, rapidity, cosine, weight), strict=True):
            made[name].append(array[kept])
    return {name: np.concatenate(parts)[:number] for name, parts in made.items()}


MOST = (
    4.0  # of the density in rapidity and cosine at one mass, over its mean; what is above has a larger weight
)


def _of_mass(mass: np.ndarray) -> np.ndarray:
    """Return d sigma / d mass [pb/GeV]: quadrature on a grid of masses, interpolated in the logarithms."""
    grid = np.geomspace(LOW, HIGH, 200)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    limit = most_rapidity(grid)
    factor = np.exp(limit[:, None] * nodes[None] * (1 - 1e-12))
    values = np.zeros(grid.size)
    for cosine, weight in zip(*np.polynomial.legendre.leggauss(3), strict=True):
        values += weight * limit * np.sum(density(grid[:, None], factor, cosine, {}) * weights[None], axis=1)
    return np.asarray(np.exp(np.interp(np.log(mass), np.log(grid), np.log(values))))
