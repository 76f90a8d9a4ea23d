"""Rules for the kernel's bandwidth: of the bins, of the events, and its way from wide to narrow.

A bandwidth of the order of the bins keeps the relaxed contents close to the exact ones; the rules for
density estimation, Scott's and Silverman's, follow the events instead; an annealed one starts wide, where
the objective is smooth, and ends narrow, where it is that of the exact histogram.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real

from pipeline.relax.arrays import as_float, comparable, like, weighted


def _check_positive(of: str, **numbers: Real[ArrayLike, "..."]) -> None:
    for name, number in numbers.items():
        known = np.ones(1) if isinstance(number, jax.core.Tracer) else np.asarray(number)
        if not np.all((known > 0) & (known < np.inf)):
            raise ValueError(f"{of}: {name} {number}; allowed: finite and above 0; give a positive number")


def _check_edges(edges: Real[ArrayLike, " edges"]) -> None:
    if np.size(edges) < 2:
        raise ValueError(
            f"bandwidth: {np.size(edges)} edges; allowed: 2 or more; give bins + 1 edges, rising"
        )
    if isinstance(edges, jax.core.Tracer):
        return
    rising = np.asarray(edges)
    finite = np.isfinite(rising)
    if not np.all(rising[1:] > rising[:-1]) or not np.any(finite[1:] & finite[:-1]):
        raise ValueError(
            f"bandwidth: edges {rising.tolist()}; allowed: strictly rising ones with a finite bin among them; "
            "merge empty bins, or give the bandwidth as a number"
        )


def _usable(bandwidth: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return NaN for what traced edges, which cannot raise, make no bandwidth."""
    return jnp.where((bandwidth > 0) & (bandwidth < jnp.inf), bandwidth, jnp.nan)


def fraction_of_bin(
    edges: Real[ArrayLike, " edges"], fraction: Real[ArrayLike, ""]
) -> Float[Array, " edges"]:
    """Return a bandwidth per edge: ``fraction`` times the narrower of the two bins that meet there.

    An outer edge has one bin. Next to an infinite bin the other one counts, and an infinite edge takes the
    bandwidth of its neighbour. Between bins of equal width it has a kink, with the derivative of one side or,
    where they are equal to the last bit, the mean. Edges that do not rise, or without a finite bin, are a
    ValueError; traced ones give NaN.
    """
    _check_edges(edges)
    _check_positive("fraction_of_bin", fraction=fraction)
    rising = as_float(edges)
    widths, none = rising[1:] - rising[:-1], jnp.full(1, jnp.inf, dtype=rising.dtype)
    narrower = jnp.minimum(jnp.concatenate([none, widths]), jnp.concatenate([widths, none]))
    inward = jnp.concatenate([narrower[1:2], narrower[1:-1], narrower[-2:-1]])
    return _usable(like(rising, fraction) * jnp.where(jnp.isinf(rising), inward, narrower))


def fraction_of_narrowest(
    edges: Real[ArrayLike, " edges"], fraction: Real[ArrayLike, ""]
) -> Float[Array, ""]:
    """Return one bandwidth for all edges: ``fraction`` times the narrowest bin; see ``fraction_of_bin``."""
    _check_edges(edges)
    _check_positive("fraction_of_narrowest", fraction=fraction)
    rising = as_float(edges)
    return _usable(like(rising, fraction) * jnp.min(rising[1:] - rising[:-1]))


def _real_events(
    values: Real[ArrayLike, " events"], weights: Real[ArrayLike, "..."] | None
) -> tuple[Float[Array, " events"], Float[Array, " events"]]:
    """Return values less the largest, and weights; both 0, without derivative, for events of weight 0."""
    x, w = weighted("bandwidth", values, weights)
    real = w != 0
    # The rules do not depend on the origin; from one of the events, equal values have variance 0 exactly.
    origin = jax.lax.stop_gradient(jnp.max(jnp.where(real, x, -jnp.inf), initial=-jnp.inf))
    return jnp.where(real, x - origin, 0), jnp.where(real, w, 0)


def scott(
    values: Real[ArrayLike, " events"], weights: Real[ArrayLike, "..."] | None = None
) -> Float[Array, ""]:
    """Return Scott's bandwidth of weighted events, ``sigma_w n_eff^(-1/5)``.

    With ``W = sum w``, the effective number of events ``n_eff = W^2 / sum w^2`` and the mean ``m = sum w x / W``
    the variance is the unbiased one, as of ``np.cov`` with ``aweights`` and so ``scipy.stats.gaussian_kde``:

        sigma_w^2 = n_eff / (n_eff - 1) sum w (x - m)^2 / W

    (D. W. Scott, Multivariate Density Estimation, 1992). Events of weight 0 are not looked at, not even a
    NaN, and get no derivative. Weights of both signs enter the formulas as they stand. Wherever ``W``,
    ``sum w (x - m)^2`` or ``n_eff - 1`` is not above 0 (no event, one event, equal values, cancelling
    weights) no bandwidth is defined and the result is NaN.
    """
    x, w = _real_events(values, weights)
    total = jnp.sum(w)
    share = w / jnp.where(total > 0, total, jnp.nan)
    per_event = jnp.sum(share**2)  # 1 / n_eff
    variance = jnp.sum(share * (x - jnp.sum(share * x)) ** 2)
    defined = (variance > 0) & (per_event < 1)
    sigma = jnp.sqrt(jnp.where(defined, variance / (1 - per_event), jnp.nan))
    return sigma * per_event ** (1 / 5)


def silverman(
    values: Real[ArrayLike, " events"], weights: Real[ArrayLike, "..."] | None = None
) -> Float[Array, ""]:
    """Return Silverman's bandwidth, ``(4 / 3)^(1/5) sigma_w n_eff^(-1/5)``, with all of ``scott``.

    It is the best one for Gaussian events (B. W. Silverman, Density Estimation, 1986, eq. 3.28) and the rule
    that SciPy calls silverman; the book's rule of thumb, eq. 3.31, has the smaller factor 0.9.
    """
    factor: float = (4 / 3) ** (1 / 5)
    return factor * scott(values, weights)


def anneal(
    initial: Real[ArrayLike, "*edges"], final: Real[ArrayLike, "*edges"], progress: Real[ArrayLike, ""]
) -> Float[Array, "*edges"]:
    """Return the bandwidth on its way: ``initial (final / initial)^t``, with ``t`` the progress within [0, 1].

    Geometric, ``initial^(1 - t) final^t``: every step narrows by the same factor. It is ``initial`` and
    ``final`` exactly at and beyond the ends. Widths must be above 0. Plain numbers are computed in float64
    on the host, the same on every device; with a JAX array among them, in the wider dtype of the widths.
    """
    _check_positive("anneal", initial=initial, final=final)
    first: Any = initial
    last: Any = final
    t: Any
    if any(isinstance(number, jax.Array) for number in (initial, final, progress)):
        first, last = comparable(initial, final)
        t = jnp.clip(like(first, progress), 0, 1)
    else:
        t = np.clip(progress, 0, 1)
    return as_float(jnp.where(t >= 1, last, first * (last / first) ** t))
