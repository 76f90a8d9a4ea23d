"""The templates of a systematic variation: symmetrised, and split into yield ratio and shape."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pipeline.containers import AnyArray

LEAST_MIRRORED = 0.01
"""The yield ratio that takes the place of a mirror image at zero or below."""

Symmetry = Literal["average", "largest", "mirror_up", "mirror_down"]


def symmetrised(
    nominal: Float[AnyArray, " bins"],
    up: Float[AnyArray, " bins"],
    down: Float[AnyArray, " bins"] | None,
    how: Symmetry,
) -> tuple[Float[AnyArray, " bins"], Float[AnyArray, " bins"]]:
    """Templates at equal distances from the nominal in every bin: n + h and n - h, with u and d those given.

    - `average`: h = (u - d) / 2, so that what both change to the same side cancels: it is the slope that a fit sees at
      the nominal value anyway, without the bend.
    - `mirror_up`: h = u - n. `mirror_down`: h = n - d.
    - `largest`: in each bin the one of these two that is larger; it jumps where up and down are equal and on one side.

    Linear in the templates, `largest` in each piece, so differentiable. The sums of all bins are symmetric too. The
    mirror image of a missing `down` differs in second order: there ratio and shape are mirrored, each by itself.

    Raises:
        ValueError: no `down`, which all but `mirror_up` need.
    """
    if how == "mirror_up":
        return up, 2.0 * nominal - up
    if down is None:
        raise ValueError(f"symmetrise {how!r} needs a down template")
    half = 0.5 * (up - down) if how == "average" else nominal - down
    if how == "largest":
        half = jnp.where(jnp.abs(up - nominal) >= jnp.abs(half), up - nominal, half)
    return nominal + half, nominal - half


def norm_plus_shape(
    nominal: Float[AnyArray, " bins"],
    up: Float[AnyArray, " bins"],
    down: Float[AnyArray, " bins"] | None,
    filled: Bool[AnyArray, " bins"],
    *,
    least_mirrored: float = LEAST_MIRRORED,
) -> tuple[dict[str, AnyArray], dict[str, AnyArray]]:
    """Split templates into a yield ratio (normsys) and shapes of the nominal's yield (histosys), as cabinetry does.

    Without `down` the up template is mirrored at the nominal, ratio and shape each: r_lo = 2 - r_hi and
    lo = 2 nominal - hi. Where nominal or varied yield is not positive the ratio is 1: the shape carries all.

    Arguments:
        filled: bins with nominal events of any sample. The others have no shape variation: its mirror image would be a
            negative rate, which a bin without data rewards.
        least_mirrored: smallest mirrored ratio. HistFactory needs a positive one; where a handful of events
            makes the up yield twice the nominal or more, the mirror image has none, which `templates.cautions` says.
    """
    hi = _ratio(up, nominal)
    hi_data = jnp.where(filled, up / hi, nominal)
    if down is None:
        lo = jnp.maximum(2.0 - hi, least_mirrored)
        return {"hi": hi, "lo": lo}, {"hi_data": hi_data, "lo_data": 2.0 * nominal - hi_data}
    lo = _ratio(down, nominal)
    return {"hi": hi, "lo": lo}, {"hi_data": hi_data, "lo_data": jnp.where(filled, down / lo, nominal)}


def _ratio(varied: Float[AnyArray, " bins"], nominal: Float[AnyArray, " bins"]) -> Float[Array, ""]:
    above, below = varied.sum(), nominal.sum()
    defined = (above > 0) & (below > 0)
    return jnp.where(defined, jnp.where(defined, above, 1.0) / jnp.where(defined, below, 1.0), 1.0)
