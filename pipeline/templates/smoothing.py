"""Templates of variations whose relative change is averaged over neighbouring bins: noise goes, a slow effect stays."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.config import MedianSmoothing, Smoothing
from pipeline.containers import AnyArray
from pipeline.templates.running_medians import smoothed_353qh
from pipeline.templates.shapes import Channels


def smoothed(
    nominal: Float[AnyArray, "rows bins"],
    varied: Float[AnyArray, "rows bins"],
    channels: Channels,
    width: float,
) -> Float[Array, "rows bins"]:
    """Return varied templates of which the relative change is the mean of those of the bins around.

    With K the Gaussian of the distance in bins, within a channel, n the nominal and v the varied yield,

        r_b = sum_c K_bc (v_c - n_c) / sum_c K_bc n_c,    v'_b = n_b (1 + r_b) sum(v) / sum(n (1 + r)):

    bins with more events count more, and the yield of the channel, which is known best, stays. What is there in a bin
    without nominal events moves to its neighbours. Differentiable, also in the nominal; without a change beyond one of
    the yield nothing changes. Where the sum of weights around a bin of a channel, or its yield, is not positive, the
    template of that channel stays as it is.

    Args:
        width: standard deviation of the Gaussian, in bins.
    """
    nominal, varied = jnp.asarray(nominal), jnp.asarray(varied)
    kernel = jnp.asarray(_kernel(channels, width), dtype=nominal.dtype)
    around = nominal @ kernel
    near = around > 0
    change = jnp.where(near, ((varied - nominal) @ kernel) / jnp.where(near, around, 1.0), 0.0)
    rough = nominal * (1.0 + change)
    before, after = channels.sums(varied), channels.sums(rough)
    known = (before > 0) & (after > 0) & (channels.sums(jnp.where(near, 0.0, 1.0)) == 0)
    factor = channels.over_bins(jnp.where(known, before / jnp.where(known, after, 1.0), 0.0))
    return jnp.where(factor > 0, rough * factor, varied)


def smoothed_by(
    smoothing: Smoothing | MedianSmoothing,
    nominal: Float[AnyArray, "rows bins"],
    varied: Float[AnyArray, "rows bins"],
    channels: Channels,
) -> Float[Array, "rows bins"]:
    """Return varied templates smoothed as a systematic asks for."""
    if isinstance(smoothing, MedianSmoothing):
        return smoothed_353qh(nominal, varied, channels)
    return smoothed(nominal, varied, channels, smoothing.width)


def _kernel(channels: Channels, width: float) -> Float[np.ndarray, "bins bins"]:
    """Return the Gaussian of the distance of any two bins; 0 for those of different channels."""
    place = np.arange(len(channels.channel))
    distance = (place[:, None] - place[None, :]) / width
    same = channels.channel[:, None] == channels.channel[None, :]
    return np.where(same, np.exp(-0.5 * distance**2), 0.0)
