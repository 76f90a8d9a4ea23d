"""Which observable measures the coefficient of a four-fermion operator best? Pairs of muons of high mass at the LHC.

The events of ``contact_interaction`` carry the truth, so that their weights are functions of the coefficients. The
detector smears momenta as that of the embedded data set does those of muons; one background has neither the operator
nor an asymmetry. The observable is the logarithm of the score by the matrix element at the measured kinematics, or
that with a network added, which starts at nothing: then the optimisation begins at the score. docs/theory.md.
"""

from collections.abc import Mapping
from typing import Any

import awkward as ak
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analyses import contact_interaction as physics
from pipeline.analysis import (
    Analysis,
    FlatTree,
    Free,
    Made,
    Shift,
    ShiftSize,
    Theory,
    Variation,
    WeightFactor,
)
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

BARREL, CONSTANT, CURVATURE = (
    1.2,
    (0.01, 0.02),
    (1e-4, 2e-4),
)  # sigma(pt) / pt, as of the embedded data set's muons
MUONS = ("plus", "minus")
PT_MINIMUM, ETA_MAXIMUM = 30.0, 2.4  # GeV
SCALE, RESOLUTION, SEA_SIZE = 0.01, 0.3, 0.05  # relative, of the systematic uncertainties
BACKGROUND_SLOPE, CENTRAL = 4.5, 0.6  # of the masses, a power; of the rapidities, relative to the largest
LEAST_SCORE = 0.02  # TeV^2: below it the logarithm is cut off
FEATURES = 3


