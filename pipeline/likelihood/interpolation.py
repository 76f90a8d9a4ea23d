"""pyhf's interpolation codes: how a template moves with its nuisance parameter.

Codes 4 and 4p, the defaults, are polynomials for ``|alpha| < 1`` that join the extrapolation at ``|alpha| = 1`` with
two continuous derivatives, so Newton's method sees a smooth function. Codes 0 and 1 have a kink at 0, and code 2
jumps at ``|alpha| = 1``; they are here for workspaces that were fitted with them.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Inverse of the boundary conditions of code 4 at alpha0 = 1 (pyhf's only value): row i gives the coefficient
# of alpha^(i+1) from the values, slopes and curvatures at +1 and -1; pyhf/interpolators/code4.py derives it.
_CODE4 = np.array(
    [
        [15, -15, -7, -7, 1, -1],
        [24, 24, -9, 9, 1, 1],
        [-10, 10, 10, 10, -2, 2],
        [-24, -24, 14, -14, -2, -2],
        [3, -3, -3, -3, 1, -1],
        [8, 8, -5, 5, 1, 1],
    ],
    dtype=np.float64,
) / np.float64(16)


def _factor_and_logarithm(factor: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return the factor and its logarithm; a factor of zero or below counts as 0 with logarithm 0 (see ``code4``)."""
    positive = factor > 0
    return jnp.where(positive, factor, 0.0), jnp.log(jnp.where(positive, factor, 1.0))


def code1(
    alpha: Float[Array, "*#shape"],
    up: Float[Array, "*shape"],
    down: Float[Array, "*shape"],
    coefficients: Float[Array, "powers ..."],
) -> Float[Array, "*shape"]:
    """Return factor on a yield: ``up^alpha`` for alpha > 0, ``down^-alpha`` below (normsys; pyhf code 1).

    At the edge: a factor of zero as in ``code4``; 1 at alpha = 0, where the slope is the mean of the two sides, so that
    a fit that starts there sees both. The ``coefficients`` of code 4 are not used.
    """
    (up, log_up), (down, log_down) = _factor_and_logarithm(up), _factor_and_logarithm(down)
    rate = _by_side(alpha, log_up, -log_down)
    positive = (_by_side(alpha, up, down) > 0) | (alpha == 0)
    return jnp.where(positive, jnp.exp(alpha * rate), 0.0)


def _by_side(
    alpha: Float[Array, "*#shape"], above: Float[Array, "*shape"], below: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Return the value for the side of 0 that alpha is on; at 0 the mean."""
    return jnp.where(alpha > 0, above, jnp.where(alpha < 0, below, 0.5 * (above + below)))


def code4_coefficients(
    up: Float[Array, "*shape"], down: Float[Array, "*shape"]
) -> Float[Array, "powers ..."]:
    """Return coefficients of alpha^1 ... alpha^6 of ``code4``."""
    up, log_up = _factor_and_logarithm(up)
    down, log_down = _factor_and_logarithm(down)
    conditions = jnp.stack(
        [up - 1.0, down - 1.0, log_up * up, -log_down * down, log_up**2 * up, log_down**2 * down]
    )
    return jnp.einsum("rc,c...->r...", jnp.asarray(_CODE4, dtype=up.dtype), conditions)


def code4(
    alpha: Float[Array, "*#shape"],
    up: Float[Array, "*shape"],
    down: Float[Array, "*shape"],
    coefficients: Float[Array, "powers ..."],
) -> Float[Array, "*shape"]:
    """Return factor on a yield: exponential outside ``|alpha| < 1``, polynomial of degree six inside (normsys).

    ``up^alpha`` for alpha >= 1, ``down^-alpha`` for alpha <= -1, ``1 + sum_i a_i alpha^i`` between
    (CERN-OPEN-2012-016, section 4.1; pyhf code 4). At the edge: a factor of zero has the limits ``x^a -> 0``
    and ``x ln x -> 0`` where pyhf gives NaN; a negative one has no meaning, is refused when a workspace is
    read and counts as zero under trace.
    """
    side, log_side = _factor_and_logarithm(jnp.where(alpha > 0, up, down))
    outside = jnp.abs(alpha) >= 1
    exponent = jnp.where(outside, jnp.abs(alpha), 1.0)
    extrapolated = jnp.where(side > 0, jnp.exp(exponent * log_side), 0.0)
    inside = jnp.where(outside, 0.0, alpha)
    polynomial = coefficients[-1] * inside
    for coefficient in coefficients[-2::-1]:
        polynomial = (polynomial + coefficient) * inside
    return jnp.where(outside, extrapolated, 1.0 + polynomial)


def code0(
    alpha: Float[Array, "*#shape"], up: Float[Array, "*shape"], down: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Return addition to a yield: ``alpha up`` for alpha > 0, ``alpha down`` below (histosys; pyhf code 0).

    With ``up = hi - nominal`` and ``down = nominal - lo``, as for all three codes of histosys. At alpha = 0 the
    slope is the mean of the two sides.
    """
    return alpha * _by_side(alpha, up, down)


def code2(
    alpha: Float[Array, "*#shape"], up: Float[Array, "*shape"], down: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Return addition to a yield: ``a alpha^2 + b alpha`` for ``|alpha| <= 1``, linear outside (histosys; pyhf code 2).

    ``a = (up - down) / 2``, ``b = (up + down) / 2``. Outside this is what pyhf 0.7 computes,
    ``(b + 2 a) (alpha - 1)`` for alpha > 1 and ``(b - 2 a) alpha`` for alpha < -1, which jumps at both ends; a
    continuous extrapolation would add ``a + b`` to the first and take ``a`` from the second.
    """
    a, b = 0.5 * (up - down), 0.5 * (up + down)
    above, below = (b + 2.0 * a) * (alpha - 1.0), (b - 2.0 * a) * alpha
    return jnp.where(alpha > 1, above, jnp.where(alpha < -1, below, (a * alpha + b) * alpha))


def code4p(
    alpha: Float[Array, "*#shape"], up: Float[Array, "*shape"], down: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Return addition to a yield: linear outside ``|alpha| < 1``, polynomial of degree six inside (histosys).

    With ``up = hi - nominal`` and ``down = nominal - lo``: ``alpha up`` for alpha > 1, ``alpha down`` for
    alpha < -1, ``alpha (S + alpha A (15 - 10 alpha^2 + 3 alpha^4))`` between, ``S = (up + down) / 2``,
    ``A = (up - down) / 16`` (pyhf code 4p). Defined for every template, one-sided and negative ones included.
    """
    inside = jnp.clip(alpha, -1.0, 1.0)
    square = inside**2
    bend = square * (square * (square * 3.0 - 10.0) + 15.0)
    polynomial = bend * (0.0625 * (up - down)) + inside * (0.5 * (up + down))
    return jnp.where(alpha > 1, alpha * up, jnp.where(alpha < -1, alpha * down, polynomial))


FACTORS: dict[str, Callable[..., Array]] = {"code1": code1, "code4": code4}
"""Codes of normsys by pyhf's names: alpha, hi, lo, coefficients of code 4 -> factor."""

SHIFTS: dict[str, Callable[..., Array]] = {"code0": code0, "code2": code2, "code4p": code4p}
"""Codes of histosys by pyhf's names: alpha, up, down -> addition."""
