"""GATO's problem of three classes: two signals and five backgrounds, seven Gaussians in space, binned in two features.

J. Erdmann, N. Kasaraguppe, F. Mausolf, arXiv:2601.07756; numbers are those of gato-hep 0.2.1. Each Gaussian has
variances 1 and covariances 0.2; every coordinate is multiplied by a normal random number around 1 of width 0.3. The
features are the probabilities p of the classes by the densities without that noise, here as ln(1 + p_i/p_b) of both
signals, which say the same. docs/learned_bins.md.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analysis import Analysis, FlatTree, Free, GaussianBins, NetworkBins, Shift, ShiftSize, gains
from pipeline.containers import AnyArray, Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

MEANS = {
    "signal_1": (1.5, -1.0, -1.0),
    "signal_2": (-1.0, 1.5, -1.0),
    "background_1": (-0.5, -0.5, 1.0),
    "background_2": (0.5, -0.5, 0.8),
    "background_3": (0.5, 0.5, -0.6),
    "background_4": (-0.5, 1.0, -0.4),
    "background_5": (-0.5, 0.5, -0.2),
}
CROSS_SECTIONS = {
    "background_1": 100.0,
    "background_2": 80.0,
    "background_3": 50.0,
    "background_4": 20.0,
    "background_5": 10.0,
}  # of the backgrounds, whose densities the class's is the mean of
COVARIANCE = 0.8 * np.eye(3) + 0.2
PRECISION = np.linalg.inv(COVARIANCE)
NOISE = 0.3
SHIFT = 0.1  # of the third coordinate of the largest background, one standard deviation of its shape
STARTED_FROM = {
    "signal_1": 4000,
    "signal_2": 4000,
    "background": 4000,
}  # events whose clusters bins start from
SIGNALS = ("signal_1", "signal_2")
COORDINATES = ("x0", "x1", "x2")
FEATURES = ("gain_signal_1", "gain_signal_2")


def events(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return coordinates of events of one Gaussian, with the noise."""
    if sample not in MEANS:
        raise ValueError(f"sample {sample!r} is none of {', '.join(MEANS)}")
    exact = rng.multivariate_normal(MEANS[sample], COVARIANCE, size=number)
    return dict(zip(COORDINATES, (exact * rng.normal(1.0, NOISE, size=exact.shape)).T, strict=True))


def features(c: Mapping[str, AnyArray]) -> list[Float[Array, " events"]]:
    """Return ``ln(1 + p_i/p_b)`` of both signals (``gains``); the densities' common factor cancels."""
    x = jnp.stack([jnp.asarray(c[name]) for name in COORDINATES], axis=1)
    precision = jnp.asarray(PRECISION, dtype=x.dtype)

    def log_density(sample: str) -> Float[Array, " events"]:
        away = x - jnp.asarray(MEANS[sample], dtype=x.dtype)[None]
        return -jnp.sum((away @ precision) * away, axis=1) / 2

    total = sum(CROSS_SECTIONS.values())
    each = jnp.stack([log_density(name) + np.log(own / total) for name, own in CROSS_SECTIONS.items()])
    background = jax.nn.logsumexp(each, axis=0)
    return gains([log_density(name) - background for name in SIGNALS])


def shift(c: Columns, size: ShiftSize) -> Mapping[str, AnyArray]:
    """Return the third coordinate ``size`` times 0.1 farther."""
    return {"x2": c.x2 + SHIFT * size}


class Gato(Analysis):
    """Events are divided among bins of the two features; no cut anywhere.

    Args:
        bins: how many.
        hidden: of the layers of a network whose outputs are the bins' scores; absent: they are a mixture's components.
        start: file of features [events, 2], whose clusters bins start from; absent: events are drawn for it.
    """

    reads = FlatTree(tree="Events", branches=COORDINATES, event="event")
    parameters: Mapping[str, Free] = {}

    def __init__(self, bins: int = 10, hidden: Sequence[int] = (), start: str | None = None) -> None:
        self.binned: GaussianBins | NetworkBins = (
            NetworkBins(FEATURES, bins, hidden=tuple(hidden)) if hidden else GaussianBins(FEATURES, bins)
        )
        self.learned = {"categories": self.binned}
        self.start = start

    def variations(self) -> Mapping[str, Shift]:
        """Return the shape variation of the largest background."""
        return {"shape_up": Shift(shift, +1), "shape_down": Shift(shift, -1)}

    def init(self, key: jax.Array) -> Mapping[str, AnyArray]:
        """Return start values; of a mixture the clusters of events of its own, each class as many."""
        if isinstance(self.binned, NetworkBins):
            return self.binned.start(key)
        if self.start is not None:
            return self.binned.start(key, np.load(self.start))
        own, seeds = jax.random.split(key)
        rng = np.random.default_rng(np.asarray(jax.random.key_data(seeds)))
        return self.binned.start(own, np.concatenate([_drawn(name, rng) for name in STARTED_FROM]))

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return the event's shares in the bins."""
        shares = self.binned.shares(p, features(c.arrays), relax)
        return {"categories": Observation(weight=c.weight, shares=shares)}


def _drawn(name: str, rng: np.random.Generator) -> Float[np.ndarray, "events features"]:
    """Return features of events of a signal, or of all backgrounds by their cross-sections."""
    number, total = STARTED_FROM[name], sum(CROSS_SECTIONS.values())
    parts = (
        {name: number}
        if name in MEANS
        else {own: round(number * size / total) for own, size in CROSS_SECTIONS.items()}
    )
    made = [events(own, size, rng) for own, size in parts.items()]
    return np.concatenate([np.stack([np.asarray(f) for f in features(own)], axis=1) for own in made])
