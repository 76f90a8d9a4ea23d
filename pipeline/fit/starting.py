"""A point with a finite likelihood, for a fit whose starting point has none."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.fit.newton import FitProblem
from pipeline.likelihood import cells_at

TRIED = 96  # points, the nearest first
REACH = 2.0  # of a systematic, in standard deviations; other parameters reach to their bounds
GOLDEN = 0.5 * (np.sqrt(5.0) - 1.0)


def finite_start(problem: FitProblem) -> tuple[Float[Array, " params"], Float[Array, ""]]:
    """The point of the lowest ``-ln L`` among some around the start, spread evenly; infinite where there is none.

    Their places are those of a lattice (M. Roberts' additive recurrence: multiples of irrational numbers), always the
    same. Gammas are where they fit best.
    """
    model, start = problem.model, problem.inside(problem.init)
    numbers = jnp.arange(1, TRIED + 1, dtype=start.dtype)
    rates = jnp.asarray((np.arange(1, start.size + 1) * GOLDEN + np.sqrt(np.arange(1, start.size + 1))) % 1.0)
    is_systematic = model.layout.is_systematic
    low = jnp.where(is_systematic, jnp.maximum(model.bounds[:, 0], start - REACH), model.bounds[:, 0])
    high = jnp.where(is_systematic, jnp.minimum(model.bounds[:, 1], start + REACH), model.bounds[:, 1])

    def tried(number: Float[Array, ""]) -> tuple[Float[Array, " params"], Float[Array, ""]]:
        share = (number * rates) % 1.0
        target = low + share * (high - low)
        moved = problem.inside(start + (number / TRIED) * (target - start))
        moved, cells = cells_at(model, moved, problem.data, problem.dense, problem.fixed)
        return moved, jnp.where(jnp.isfinite(cells.nll), cells.nll, jnp.inf)

    points, values = jax.lax.map(tried, numbers)
    best = jnp.argmin(values)
    return points[best], values[best]
