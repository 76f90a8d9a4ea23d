"""The direction in which a Hessian that is not positive definite is curved the least: the way off a saddle."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pipeline.likelihood import Bordered
from pipeline.likelihood.bordered import Factor, scaled_to_one

ITERATIONS = 12  # of the inverse iteration; the shift is within a factor of SHIFT of the best
SHIFT = 4.0


def lowest_curvature(hessian: Bordered, least: float) -> tuple[Float[Array, " params"], Float[Array, ""]]:
    """Return a direction, one standard deviation long, and the curvature along it in units of the parameters' own.

    Inverse iteration (Golub, Van Loan, Matrix Computations, 4th ed., section 8.2.2) with the Schur complement, scaled
    to a unit diagonal, and a shift that makes it positive definite: the smallest found by steps from ``least`` on.
    The curvature is negative at a saddle and 0, to rounding, along a direction that nothing determines.
    """
    free = hessian.free[hessian.kept]
    matrix, scale = scaled_to_one(hessian.reduced, free, 0.0)
    matrix = jnp.where(free[:, None] & free[None], matrix, 0.0)
    everywhere = jnp.ones_like(free)
    highest = 2.0 * jnp.max(jnp.sum(jnp.abs(matrix), axis=1), initial=1.0)

    def too_small(found: tuple[Float[Array, ""], Factor]) -> Bool[Array, ""]:
        shift, factor = found
        return ~(factor.least > 0) & (shift < highest)

    def stronger(found: tuple[Float[Array, ""], Factor]) -> tuple[Float[Array, ""], Factor]:
        shift = SHIFT * found[0]
        return shift, _shifted(matrix, shift, everywhere)

    first = jnp.asarray(least, dtype=matrix.dtype)
    start = (first, _shifted(matrix, first, everywhere))
    _, factor = jax.lax.while_loop(too_small, stronger, start)
    vector = jnp.where(free, jnp.cos(jnp.arange(free.size, dtype=matrix.dtype)), 0.0)

    def towards(_: Any, v: Float[Array, " kept"]) -> Float[Array, " kept"]:
        moved = jnp.where(free, factor.solve(v), 0.0)
        return moved / jnp.maximum(jnp.linalg.norm(moved), float(np.finfo(v.dtype).tiny))

    vector = jax.lax.fori_loop(0, ITERATIONS, towards, vector)
    direction = hessian.joined(scale * vector, jnp.zeros(hessian.gamma.shape, dtype=matrix.dtype))
    return direction, vector @ matrix @ vector


def _shifted(
    matrix: Float[Array, "kept kept"], shift: Float[Array, ""], everywhere: Bool[Array, " kept"]
) -> Factor:
    size = everywhere.size
    return Factor(
        jnp.linalg.cholesky(matrix + shift * jnp.eye(size, dtype=matrix.dtype), symmetrize_input=False),
        jnp.ones(size, dtype=matrix.dtype),
    )
