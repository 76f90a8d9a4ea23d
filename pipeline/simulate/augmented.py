"""Simulated events with what the simulator knows of them: joint likelihood ratio and joint score, by JAX's derivatives.

A simulator runs through latent variables z on its way to what is observed, x. The density ``p(x|theta)``, an integral
over all z, is out of reach, but ``p(x, z|theta)`` of the z that an event had is a product of factors that the simulator
has drawn from. J. Brehmer, G. Louppe, J. Pavez, K. Cranmer, arXiv:1805.12244, call it mining gold.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from pipeline.errors import InputError

LogProbability = Callable[[Any, Any], ArrayLike]
"""The logarithm of ``p(x, z|theta)`` of one event: theta and its latent variables -> a number."""


class Joint(NamedTuple):
    """What a simulator knows of its events.

    ``log_ratio`` is ``ln r(x, z|theta_0, theta_1) = ln p(x, z|theta_0) - ln p(x, z|theta_1)``, ``score`` the derivative
    of ``ln p(x, z|theta_0)`` by ``theta_0``, [events] or [events, params] as the parameters are. Averaged over the
    latent variables of the events with the same x, the ratio of events drawn at ``theta_1`` is ``r(x|theta_0,
    theta_1)``, and the score of those drawn at ``theta_0`` is ``t(x|theta_0)`` (arXiv:1805.12244).
    """

    log_ratio: Float[np.ndarray, " events"]
    score: Float[np.ndarray, " events *params"]


def joint(log_probability: LogProbability, latents: Any, theta_0: ArrayLike, theta_1: ArrayLike) -> Joint:
    """Return joint ratio and score of simulated events, in double precision.

    Args:
        log_probability: of one event, in ``jax.numpy``. What does not depend on theta may be left out of it.
        latents: latent variables, an array or a tree of arrays, [events, ...] each.
        theta_0: of the numerator, a number or [params]; or one for each event, [events] or [events, params].
        theta_1: of the denominator, the reference, in the shape of one theta.

    Raises:
        InputError: an event is impossible at one of the two, so its ratio is 0 or infinite; or a derivative is not
            finite.
    """
    with jax.enable_x64(True):
        reference = jnp.asarray(theta_1, dtype=float)
        events = len(jax.tree.leaves(latents)[0])
        own = jnp.broadcast_to(jnp.asarray(theta_0, dtype=float), (events, *reference.shape))
        found = _joint(log_probability, jax.tree.map(jnp.asarray, latents), own, reference)
        at_0, at_1, score = (np.asarray(array) for array in found)
    _require_possible(at_1, "the reference theta_1", f"{theta_1!r}")
    _require_possible(
        at_0, "theta_0", "drawn for it" if np.ndim(theta_0) > reference.ndim else f"{theta_0!r}"
    )
    if not np.all(np.isfinite(score)):
        bad = int(np.sum(~np.isfinite(score.reshape(events, -1)).all(axis=1)))
        raise InputError(
            f"joint score: {bad} of {events} events have a derivative of log_probability by theta that is not finite; "
            "a jnp.where hides a value from the result and not from the derivative: make its argument safe, too"
        )
    return Joint(at_0 - at_1, score)


@functools.partial(jax.jit, static_argnums=0)
def _joint(
    log_probability: LogProbability, latents: Any, theta_0: Array, theta_1: Array
) -> tuple[Array, Array, Array]:
    def of_event(own: Array, latent: Any) -> tuple[Array, Array, Array]:
        at_0, score = jax.value_and_grad(lambda theta: jnp.asarray(log_probability(theta, latent)))(own)
        return at_0, jnp.asarray(log_probability(theta_1, latent)), score

    made: tuple[Array, Array, Array] = jax.vmap(of_event)(theta_0, latents)
    return made


def _require_possible(log_probability: Float[np.ndarray, " events"], which: str, value: str) -> None:
    """Raise where some events have no finite logarithm of their probability."""
    bad = ~np.isfinite(log_probability)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"joint ratio: {int(bad.sum())} of {len(bad)} events are impossible at {which} ({value}): log_probability "
            f"of event {first} is {log_probability[first]}; a ratio needs events that both can make, so choose "
            "parameters at which all of them have a finite one"
        )