def events(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return pairs of muons, back to back in azimuth: the truth, and what the detector measures of them."""
    if sample == "drell_yan":
        truth = physics.sampled(number, rng)
    elif sample == "background":
        power = 1.0 - BACKGROUND_SLOPE
        low, high = physics.LOW**power, physics.HIGH**power
        mass = (low + (high - low) * rng.uniform(size=number)) ** (1 / power)
        rapidity = rng.uniform(-CENTRAL, CENTRAL, number) * physics.most_rapidity(mass)
        cosine = rng.uniform(-1.0, 1.0, number)
        truth = {"mass": mass, "rapidity": rapidity, "cosine": cosine, "weight": np.ones(number)}
    else:
        raise ValueError(f"sample {sample!r} is not 'drell_yan' or 'background'")
    pt = truth["mass"] / 2 * np.sqrt(1 - truth["cosine"] ** 2)
    made = {f"true_{name}": truth[name] for name in ("mass", "rapidity", "cosine")}
    for name, sign in zip(MUONS, (-1.0, 1.0), strict=True):  # the cosine is that of the negative muon
        eta = truth["rapidity"] + sign * np.arctanh(truth["cosine"])
        inside = np.abs(eta) < BARREL
        size = np.hypot(np.where(inside, *CONSTANT), np.where(inside, *CURVATURE) * pt)
        made[f"kick_{name}"] = size * rng.standard_normal(number)
        made |= {f"pt_{name}": pt * np.exp(made[f"kick_{name}"] - size**2 / 2), f"eta_{name}": eta}
    return {**made, "weight": truth["weight"]}


def pair(c: Columns) -> tuple[Array, Array, Array]:
    """Return mass [GeV], exp of the rapidity and the Collins-Soper angle's cosine to the first proton, of the muons.

    J. C. Collins, D. E. Soper, PRD 16 (1977) 2219; the muons are back to back in azimuth.
    """
    plus, minus = (
        [getattr(c, f"pt_{name}") * jnp.exp(sign * getattr(c, f"eta_{name}")) for sign in (1.0, -1.0)]
        for name in MUONS
    )
    forward, backward = plus[0] + minus[0], plus[1] + minus[1]  # E +- p_z of the pair
    recoil = c.pt_plus - c.pt_minus
    mass = jnp.sqrt(forward * backward - recoil**2)
    cosine = (minus[0] * plus[1] - minus[1] * plus[0]) / (mass * jnp.sqrt(forward * backward))
    return mass, jnp.sqrt(forward / backward), cosine


def score(mass: Array, factor: Array, cosine: Array, chiralities: str = "ll") -> Float[Array, " events"]:
    """Return the derivative of the logarithm of the density in a coefficient at 0 [TeV^2]."""
    slope = physics.density(mass, factor, cosine, {}, slope=chiralities)
    found: Array = slope / physics.density(mass, factor, cosine, {})
    return found


class Coefficient(Analysis):
    """Pairs of muons, with a coefficient of left-handed currents, and one of left-handed quarks and other muons."""

    reads = FlatTree(
        tree="Events",
        branches=(
            *(f"true_{name}" for name in ("mass", "rapidity", "cosine")),
            *(f"{what}_{name}" for name in MUONS for what in ("pt", "eta", "kick")),
            "weight",
        ),
        event="event",
    )
    parameters: Mapping[str, Free] = {}
    theory = {  # noqa: RUF012, as all that an analysis declares
        "c_ll": Theory(0.0, valid=(-0.2, 0.2), unit="1/TeV^2"),
        "c_lr": Theory(0.0, valid=(-0.2, 0.2), unit="1/TeV^2"),
    }

    def __init__(self, observable: str = "network", hidden: int = 16, *, detector: bool = True) -> None:
        if observable not in ("network", "score"):
            raise ValueError(f"observable {observable!r} is not 'network' or 'score'")
        self.observable, self.hidden, self.detector = observable, hidden, detector

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every event; the rapidity as its exponential."""
        del dataset
        found: dict[str, Any] = {name: np.asarray(events[name]) for name in self.reads.branches}
        found["true_factor"] = np.exp(found.pop("true_rapidity"))
        return found

    def theory_weight(self, t: Parameters, c: Columns) -> Array:
        """Return the density at the coefficients over that of the standard model, at the event's truth."""
        truth = c.true_mass, c.true_factor, c.true_cosine
        found: Array = physics.density(*truth, {"ll": t.c_ll, "lr": t.c_lr}) / physics.density(*truth, {})
        return found

    def variations(self) -> Mapping[str, Variation]:
        """Return scale and resolution of the momenta, and the sea of quarks."""
        return {
            **{f"scale_{way}": Shift(_scaled, sign) for way, sign in (("up", 1), ("down", -1))},
            "resolution_up": Shift(_smeared, 1),
            "sea_up": WeightFactor(_with_sea),
        }

    def init(self, key: Array) -> Mapping[str, Array]:
        """Start values of the network, whose output is 0."""
        if self.observable == "score":
            return {}
        return {
            "network_in": jax.random.normal(key, (FEATURES, self.hidden)) / FEATURES**0.5,
            "network_bias": jnp.zeros(self.hidden),
            "network_out": jnp.zeros(self.hidden),
        }

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return the logarithm of the score at the measured kinematics, and what the network adds."""
        del relax
        selected, seen = c.weight, (c.true_mass, c.true_factor, c.true_cosine)
        if self.detector:
            inside = [
                (getattr(c, f"pt_{name}") > PT_MINIMUM) & (jnp.abs(getattr(c, f"eta_{name}")) < ETA_MAXIMUM)
                for name in MUONS
            ]
            selected, seen = jnp.where(inside[0] & inside[1], c.weight, 0.0), pair(c)
        value = jnp.log(jnp.maximum(-score(*seen), LEAST_SCORE))
        if self.observable == "network":
            mass, factor, cosine = seen
            rapidity = jnp.log(factor)
            features = jnp.stack(
                [jnp.log(mass / 500.0), jnp.abs(rapidity), cosine * jnp.tanh(2.0 * rapidity)], axis=1
            )
            bias = jnp.broadcast_to(p.network_bias, (len(mass), self.hidden))
            value = value + jnp.tanh(features @ p.network_in + bias) @ p.network_out
        return {"observable": Observation(weight=selected, value=value)}


def _scaled(c: Columns, size: ShiftSize) -> Mapping[str, Array]:
    return {f"pt_{name}": getattr(c, f"pt_{name}") * (1.0 + SCALE * size) for name in MUONS}


def _smeared(c: Columns, size: ShiftSize) -> Mapping[str, Array]:
    return {
        f"pt_{name}": getattr(c, f"pt_{name}") * jnp.exp(RESOLUTION * size * getattr(c, f"kick_{name}"))
        for name in MUONS
    }


def _with_sea(p: Parameters, c: Columns, relax: Relaxed | Exact) -> Array:
    """Return the weight of more sea quarks, relative, of the standard model."""
    del p, relax
    truth = c.true_mass, c.true_factor, c.true_cosine
    more = physics.SEA._replace(size=physics.SEA.size * (1 + SEA_SIZE))
    found: Array = physics.density(*truth, {}, sea=more) / physics.density(*truth, {})
    return found
