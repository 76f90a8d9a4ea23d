"""Histograms: the binned kernel density estimate (bKDE), differentiable, and its exact twin.

Smearing every event by a Gaussian of the bandwidth ``s`` and integrating over the bins gives the contents

    h_b = sum_i w_i [Phi((e_{b+1} - x_i) / s_{b+1}) - Phi((e_b - x_i) / s_b)]

(N. Simpson, L. Heinrich, neos, arXiv:2203.05570), smooth in values, weights, edges and bandwidth. As ``s``
goes to 0 it becomes the ordinary histogram. Many events are filled into a fine grid, at the price of an
ordinary histogram (``pipeline.relax.grid``), few are summed one by one (``pipeline.relax.direct``).
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int, Real

from pipeline.relax.arrays import as_float, comparable, like
from pipeline.relax.direct import direct_contents
from pipeline.relax.grid import MOST_UNEQUAL, accuracy_of, edgewise_contents, grid_contents, lay_out
from pipeline.relax.moments import sums

Flow = Literal["drop", "fold", "keep"]

# Events x edges up to which the formula, event by event, is faster than the grid with its fixed cost.
DIRECT_UP_TO = 2**14


def _stacked(
    values: Real[ArrayLike, "..."], weights: Real[ArrayLike, "..."] | None
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return values and weights in one dtype, each [events] or [variations, events]."""
    x = as_float(values)
    x, w = comparable(x, jnp.ones_like(x) if weights is None else as_float(weights))
    agree = x.ndim in (1, 2) and w.ndim in (1, 2) and x.shape[-1] == w.shape[-1]
    if not agree or (x.ndim == w.ndim and x.shape != w.shape):
        raise ValueError(
            f"histogram: values of shape {x.shape} with weights of shape {w.shape}; allowed: [events] or "
            "[variations, events] each, with the same events; stack the variations along the first axis"
        )
    return x, w


def _over_sets(
    one: Callable[[Array, Array], Array], values: Real[Array, "..."], weights: Float[Array, "..."]
) -> Float[Array, "*stack bins"]:
    """Return ``one(values, weights)`` of every set of events, together."""
    axes = tuple(0 if array.ndim == 2 else None for array in (values, weights))
    contents: Array = (one if axes == (None, None) else jax.vmap(one, axes))(values, weights)
    return contents


def _check_binning(edges: Real[ArrayLike, " edges"], flow: Flow) -> None:
    if np.ndim(edges) != 1 or np.size(edges) < 2:
        raise ValueError(
            f"histogram: edges of shape {np.shape(edges)}; allowed: one axis of 2 or more; "
            "give bins + 1 edges, rising"
        )
    if not isinstance(edges, jax.core.Tracer) and not np.all(np.asarray(edges)[1:] >= np.asarray(edges)[:-1]):
        raise ValueError(
            f"histogram: edges {np.asarray(edges).tolist()}; allowed: rising numbers; sort them, or make free "
            "ones with ordered_edges"
        )
    if flow not in get_args(Flow):
        raise ValueError(
            f"histogram: flow '{flow}'; allowed: {', '.join(get_args(Flow))}; 'drop' is np.histogram's"
        )


def _undefined(condition: Bool[Array, "..."], dtype: DTypeLike) -> Float[Array, "..."]:
    """Return NaN where a traced argument is wrong, which cannot raise, else 0."""
    return jnp.where(condition, jnp.nan, 0).astype(dtype)


def _falls(edges: Float[Array, " edges"]) -> Bool[Array, ""]:
    return ~jnp.all(edges[1:] >= edges[:-1])  # of NaN, too


def _check_bandwidth(bandwidth: Real[ArrayLike, "..."], edges: int) -> None:
    if np.shape(bandwidth) not in ((), (edges,)):
        raise ValueError(
            f"histogram: bandwidth of shape {np.shape(bandwidth)} for {edges} edges; allowed: one number or "
            "one per edge (bins + 1)"
        )
    if not isinstance(bandwidth, jax.core.Tracer) and not np.all(np.asarray(bandwidth) > 0):
        raise ValueError(
            f"histogram: bandwidth {np.asarray(bandwidth).tolist()}; allowed: above 0; use Exact() for the limit"
        )


