"""A toy: layers of a crystal calorimeter at a muon collider, thickness against cost and beam-induced background.

A tower of five layers of lead fluoride, as Crilin has them. Photon showers have longitudinal profiles that fluctuate
(G. Grindhammer, S. Peters, hep-ex/0001020, section 3.2, homogeneous media); layers measure light with few
photoelectrons, and time the better, the more energy they see. What comes outside a window of time is not counted, and
the background that comes inside is. Constants without a source are chosen to make the choice interesting: no number
here is a prediction for an experiment. docs/calorimeter.md.
"""

import math
from collections.abc import Mapping

import awkward as ak
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analysis import Analysis, FlatTree, Free, Made
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

ENERGIES = (5.0, 10.0, 20.0, 50.0, 100.0)  # GeV
LAYERS = 5
KINDS = ("light", "time", "background")  # of normal random numbers, one for each layer
RANDOM = tuple(f"{kind}_{layer}" for kind in KINDS for layer in range(LAYERS))
CRITICAL = 9.0e-3  # GeV, critical energy of lead fluoride
CHARGE = 67.0  # its effective atomic number
PHOTOELECTRONS = 100.0  # per GeV: chosen
TIMING = 50.0  # ps, of a GeV in a layer: what Crilin aims for
BACKGROUND, QUANTUM, ATTENUATION = (
    2.0,
    0.1,
    8.0,
)  # GeV/ns if endless, GeV a particle, radiation lengths: chosen
LEAST = 1e-3  # GeV: less in a layer counts as this much for timing and light
COST = 0.05  # percent of resolution that a radiation length is worth: chosen


def showers(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Photons of one of five energies: shape of the shower, and normal random numbers for each layer."""
    del sample
    which = rng.integers(len(ENERGIES), size=number)
    log_y = np.log(np.asarray(ENERGIES)[which] / CRITICAL)
    first, second = rng.standard_normal((2, number))
    common = 0.705 - 0.023 * log_y
    depth = np.exp(np.log(log_y - 0.858) + first / (1.26 * log_y - 1.4))
    shape = np.log(0.21 + (0.492 + 2.38 / CHARGE) * log_y)
    alpha = np.exp(shape + (common * first + np.sqrt(1 - common**2) * second) / (0.86 * log_y - 0.58))
    alpha = np.maximum(alpha, 1.05)  # a shower has a maximum; fewer than one in a million do not
    normal = rng.standard_normal((len(KINDS) * LAYERS, number))
    return {
        "which": which.astype(np.int64),
        "alpha": alpha,
        "beta": (alpha - 1) / depth,
        **dict(zip(RANDOM, normal, strict=True)),
    }


def borders(front: Array | float, others: Array | float) -> Float[Array, " borders"]:
    """Depths of the borders of the layers in radiation lengths."""
    return jnp.concatenate([jnp.zeros(1), front + others * jnp.arange(LAYERS, dtype=float)])


class Calorimeter(Analysis):
    """Sums of the response and its square by energy, as shares of the event's energy among five bins."""

    merit_label, merit_unit = "mean resolution and cost", "%"
    reads = FlatTree(
        tree="Events",
        branches=("which", "alpha", "beta", *RANDOM),
        event="event",
    )
    parameters: Mapping[str, Free] = {
        "front": Free(4.0, bounds=(1.0, 8.0), unit="X0"),
        "others": Free(4.0, bounds=(1.0, 8.0), unit="X0"),
        "window": Free(500.0, bounds=(50.0, 1000.0), unit="ps"),
    }

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Every shower; the random numbers of all layers together."""
        del dataset
        which = np.asarray(events.which)
        kinds = {
            kind: np.stack([getattr(events, f"{kind}_{layer}") for layer in range(LAYERS)], axis=1)
            for kind in KINDS
        }
        return {
            "weight": np.ones(len(which)),
            "energy": np.asarray(ENERGIES)[which],
            "of_energy": np.eye(len(ENERGIES), dtype=np.float32)[which],
            "alpha": events.alpha,
            "beta": events.beta,
            **kinds,
        }

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """The energy measured by the layers in time, over the true one."""
        c = c.widened()
        depth = borders(p.front, p.others)
        contained = jax.scipy.special.gammainc(c.alpha[:, None], c.beta[:, None] * depth[None])
        deposit = c.energy[:, None] * jnp.diff(contained, axis=1)
        root = jnp.sqrt(jnp.maximum(deposit, LEAST))
        in_time = relax.less(jnp.abs(c.time) * TIMING / root, p.window)
        expected = -BACKGROUND * 2 * p.window / 1000 * jnp.diff(jnp.exp(-depth / ATTENUATION))
        background = jnp.sqrt(QUANTUM * expected)[None] * c.background  # its mean is subtracted
        measured = in_time * (deposit + root * c.light / math.sqrt(PHOTOELECTRONS)) + background
        response = jnp.sum(measured, axis=1) / c.energy
        return {
            "showers": Observation(weight=c.weight, shares=c.of_energy),
            "responses": Observation(weight=c.weight * response, shares=c.of_energy),
            "squares": Observation(weight=c.weight * response**2, shares=c.of_energy),
        }

    def merit(self, p: Parameters, sums: Mapping[str, Array]) -> Array:
        """Mean over the energies of standard deviation over mean of the response, and what the depth costs."""
        mean, square = (sums[name] / sums["showers"] for name in ("responses", "squares"))
        resolution = jnp.sqrt(square - mean**2) / mean
        return 100 * jnp.mean(resolution) + COST * (p.front + (LAYERS - 1) * p.others)
