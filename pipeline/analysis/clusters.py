"""Where Gaussian bins start: clusters of events, by k-means with seeded starts. NumPy alone, the same bits for a seed.

S. Lloyd, IEEE Trans. Inf. Theory 28 (1982) 129, with the starts of k-means++ (D. Arthur, S. Vassilvitskii, SODA 2007).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

ROUNDS = 50  # of Lloyd's algorithm at most; it is a start, and ends before where nothing changes
TRIES = (
    5  # of k-means; one of three ends where two clusters share what is one, and a gradient does not part them
)
NARROWEST = 0.1  # scale of a cluster at least, in units of the features' spread: one of equal events has none


class Clusters(NamedTuple):
    """Centre and standard deviations of each cluster, and its share of the weight."""

    means: Float[np.ndarray, "bins features"]
    scales: Float[np.ndarray, "bins features"]
    shares: Float[np.ndarray, " bins"]


def clusters_of(
    features: Float[np.ndarray, "events features"],
    bins: int,
    seed: int,
    weights: Float[np.ndarray, " events"] | None = None,
) -> Clusters:
    """Return clusters of events, in units of each feature's standard deviation; the closest of a few tries.

    Args:
        weights: of the events, not negative: what weighs more gets more clusters; None: all alike.

    Raises:
        ValueError: there are not so many different events, or a value or weight cannot be.
    """
    values = np.asarray(features, dtype=np.float64)
    weight = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != values.shape[:1] or not np.all(weight >= 0) or not np.all(np.isfinite(values)):
        raise ValueError(
            f"clusters: features of shape {values.shape} with weights of shape {weight.shape}; allowed: finite "
            "features [events, features], and a weight for each event that is not negative"
        )
    values, weight = values[weight > 0], weight[weight > 0]
    if len(different := np.unique(values, axis=0)) < bins:
        raise ValueError(
            f"clusters: {len(different)} different events for {bins} bins; give more events, or fewer bins"
        )
    spread = np.where((found := values.std(axis=0)) > 0, found, 1.0)
    rng = np.random.default_rng(seed)
    tries = [_lloyd(values / spread, weight, bins, rng) for _ in range(TRIES)]
    means, nearest = min(
        tries, key=lambda own: float(weight @ np.sum((values / spread - own[0][own[1]]) ** 2, 1))
    )
    share = np.bincount(nearest, weight, minlength=bins)
    squares = np.stack([_summed(nearest, weight, column, bins) for column in (values / spread).T ** 2], 1)
    variances = squares / np.maximum(share, np.finfo(float).tiny)[:, None] - means**2
    scales = np.sqrt(np.maximum(variances, NARROWEST**2))
    return Clusters(means * spread, scales * spread, np.maximum(share, weight.min()) / share.sum())


def _lloyd(
    values: Float[np.ndarray, "events features"],
    weight: Float[np.ndarray, " events"],
    bins: int,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "bins features"], Int[np.ndarray, " events"]]:
    """Return the centres, and the number of each event's; a cluster that has lost all its events stays where it was."""
    means = _spread_out(values, weight, bins, rng)
    nearest = _nearest(values, means)
    for _ in range(ROUNDS):
        share = np.bincount(nearest, weight, minlength=bins)
        sums = np.stack([_summed(nearest, weight, column, bins) for column in values.T], axis=1)
        means = np.where(share[:, None] > 0, sums / np.where(share > 0, share, 1.0)[:, None], means)
        before, nearest = nearest, _nearest(values, means)
        if np.array_equal(before, nearest):
            break
    return means, nearest


def _spread_out(
    values: Float[np.ndarray, "events features"],
    weight: Float[np.ndarray, " events"],
    bins: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "bins features"]:
    """Return events as first centres, each drawn by its squared distance from those before (k-means++)."""
    chosen = [values[rng.choice(len(values), p=weight / weight.sum())]]
    away = np.full(len(values), np.inf)
    while len(chosen) < bins:
        away = np.minimum(away, np.sum((values - chosen[-1]) ** 2, axis=1))
        chance = away * weight
        chosen.append(values[rng.choice(len(values), p=chance / chance.sum())])
    return np.array(chosen)


def _nearest(
    values: Float[np.ndarray, "events features"], means: Float[np.ndarray, "bins features"]
) -> Int[np.ndarray, " events"]:
    return np.asarray(np.argmin([np.sum((values - mean) ** 2, axis=1) for mean in means], axis=0))


def _summed(
    nearest: Int[np.ndarray, " events"],
    weight: Float[np.ndarray, " events"],
    column: Float[np.ndarray, " events"],
    bins: int,
) -> Float[np.ndarray, " bins"]:
    return np.bincount(nearest, weight * column, minlength=bins)
