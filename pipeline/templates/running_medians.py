"""Templates of variations smoothed by running medians: 353QH, twice, as ROOT's TH1::Smooth and cabinetry have it.

Medians of three, five and three neighbours, a parabola (Q) through what these make flat, running means (H, for Hann);
then the same of what that leaves over, added to it. J. Friedman, CERN 74-23 (1974), p. 271,
https://cds.cern.ch/record/186223. For a fixed order of the values it is linear, so it differentiates but where two of
them, which are not copies of one, change places.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from pipeline.containers import AnyArray
from pipeline.templates.shapes import Channels

FEWEST_BINS = 3  # of a channel; one with fewer stays as it is


class _Places(NamedTuple):
    """Where each bin stands in its channel: its distances from the first and the last one."""

    channels: Channels
    first: Int[np.ndarray, " bins"]
    last: Int[np.ndarray, " bins"]

    @classmethod
    def of(cls, channels: Channels) -> "_Places":
        sizes = np.bincount(channels.channel, minlength=channels.number)
        starts = np.cumsum(sizes) - sizes
        first = np.arange(channels.channel.size) - starts[channels.channel]
        return cls(channels, first, sizes[channels.channel] - 1 - first)

    def shifted(self, rows: Shaped[Array, "rows bins"], by: int) -> Shaped[Array, "rows bins"]:
        """Return the bins so many places to the right; beyond the channel, its last or first one."""
        return rows[:, np.arange(self.first.size) + np.clip(by, -self.first, self.last)]

    def inside(self, by: int) -> Bool[np.ndarray, " bins"]:
        """Return the bins with so many others of the channel on both sides."""
        return np.asarray(np.minimum(self.first, self.last) >= by)


def smoothed_353qh(
    nominal: Float[AnyArray, "rows bins"], varied: Float[AnyArray, "rows bins"], channels: Channels
) -> Float[Array, "rows bins"]:
    """Return varied templates of which the ratio to the nominal is smoothed, each channel with the yield it had.

    Bins without nominal yield stay, and count as unchanged for their neighbours; so do channels of one or two bins, or
    whose yield is not positive.
    """
    nominal, varied, places = jnp.asarray(nominal), jnp.asarray(varied), _Places.of(channels)
    filled = nominal > 0
    ratio = jnp.where(filled, varied / jnp.where(filled, nominal, 1.0), 1.0)
    rough = jnp.where(filled, nominal * twice_353qh(ratio, channels), 0.0)
    before, after = channels.sums(jnp.where(filled, varied, 0.0)), channels.sums(rough)
    known = (before > 0) & (after > 0)
    factor = channels.over_bins(jnp.where(known, before / jnp.where(known, after, 1.0), 0.0))
    is_long = jnp.asarray(places.first + places.last + 1 >= FEWEST_BINS)
    return jnp.where((factor > 0) & filled & is_long[None], rough * factor, varied)


def twice_353qh(values: Float[AnyArray, "rows bins"], channels: Channels) -> Float[Array, "rows bins"]:
    """Return smooth values: 353QH, and 353QH of what it leaves over; never below 0 where no value was."""
    values, places = jnp.asarray(values), _Places.of(channels)
    once = _353qh(values, places)
    both = once + _353qh(values - once, places)
    below = channels.over_bins(channels.sums(jnp.where(values < 0, 1.0, 0.0).astype(values.dtype))) > 0
    return jnp.where(below, both, jnp.maximum(both, 0.0))


def _353qh(values: Float[Array, "rows bins"], places: _Places) -> Float[Array, "rows bins"]:
    """Return the values after one round, the ends of a channel without the means."""
    found = _parabolas(_medians(values, places), places)
    mean = 0.25 * places.shifted(found, -1) + 0.5 * found + 0.25 * places.shifted(found, 1)
    return jnp.where(places.inside(1), mean, found)


def _medians(values: Float[Array, "rows bins"], places: _Places) -> Float[Array, "rows bins"]:
    """Return running medians of 3, 5 and 3; the end points by Tukey's rule, once.

    With a and b the neighbours of an end, that is the median of it, a and ``a + 2 (a - b)``. ROOT writes ``3 a - 2 b``,
    which for equal a and b may miss a by a rounding error, and is then an end, or a top, of its own.
    """

    def of_three(rows: Float[Array, "rows bins"]) -> Float[Array, "rows bins"]:
        middle = _middle(places.shifted(rows, -1), rows, places.shifted(rows, 1))
        return jnp.where(places.inside(1), middle, rows)

    first = of_three(values)
    for side, is_end in ((1, places.first == 0), (-1, places.last == 0)):
        near, far = places.shifted(first, side), places.shifted(first, 2 * side)
        first = jnp.where(is_end, _middle(near, first, near + 2.0 * (near - far)), first)
    around = jnp.stack([places.shifted(first, by) for by in range(-2, 3)])
    second = jnp.where(places.inside(2), jnp.sort(around, axis=0)[2], of_three(first))
    return of_three(second)


def _middle(
    one: Float[Array, "rows bins"], two: Float[Array, "rows bins"], three: Float[Array, "rows bins"]
) -> Float[Array, "rows bins"]:
    """Return the median of three numbers."""
    low, high = jnp.minimum(one, two), jnp.maximum(one, two)
    return jnp.maximum(low, jnp.minimum(high, three))


def _parabolas(values: Float[Array, "rows bins"], places: _Places) -> Float[Array, "rows bins"]:
    """Return flat tops and bottoms of three bins with a parabola in place of two: the medians cut them off."""
    left, right = places.shifted(values, -2), places.shifted(values, 2)
    is_flat = (places.shifted(values, -1) == values) & (values == places.shifted(values, 1))
    is_top = is_flat & ((left - values) * (right - values) > 0) & jnp.asarray(places.inside(2))[None]
    to_left = jnp.abs(right - values) > jnp.abs(left - values)
    near, far = jnp.where(to_left, left, right), jnp.where(to_left, right, left)
    middle = -0.5 * far + values / 0.75 + near / 6.0
    beside = 0.5 * (near - far) + values
    found = jnp.where(is_top, middle, values)
    for side, chosen in ((1, is_top & ~to_left), (-1, is_top & to_left)):
        found = jnp.where(places.shifted(chosen, -side), places.shifted(beside, -side), found)
    return found
