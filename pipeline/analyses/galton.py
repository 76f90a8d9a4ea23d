"""The generalised Galton board: balls that fall through rows of nails, whose chances depend on place and theta.

J. Brehmer, G. Louppe, J. Pavez, K. Cranmer, arXiv:1805.12244: a ball that meets the nail at (h, v), h from -1 to 1 and
the row v from 0 to 1, goes left with probability ``(1 - f(v)) / 2 + f(v) sigmoid(10 theta h)``, ``f(v) = sin(pi v)``.
These are the numbers of the authors' program (github.com/johannbrehmer/simulator-mining-example), whose text prints
another slope. Where a ball ends is x, its way is z. There are 2^20 ways, yet a recursion over the rows gives
``p(x|theta)`` exactly, so every estimate can be compared with the truth. docs/augmented.md.
"""

from collections.abc import Mapping, Sequence

import awkward as ak
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pipeline.analyses import networks
from pipeline.analysis import Analysis, FlatTree, Free, Made
from pipeline.containers import Columns, Observation, Parameters
from pipeline.errors import ConfigError
from pipeline.objective.likelihood_ratio import Estimated, Known, estimator_of, ratio_loss
from pipeline.relax import Exact, Relaxed
from pipeline.simulate.augmented import joint

ROWS, NAILS = 20, 31  # of the published board; ten nails to either side are as far as a ball gets
START = NAILS // 2
STEEPNESS = 10.0
REFERENCE = -0.6  # theta_1, of the denominator
THETAS = (-1.0, -0.4)  # range in which theta_0 is drawn
SAMPLES = ("numerator", "reference", "slope")


def moves(row: Array | int) -> tuple[Array, Array]:
    """Return by how many nails a ball moves that goes left, and right: rows are shifted by half a nail in turn."""
    odd = jnp.asarray(row) % 2
    return -odd, 1 - odd


def to_the_left(theta: Array | float, row: Array, nail: Array) -> Array:
    """Return the probability that a ball goes left at a nail."""
    strength = jnp.sin(jnp.pi * jnp.asarray(row, dtype=float) / (ROWS - 1))
    place = 2 * jnp.asarray(nail, dtype=float) / (NAILS - 1) - 1
    return (1 - strength) / 2 + strength * jax.nn.sigmoid(STEEPNESS * theta * place)


def log_probability(theta: Array, lefts: Float[Array, " rows"]) -> Float[Array, ""]:
    """Return ``ln p(x, z|theta)`` of one ball.

    Args:
        lefts: 1 where it went left and 0 where it went right, row by row: its latent variables.
    """
    rows = jnp.arange(ROWS)
    nails = START + jnp.cumsum(jnp.where(lefts > 0.5, *moves(rows)))  # behind each row
    chance = to_the_left(theta, rows, jnp.concatenate([jnp.full(1, START), nails[:-1]]))
    return jnp.sum(jnp.log(jnp.where(lefts > 0.5, chance, 1 - chance)))


@jax.jit
def _drop(theta: Float[Array, " events"], uniform: Float[Array, "rows events"]) -> tuple[Array, Array]:
    """Return where balls end, and whether they went left [rows, events], from uniform random numbers."""

    def fall(nail: Array, of_row: tuple[Array, Array]) -> tuple[Array, Array]:
        row, number = of_row
        goes_left = number < to_the_left(theta, row, nail)
        return nail + jnp.where(goes_left, *moves(row)), goes_left

    return jax.lax.scan(fall, jnp.full(theta.shape, START), (jnp.arange(ROWS), uniform))


def drop(
    theta: Float[np.ndarray, " events"], rng: np.random.Generator
) -> tuple[Int[np.ndarray, " events"], Float[np.ndarray, "events rows"]]:
    """Return balls that fall at these thetas: the nail below which each ends, and ``lefts`` of each."""
    with jax.enable_x64(True):
        nails, lefts = _drop(jnp.asarray(theta), jnp.asarray(rng.random((ROWS, len(theta)))))
        return np.asarray(nails), np.asarray(lefts.T, dtype=float)


def distribution(theta: Array | float) -> Float[Array, " nails"]:
    """Return ``p(x|theta)`` of every nail that a ball may end at, by recursion over the rows; differentiable.

    ``P_(row + 1)(n) = sum over the two nails that lead to n``: what is out of reach by paths is a sum over 31 places.
    """
    nails = jnp.arange(NAILS)

    def fall(now: Array, row: Array) -> tuple[Array, None]:
        left = to_the_left(theta, row, nails)
        stays = jnp.where(row % 2 == 1, 1 - left, left)
        goes = jnp.roll(now * (1 - stays), jnp.where(row % 2 == 1, -1, 1))
        return now * stays + goes, None

    start = jnp.zeros(NAILS).at[START].set(1.0)
    return jax.lax.scan(fall, start, jnp.arange(ROWS))[0]


def log_ratio(theta_0: float, theta_1: float = REFERENCE) -> Float[np.ndarray, " nails"]:
    """Return the true ``ln r(x|theta_0, theta_1)``; not a number where no ball ends."""
    with jax.enable_x64(True), np.errstate(divide="ignore", invalid="ignore"):
        at_0, at_1 = (np.asarray(distribution(theta)) for theta in (theta_0, theta_1))
        found: np.ndarray = np.log(at_0) - np.log(at_1)
    return found


