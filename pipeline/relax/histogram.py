"""Histograms: the binned kernel density estimate (bKDE), differentiable, and its exact twin.

Smearing every event by a Gaussian of the bandwidth ``s`` and integrating over the bins gives the contents

    h_b = sum_i w_i [Phi((e_{b+1} - x_i) / s_{b+1}) - Phi((e_b - x_i) / s_b)]

(N. Simpson, L. Heinrich, neos, arXiv:2203.05570), smooth in values, weights, edges and bandwidth. As ``s``
goes to 0 it becomes the ordinary histogram. Evaluated directly, in blocks of events that are computed again
in the backward pass, so that nothing of the size events x bins is ever held.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Real

from pipeline.relax.arrays import as_float, comparable, like

Flow = Literal["drop", "fold", "keep"]

# Bounds the memory at EVENTS_PER_BLOCK x (bins + 1) numbers per intermediate; below some thousand the loop
# over blocks costs more than the arithmetic inside.
EVENTS_PER_BLOCK = 4096


def _stacked(
    values: Real[ArrayLike, "..."], weights: Real[ArrayLike, "..."] | None
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return values and weights in one dtype and one shape, [events] or [variations, events]."""
    x = as_float(values)
    x, w = comparable(x, jnp.ones_like(x) if weights is None else as_float(weights))
    agree = x.ndim in (1, 2) and w.ndim in (1, 2) and x.shape[-1] == w.shape[-1]
    if not agree or (x.ndim == w.ndim and x.shape != w.shape):
        raise ValueError(
            f"histogram: values of shape {x.shape} with weights of shape {w.shape}; allowed: [events] or "
            "[variations, events] each, with the same events; stack the variations along the first axis"
        )
    shape = np.broadcast_shapes(x.shape, w.shape)
    return jnp.broadcast_to(x, shape), jnp.broadcast_to(w, shape)


def _check_binning(edges: Real[ArrayLike, " edges"], flow: Flow) -> None:
    if np.ndim(edges) != 1 or np.size(edges) < 2:
        raise ValueError(
            f"histogram: edges of shape {np.shape(edges)}; allowed: one axis of 2 or more; "
            "give bins + 1 edges, rising"
        )
    if flow not in get_args(Flow):
        raise ValueError(
            f"histogram: flow '{flow}'; allowed: {', '.join(get_args(Flow))}; 'drop' is np.histogram's"
        )