def _open_ends(
    edges: Float[Array, " edges"], bandwidth: Float[Array, " edges"], flow: Flow
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return edges and bandwidths such that flow, kept or folded in, is in ordinary open bins."""
    if flow == "drop":
        return edges, bandwidth
    low, high = (jnp.full(1, end, dtype=edges.dtype) for end in (-np.inf, np.inf))
    if flow == "fold":
        return jnp.concatenate([low, edges[1:-1], high]), bandwidth
    return (
        jnp.concatenate([low, edges, high]),
        jnp.concatenate([bandwidth[:1], bandwidth, bandwidth[-1:]]),
    )


@partial(jax.jit, static_argnames="unequal")  # outside of any jit, too, loops compile once per shape
def _smooth_contents(
    values: Float[Array, "*sets events"],
    weights: Float[Array, "*other events"],
    edges: Float[Array, " edges"],
    bandwidth: Float[Array, " edges"],
    *,
    unequal: int,
) -> Float[Array, "*stack bins"]:
    """Return the bKDE of every set of events, by the cheapest route that is accurate."""
    binning = {"edges": edges, "bandwidth": bandwidth}
    if values.shape[-1] * edges.size <= DIRECT_UP_TO:
        return _over_sets(partial(direct_contents, **binning), values, weights)
    grid = lay_out(edges, bandwidth, accuracy_of(values.dtype), unequal)
    on_grid = partial(grid_contents, **binning, grid=grid, unequal=unequal)
    edgewise = partial(edgewise_contents, **binning)
    contents: Array = jax.lax.cond(
        grid.resolved, partial(_over_sets, on_grid), partial(_over_sets, edgewise), values, weights
    )
    return contents


def histogram(
    values: Real[ArrayLike, "..."],
    edges: Real[ArrayLike, " edges"],
    *,
    bandwidth: Real[ArrayLike, "..."],
    weights: Real[ArrayLike, "..."] | None = None,
    flow: Flow = "drop",
) -> Float[Array, "..."]:
    """Return the differentiable bin contents (bKDE, see the module) of weighted events.

    Args:

    - ``values``: [events], or [variations, events] for several sets at once; the result is [bins] or
      [variations, bins] accordingly, in the wider dtype of values and weights
    - ``edges``: bins + 1 rising numbers; the outer ones may be infinite
    - ``bandwidth``: the Gaussian's standard deviation in the unit of the values, above 0; one, or one per
      edge
    - ``weights``: [events] or [variations, events], of either sign; 1 by default
    - ``flow``: what lies outside is dropped, folded into the outer bins, or kept in two more bins, first
      and last

    A NaN value or a weight that is not finite, of weight 0 too, makes all contents of its set NaN. Falling
    edges and a bandwidth that is not above 0 are a ValueError; traced ones make all contents NaN. An infinite
    value lies outside, or in the bin with that infinite edge. Without events all contents are 0.

    The error of float32 contents is 1e-7 of the weight near the edges, of their derivatives 4e-5 of the
    largest; of float64, 1e-12 and 1e-10. Second derivatives in the values of many events are good to 4e-3
    (1e-7 in float64); those beyond the polynomials' degree, 3 (7), are 0. A kernel narrower than 1/2000 of the
    range (1/4000 in float64), or bandwidths of edges more than a factor 4 apart, cost one pass over the events
    per edge.
    """
    _check_binning(edges, flow)
    _check_bandwidth(bandwidth, np.size(edges))
    x, w = _stacked(values, weights)
    closed = like(x, edges)
    per_edge = jnp.broadcast_to(like(x, bandwidth), closed.shape)
    wrong = _falls(closed) | ~jnp.all(per_edge > 0)
    unequal = MOST_UNEQUAL if np.ndim(bandwidth) else 1
    smooth: Array = _smooth_contents(x, w, *_open_ends(closed, per_edge, flow), unequal=unequal)
    return smooth + _undefined(wrong, x.dtype)


def _with_flow(contents: Float[Array, "*stack slots"], flow: Flow) -> Float[Array, "*stack bins"]:
    """Return bins from [underflow, bins ..., overflow]."""
    if flow == "keep":
        return contents
    inner = contents[..., 1:-1]
    if flow == "drop":
        return inner
    return inner.at[..., 0].add(contents[..., 0]).at[..., -1].add(contents[..., -1])


def bin_index(values: Real[ArrayLike, "..."], edges: Real[ArrayLike, " edges"]) -> Int[Array, "..."]:
    """Return 0 for underflow, 1 ... bins, bins + 1 for overflow; an edge opens its bin, the last closes one.

    Compared in the wider dtype of values and edges, as NumPy does. NaN counts as overflow.
    """
    x, rising = comparable(values, edges)
    index = jnp.searchsorted(rising, x, side="right")
    return jnp.where(x == rising[-1], rising.size - 1, index)


def hard_histogram(
    values: Real[ArrayLike, "..."],
    edges: Real[ArrayLike, " edges"],
    *,
    weights: Real[ArrayLike, "..."] | None = None,
    flow: Flow = "drop",
) -> Float[Array, "..."]:
    """Return the contents of ``np.histogram(values, edges, weights=weights)``, as floats, also in ``jit``.

    Bins are half-open, ``[low, high)``, the last one closed. Stacks, ``flow``, bad events and falling edges
    as in ``histogram``; the weights keep their derivative, values and edges have none.
    """
    _check_binning(edges, flow)
    x, w = _stacked(values, weights)
    index = bin_index(values, edges)

    def contents(slot: Int[Array, " events"], weight: Float[Array, " events"]) -> Float[Array, " slots"]:
        return sums(weight, slot, np.size(edges) + 1).astype(weight.dtype)

    bad = jnp.any(jnp.isnan(x), axis=-1) | jnp.any(~jnp.isfinite(w), axis=-1)
    poison = _undefined(bad[..., None] | _falls(like(x, edges)), x.dtype)
    return _with_flow(_over_sets(contents, index, w) + poison, flow)


def bias(
    values: Real[ArrayLike, "..."],
    edges: Real[ArrayLike, " edges"],
    *,
    bandwidth: Real[ArrayLike, "..."],
    weights: Real[ArrayLike, "..."] | None = None,
    flow: Flow = "drop",
) -> Float[Array, "..."]:
    """Return what the relaxation adds to every bin: ``histogram`` minus ``hard_histogram``."""
    relaxed = histogram(values, edges, bandwidth=bandwidth, weights=weights, flow=flow)
    return relaxed - hard_histogram(values, edges, weights=weights, flow=flow)


def sumw2(
    values: Real[ArrayLike, "..."],
    edges: Real[ArrayLike, " edges"],
    *,
    bandwidth: Real[ArrayLike, "..."],
    weights: Real[ArrayLike, "..."] | None = None,
    flow: Flow = "drop",
) -> Float[Array, "..."]:
    """Return the sums of squared weights, the variance of the contents: ``sum_i w_i^2`` share of ``i`` in b.

    That is what hard bins have on average if the values were smeared by the bandwidth. (The variance of the
    smooth contents themselves, with the shares squared, would tell the fit of more events than there are.)
    """
    squared = None if weights is None else jnp.square(as_float(weights))
    return histogram(values, edges, bandwidth=bandwidth, weights=squared, flow=flow)
