"""Other points to start from, for a fit whose starting point has no finite likelihood."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pipeline.likelihood import HistFactory

TRIED = 96  # points, the nearest first
REACH = 2.0  # of a systematic, in standard deviations; other parameters reach to their bounds
GOLDEN = 0.5 * (np.sqrt(5.0) - 1.0)


def elsewhere(
    model: HistFactory, start: Float[Array, " params"], number: Int[Array, ""]
) -> Float[Array, " params"]:
    """Return one of ``TRIED`` points around the start, spread evenly, the first ones near.

    Their places are multiples of irrational numbers (H. Weyl, Math. Ann. 77 (1916) 313): always the same.
    """
    numbers = np.arange(1, start.size + 1)
    rates = jnp.asarray((numbers * GOLDEN + np.sqrt(numbers)) % 1.0, dtype=start.dtype)
    near = jnp.stack([start - REACH, start + REACH], axis=1)
    bounds = jnp.where(
        model.layout.is_systematic[:, None], jnp.clip(near, *model.bounds.T[:, :, None]), model.bounds
    )
    count = number.astype(start.dtype)
    target = bounds[:, 0] + ((count * rates) % 1.0) * (bounds[:, 1] - bounds[:, 0])
    return start + jnp.minimum(count / TRIED, 1.0) * (target - start)