def _open_ends(
    edges: Float[Array, " edges"], bandwidth: Float[Array, "..."], flow: Flow
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return edges and bandwidth per edge such that flow, kept or folded in, is in ordinary open bins."""
    if bandwidth.shape not in ((), edges.shape):
        raise ValueError(
            f"histogram: bandwidth of shape {bandwidth.shape} for {edges.size} edges; allowed: one number or "
            "one per edge (bins + 1)"
        )
    per_edge = jnp.broadcast_to(bandwidth, edges.shape)
    if flow == "drop":
        return edges, per_edge
    low, high = (jnp.full(1, end, dtype=edges.dtype) for end in (-np.inf, np.inf))
    if flow == "fold":
        return jnp.concatenate([low, edges[1:-1], high]), per_edge
    return jnp.concatenate([low, edges, high]), jnp.concatenate([per_edge[:1], per_edge, per_edge[-1:]])


def _tails(
    values: Float[Array, " events"], edges: Float[Array, " edges"], bandwidth: Float[Array, " edges"]
) -> tuple[Float[Array, "events edges"], Bool[Array, "events edges"]]:
    """Return the share of each event beyond each edge, on its far side, and whether that side is below.

    An infinite edge or value leaves no tail and no gradient, whatever the bandwidth.
    """
    is_open = jnp.isinf(edges)[None, :]
    distance = jnp.where(is_open[0], 0, edges)[None, :] - values[:, None]
    overflows = jnp.isinf(distance / bandwidth[None, :]) | is_open
    z = jnp.where(overflows, 0, distance) / bandwidth[None, :]
    tail = 0.5 * jax.lax.erfc(jnp.where(z < 0, -z, z) * np.sqrt(0.5).item())
    below = jnp.where(is_open, edges[None, :] < 0, distance < 0)
    return jnp.where(overflows, 0, tail), below


def bin_shares(
    values: Float[Array, " events"], edges: Float[Array, " edges"], bandwidth: Float[Array, " edges"]
) -> Float[Array, "events bins"]:
    """Return the share of every smeared event in every bin, ``Phi(z_{b+1}) - Phi(z_b)``, ``z = (e - x) / s``.

    Taken as a difference of tails, never of numbers close to 1, so that shares far from the event keep their
    relative precision also in float32.
    """
    tail, below = _tails(values, edges, bandwidth)
    low, high = tail[:, :-1], tail[:, 1:]
    across = jnp.where(below[:, :-1], 1 - low - high, low - high)
    return jnp.where(below[:, 1:], high - low, across)


def _smooth_contents(
    values: Float[Array, " events"],
    weights: Float[Array, " events"],
    edges: Float[Array, " edges"],
    bandwidth: Float[Array, " edges"],
) -> Float[Array, " bins"]:
    """Return the bKDE of one set of values, a block of events at a time, in the order of the events."""
    size = max(1, min(EVENTS_PER_BLOCK, values.size))
    padding = -values.size % size

    @jax.checkpoint
    def add(total: Float[Array, " bins"], block: Float[Array, "two events"]) -> Float[Array, " bins"]:
        return total + block[1] @ bin_shares(block[0], edges, bandwidth)

    padded = jnp.pad(jnp.stack([values, weights]), ((0, 0), (0, padding)))
    blocks = jnp.moveaxis(padded.reshape(2, -1, size), 1, 0)
    start = jnp.zeros(edges.size - 1, dtype=values.dtype)
    return jax.lax.scan(lambda total, block: (add(total, block), None), start, blocks)[0]


@jax.jit  # outside of any jit, too, the loops compile once per shape
def _stacked_contents(
    values: Float[Array, "*stack events"],
    weights: Float[Array, "*stack events"],
    edges: Float[Array, " edges"],
    bandwidth: Float[Array, " edges"],
) -> Float[Array, "*stack bins"]:
    """Return the bKDE of every set of values, one set after the other."""
    if values.ndim == 1:
        return _smooth_contents(values, weights, edges, bandwidth)
    contents: Array = jax.lax.map(
        lambda one: _smooth_contents(one[0], one[1], edges, bandwidth), (values, weights)
    )
    return contents


def _poison(
    values: Float[Array, "*stack events"], weights: Float[Array, "*stack events"]
) -> Float[Array, "*stack 1"]:
    """Return what is added to all bins: NaN if there is a NaN among values or weights, else 0."""
    bad = jnp.isnan(values) | jnp.isnan(weights)
    return jnp.where(jnp.any(bad, axis=-1, keepdims=True), jnp.nan, jnp.zeros((), dtype=values.dtype))


def histogram(
    values: Real[ArrayLike, "..."],
    edges: Real[ArrayLike, " edges"],
    *,
    bandwidth: Real[ArrayLike, "..."],
    weights: Real[ArrayLike, "..."] | None = None,
    flow: Flow = "drop",
) -> Float[Array, "..."]:
    """Return the differentiable bin contents (bKDE, see the module) of weighted events.

    Arguments:

    - ``values``: [events], or [variations, events] for several sets at once; the result is [bins] or
      [variations, bins] accordingly, in the wider dtype of values and weights
    - ``edges``: bins + 1 rising numbers; the outer ones may be infinite
    - ``bandwidth``: the Gaussian's standard deviation in the unit of the values, above 0; one, or one per
      edge
    - ``weights``: [events] or [variations, events], of either sign; 1 by default
    - ``flow``: what lies outside is dropped, folded into the outer bins, or kept in two more bins, first
      and last

    A NaN value or weight, of weight 0 too, makes all contents of its set NaN. An infinite value lies
    outside, or in the bin with that infinite edge. Without events all contents are 0.
    """
    _check_binning(edges, flow)
    x, w = _stacked(values, weights)
    rising, per_edge = _open_ends(like(x, edges), like(x, bandwidth), flow)
    smooth: Array = _stacked_contents(x, w, rising, per_edge)
    return smooth + _poison(x, w)


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

    Bins are half-open, ``[low, high)``, the last one closed. Stacks, ``flow`` and NaN as in
    :func:`histogram`; the weights keep their derivative, values and edges have none.
    """
    _check_binning(edges, flow)
    x, w = _stacked(values, weights)
    index = jnp.broadcast_to(bin_index(values, edges), x.shape)

    def contents(slot: Int[Array, " events"], weight: Float[Array, " events"]) -> Float[Array, " slots"]:
        return jax.ops.segment_sum(weight, slot, num_segments=np.size(edges) + 1)

    summed = contents(index, w) if x.ndim == 1 else jax.vmap(contents)(index, w)
    return _with_flow(summed + _poison(x, w), flow)
