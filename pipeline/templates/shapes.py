"""The templates of a systematic variation: symmetrised, and split into yield ratio and shape."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pipeline.containers import AnyArray

LEAST_MIRRORED = 0.01
"""The yield ratio that takes the place of a mirror image at zero or below."""

Symmetry = Literal["average", "largest", "mirror_up", "mirror_down"]


def symmetrised(
    nominal: Float[AnyArray, "*rows bins"],
    up: Float[AnyArray, "*rows bins"],
    down: Float[AnyArray, "*rows bins"] | None,
    how: Symmetry,
) -> tuple[Float[AnyArray, "*rows bins"], Float[AnyArray, "*rows bins"]]:
    """Return templates at equal distances from the nominal in every bin: n + h and n - h, with u and d those given.

    - ``average``: h = (u - d) / 2, so that what both change to the same side cancels: it is the slope that a
      fit sees at the nominal value anyway, without the bend.
    - ``mirror_up``: h = u - n. ``mirror_down``: h = n - d.
    - ``largest``: in each bin the one of these two that is larger; it jumps where up and down are equal and
      on one side.

    Linear in the templates, ``largest`` in each piece, so differentiable. The sums of all bins are symmetric too. The
    mirror image of a missing ``down`` differs in second order: there ratio and shape are mirrored, each by itself.

    Raises:
        ValueError: no ``down``, which all but ``mirror_up`` need.
    """
    if how == "mirror_up":
        return up, 2.0 * nominal - up
    if down is None:
        raise ValueError(f"symmetrise {how!r} needs a down template")
    half = 0.5 * (up - down) if how == "average" else nominal - down
    if how == "largest":
        half = jnp.where(jnp.abs(up - nominal) >= jnp.abs(half), up - nominal, half)
    return nominal + half, nominal - half


class Channels(NamedTuple):
    """How the bins of several channels stand in one row: for sums of each channel, and back."""

    channel: Int[np.ndarray, " bins"]
    number: int

    @classmethod
    def of_sizes(cls, sizes: Sequence[int]) -> "Channels":
        """Return channels with so many bins each, one after the other."""
        return cls(np.repeat(np.arange(len(sizes)), sizes), len(sizes))

    def sums(self, rows: Float[AnyArray, "rows bins"]) -> Float[Array, "rows channels"]:
        """Return the sum of the bins of each channel."""
        members = np.arange(self.number)[None, :] == self.channel[:, None]
        return jnp.asarray(rows) @ jnp.asarray(members, dtype=rows.dtype)

    def over_bins(self, rows: Float[AnyArray, "rows channels"]) -> Float[AnyArray, "rows bins"]:
        """Return a number of each channel in each of its bins."""
        return rows[:, self.channel]


class Split(NamedTuple):
    """Yield ratios (normsys) and shapes of the nominal's yield (histosys), above and below."""

    hi: Float[AnyArray, "rows channels"]
    lo: Float[AnyArray, "rows channels"]
    hi_data: Float[AnyArray, "rows bins"]
    lo_data: Float[AnyArray, "rows bins"]


def norm_plus_shape(
    nominal: Float[AnyArray, "rows bins"],
    up: Float[AnyArray, "rows bins"],
    down: Float[AnyArray, "rows bins"] | None,
    filled: Bool[AnyArray, " bins"],
    channels: Channels,
    *,
    ratio_of: Int[np.ndarray, " rows"] | None = None,
    least_mirrored: float = LEAST_MIRRORED,
) -> Split:
    """Split templates into a yield ratio in each channel and a shape of the nominal's yield, as cabinetry does.

    Without ``down`` the up template is mirrored at the nominal, ratio and shape each: r_lo = 2 - r_hi and
    lo = 2 nominal - hi. Where nominal or varied yield is not positive the ratio is 1: the shape carries all.

    Args:
        filled: bins with nominal events of any sample. The others have no shape variation: its mirror image would be a
            negative rate, which a bin without data rewards.
        ratio_of: the row whose ratio each row has; None: its own.
        least_mirrored: smallest mirrored ratio. HistFactory needs a positive one; where a handful of events
            makes the up yield twice the nominal or more, the mirror image has none, which ``templates.cautions`` says.
    """
    below = channels.sums(nominal)
    own = slice(None) if ratio_of is None else ratio_of
    hi = _ratio(channels.sums(up), below)[own]
    hi_data = jnp.where(filled, up / channels.over_bins(hi), nominal)
    if down is None:
        return Split(hi, jnp.maximum(2.0 - hi, least_mirrored), hi_data, 2.0 * nominal - hi_data)
    lo = _ratio(channels.sums(down), below)[own]
    return Split(hi, lo, hi_data, jnp.where(filled, down / channels.over_bins(lo), nominal))


def _ratio(
    above: Float[AnyArray, "rows channels"], below: Float[AnyArray, "rows channels"]
) -> Float[Array, "rows channels"]:
    defined = (above > 0) & (below > 0)
    return jnp.where(defined, jnp.where(defined, above, 1.0) / jnp.where(defined, below, 1.0), 1.0)