def score(theta: float = REFERENCE) -> Float[np.ndarray, " nails"]:
    """Return the true score ``t(x|theta)``, the derivative of ``ln p(x|theta)``; not a number where no ball ends."""
    with jax.enable_x64(True), np.errstate(divide="ignore", invalid="ignore"):
        value, slope = jax.jvp(distribution, (jnp.asarray(theta),), (jnp.ones(()),))
        found: np.ndarray = np.asarray(slope) / np.asarray(value)
    return found


def information(theta: float = REFERENCE) -> float:
    """Return the Fisher information of one ball about theta, ``E[t(x|theta)^2]``: no observable of x has more."""
    with jax.enable_x64(True):
        return float(np.nansum(np.asarray(distribution(theta)) * score(theta) ** 2))


def events(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return balls with the gold of each.

    ``numerator`` falls at thetas drawn in ``THETAS``, ``reference`` and ``slope`` at ``REFERENCE``. ``theta`` is the
    numerator's, for the others drawn too; ``log_ratio`` is that of it to the reference, ``score`` is at the theta that
    the ball fell at. ``expected`` is the ball's weight for the number of balls at the reference, 1 or 1/r(x, z), and of
    ``slope`` for the derivative of that number by theta, t(x, z).
    """
    if sample not in SAMPLES:
        raise ConfigError(f"sample {sample!r} is not one of {', '.join(SAMPLES)}")
    theta = rng.uniform(*THETAS, size=number)
    fell_at = theta if sample == "numerator" else np.full(number, REFERENCE)
    nails, lefts = drop(fell_at, rng)
    gold = joint(log_probability, lefts, theta, REFERENCE)
    at_fall = gold.score if sample == "numerator" else joint(log_probability, lefts, fell_at, REFERENCE).score
    expected = {"numerator": np.exp(-gold.log_ratio), "reference": np.ones(number), "slope": at_fall}
    return {
        "x": 2 * nails / (NAILS - 1) - 1,
        "theta": theta,
        "log_ratio": gold.log_ratio,
        "score": at_fall,
        "expected": expected[sample],
    }


class Galton(Analysis):
    """A network that estimates ``ln r(x|theta, REFERENCE)``, or the score at the reference; and a measurement of theta.

    ``loss`` is the estimator's and ``balls`` counts what it is a mean over. ``score`` is the region of the fit: the
    estimated score at the reference.

    Args:
        estimator: one of ``ESTIMATORS``.
        alpha: weight of the score's part of the loss.
        hidden: neurons of each hidden layer, with tanh.
    """

    parameters: Mapping[str, Free] = {}

    def __init__(
        self, estimator: str = "alices", alpha: float = 0.1, hidden: Sequence[int] = (16, 16)
    ) -> None:
        self.estimator, self.alpha = estimator_of(estimator), alpha
        self.of_score = self.estimator.ratio is None
        self.sizes = (1 if self.of_score else 2, *hidden, 1)
        self.reads = FlatTree(
            tree="Events", branches=("x", "theta", "expected", *self.estimator.gold), event="event"
        )

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every ball."""
        ones = np.ones(len(events.x))
        return {
            "weight": ones,
            "label": ones * (dataset != "numerator"),
            "trains": ones * (dataset != "slope"),
            **{name: events[name] for name in self.reads.branches},
        }

    def init(self, key: jax.Array) -> Mapping[str, jax.Array]:
        """Start values of the network."""
        return networks.start(key, self.sizes)

    def estimate(
        self, p: Parameters, x: Float[Array, " events"], theta: Float[Array, " events"]
    ) -> Estimated:
        """Return the estimated ``ln r(x|theta, REFERENCE)`` and its derivative by theta.

        Of a score s, which has no more, it is that of the local model ``exp(s (theta - REFERENCE))``, not normalised.
        """
        if self.of_score:
            (found,) = networks.outputs(p, x[:, None], jnp.tanh).T
            return Estimated((theta - REFERENCE) * found, found)
        middle, half = sum(THETAS) / 2, (THETAS[1] - THETAS[0]) / 2

        def of_theta(theta: Array) -> Array:
            return networks.outputs(p, jnp.stack([x, (theta - middle) / half], axis=1), jnp.tanh)[:, 0]

        return Estimated(*jax.jvp(of_theta, (theta,), (jnp.ones_like(theta),)))

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return loss, number of balls, and the histogram of the estimated score at the reference."""
        del relax
        known = Known(c.label, c.arrays.get("log_ratio"), c.arrays.get("score"))
        trains = c.weight * c.trains * (c.label if self.of_score else 1.0)
        loss = ratio_loss(self.estimator, self.estimate(p, c.x, c.theta), known, self.alpha)
        at_reference = self.estimate(p, c.x, jnp.full_like(c.theta, REFERENCE)).score
        return {
            "loss": Observation(weight=trains * loss),
            "balls": Observation(weight=trains),
            "score": Observation(weight=c.weight * c.expected, value=at_reference),
        }
