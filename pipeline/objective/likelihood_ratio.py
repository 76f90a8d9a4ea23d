"""Losses whose minimum is a likelihood ratio or a score, with or without what the simulator knows of its events.

Two samples: numerator events, drawn at ``theta_0`` (label y = 0), and as many of the denominator, drawn at ``theta_1``
(y = 1). ``r(x|theta_0, theta_1) = p(x|theta_0) / p(x|theta_1)`` is what is estimated; ``simulate.augmented`` has the
joint ``r(x, z)`` and ``t(x, z)``. The functions give the loss of each event; as an event's share in a sum it adds over
chunks. Formulae and names: J. Brehmer et al., arXiv:1805.12244 and arXiv:1805.00020; ALICE and ALICES: M. Stoye et al.,
arXiv:1808.00973.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.errors import ConfigError, nearest
from pipeline.objective.cross_entropy import binary_cross_entropy

PerEvent = Float[Array, " events"]


class Known(NamedTuple):
    """Of each event: its label, and the gold where the estimator wants it."""

    label: PerEvent
    log_ratio: PerEvent | None = None
    score: PerEvent | None = None


class Estimated(NamedTuple):
    """Of each event what a network makes of x: ``ln r(x|theta_0, theta_1)``, its derivative by ``theta_0``."""

    log_ratio: PerEvent
    score: PerEvent


class Estimator(NamedTuple):
    """How one is trained.

    ``ratio`` is the loss of the ratio, None without one; ``with_score`` says whether the squared error of the score
    comes in; ``gold`` what the events must bring.
    """

    ratio: Callable[[PerEvent, Known], PerEvent] | None
    with_score: bool
    gold: tuple[str, ...]


def _of_label(log_ratio: PerEvent, known: Known) -> PerEvent:
    """Return the cross-entropy of the label: CARL (K. Cranmer et al., arXiv:1506.02169)."""
    return binary_cross_entropy(-log_ratio, known.label)


def _of_soft_label(log_ratio: PerEvent, known: Known) -> PerEvent:
    """Return the cross-entropy of ``1 / (1 + r(x, z))``, the label's mean given z: ALICE (arXiv:1808.00973)."""
    return binary_cross_entropy(-log_ratio, jax.nn.sigmoid(-_given(known.log_ratio)))


def _squared(log_ratio: PerEvent, known: Known) -> PerEvent:
    """Return ``y (r(x, z) - r)^2 + (1 - y) (1/r(x, z) - 1/r)^2``: ROLR (arXiv:1805.12244)."""
    sign = 2 * known.label - 1
    return (jnp.exp(sign * _given(known.log_ratio)) - jnp.exp(sign * log_ratio)) ** 2


def _given(column: PerEvent | None) -> PerEvent:
    if column is None:
        raise ValueError("the loss needs joint ratio or score of the events, which are not given")
    return column


ESTIMATORS: Mapping[str, Estimator] = {
    "carl": Estimator(_of_label, False, ()),
    "rolr": Estimator(_squared, False, ("log_ratio",)),
    "alice": Estimator(_of_soft_label, False, ("log_ratio",)),
    "cascal": Estimator(_of_label, True, ("score",)),
    "rascal": Estimator(_squared, True, ("log_ratio", "score")),
    "alices": Estimator(_of_soft_label, True, ("log_ratio", "score")),
    "sally": Estimator(None, True, ("score",)),
}
"""By name; what they take from the simulator is ``gold``."""


def estimator_of(name: str) -> Estimator:
    """Return an estimator by its name.

    Raises:
        ConfigError: there is none.
    """
    if name not in ESTIMATORS:
        raise ConfigError(f"estimator {name!r} is none; {nearest(name, ESTIMATORS)}")
    return ESTIMATORS[name]


def ratio_loss(estimator: Estimator, estimated: Estimated, known: Known, alpha: float) -> PerEvent:
    """Return the loss of each event.

    The score's part is ``alpha (1 - y) (t(x, z|theta_0) - t)^2``, of the events that were drawn at the ``theta_0`` that
    it is a score at. SALLY has nothing else, and learns the score at ``theta_1`` from the events drawn there (y = 1).

    Args:
        estimated: for SALLY the score at ``theta_1``; else the derivative of the estimated ``ln r`` by ``theta_0``.
    """
    if estimator.ratio is None:
        return known.label * (_given(known.score) - estimated.score) ** 2
    loss = estimator.ratio(estimated.log_ratio, known)
    if not estimator.with_score:
        return loss
    return loss + alpha * (1 - known.label) * (_given(known.score) - estimated.score) ** 2
