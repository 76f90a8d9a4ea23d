"""Bin contents from moments on a grid: the price of a histogram, whatever the number of bins.

The share of an event below an edge, ``F(x) = Phi((e - x) / s)``, is one smooth function for all events. On
cells much smaller than the bandwidth it is a polynomial, so contents follow from the moments of the cells
(``pipeline.relax.moments``) and the polynomials' coefficients, a table of (edges x cells near an edge)
that knows nothing of the events:

    h_b = sum over the cells in bin b of M_0 + leak_{b+1} - leak_b
    leak_e = sum over the cells near e, above it, of M . coefficients of Phi((e - x) / s)
           - sum over the cells near e, below it, of M . coefficients of Phi((x - e) / s)

Leaks are sums of small numbers, never differences of numbers close to 1, so contents far from all events
keep their sign and size. The polynomials interpolate at the Chebyshev-Lobatto points of a cell, its ends
among them: they are continuous. Edges and bandwidth have their derivatives through the table.

``grid_contents`` fills one grid under all edges; where that would need too many cells,
``edgewise_contents`` fills a small grid around each edge, one pass over the events per edge.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from pipeline.relax.cells import Cells, rows_of
from pipeline.relax.moments import moments, sums

# 512 kB of float64 moments at order 4. With 8 cells to a bandwidth, kernels down to 1/2000 of the range fit.
CELLS = 2**14
# How much wider than the narrowest kernel the widest may be to share a grid.
MOST_UNEQUAL = 4


class Accuracy(NamedTuple):
    """What bounds the error of a share: the polynomials' order, the size of cells, the end of the tails.

    With half a cell ``a`` in bandwidths and the points ``u_m``, the error of a share is below ``a^order
    max|Phi^(order)| max|prod (u - u_m)| / order!``, and beyond ``reach`` bandwidths a tail is 0.
    """

    order: int
    cells_per_bandwidth: int
    reach: float


# Of a share and of its slope (largest value 0.4): 5e-8 and 9e-6; tails below 2e-8.
SINGLE = Accuracy(order=4, cells_per_bandwidth=8, reach=5.5)
# 1e-12 and 1e-10; tails below 4e-14.
DOUBLE = Accuracy(order=8, cells_per_bandwidth=4, reach=7.5)

_GUARD = 1 / 64  # by how much a cell may be narrower than asked, see _cell_width


class CellGrid(NamedTuple):
    """One grid under all edges; constants of the derivative."""

    cells: Cells
    crossing: Int[Array, " edges"]  # first cell above each edge; 0 or CELLS for an infinite one
    resolved: Bool[Array, ""]  # whether all kernels fit


def accuracy_of(dtype: DTypeLike) -> Accuracy:
    """Return the accuracy that suits values of ``dtype``."""
    return DOUBLE if jnp.dtype(dtype).itemsize >= np.dtype(np.float64).itemsize else SINGLE


def _window(accuracy: Accuracy, unequal: int) -> int:
    """Return on how many cells to either side of its edge a kernel may lie."""
    return math.ceil(accuracy.reach * accuracy.cells_per_bandwidth * (1 + _GUARD)) * unequal + 1


def _cell_width(narrowest: Float[Array, "..."], accuracy: Accuracy) -> Float[Array, "..."]:
    """Return the width asked, rounded down to 8 bits: multiples of it are exact, also in float32."""
    mantissa, exponent = jnp.frexp(narrowest / accuracy.cells_per_bandwidth)
    return jnp.ldexp(jnp.floor(mantissa * 256) / 256, exponent)


def lay_out(
    edges: Float[Array, " edges"], bandwidth: Float[Array, " edges"], accuracy: Accuracy, unequal: int
) -> CellGrid:
    """Return the grid for these edges, ``unequal`` the ratio of bandwidths to allow; ends may be infinite."""
    edges, bandwidth = jax.lax.stop_gradient((edges, bandwidth))
    finite = jnp.isfinite(edges)
    narrowest = jnp.min(jnp.where(finite, bandwidth, jnp.inf))
    width = _cell_width(jnp.where(jnp.isfinite(narrowest), narrowest, 1), accuracy)
    reach = _window(accuracy, unequal)
    place = jnp.where(finite, edges, 0) / width
    # Up to here cells have a number, and the dtype of the edges still resolves half a cell.
    furthest = 2.0 ** min(jnp.finfo(edges.dtype).nmant - 2, 28)  # type: ignore[no-untyped-call]
    number = jnp.round(jnp.clip(place, -furthest, furthest)).astype(jnp.int32)
    lowest = jnp.min(jnp.where(finite, number, np.iinfo(np.int32).max))
    highest = jnp.max(jnp.where(finite, number, np.iinfo(np.int32).min))
    first = jnp.where(jnp.any(finite), lowest, 0) - reach - 1
    fits = jnp.all(jnp.abs(place) < furthest) & (highest - first + reach + 1 < CELLS)
    inside = jnp.all(jnp.where(finite, bandwidth, 0) * accuracy.reach <= reach * width)
    crossing = jnp.where(finite, number - first, jnp.where(edges < 0, 0, CELLS))
    cells = Cells(jnp.zeros_like(width)[None], first[None], width[None])
    return CellGrid(cells, crossing, fits & inside & (width > 0) | ~jnp.any(finite))


def _interpolation(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the Chebyshev-Lobatto points of [-1, 1] and the matrix from values there to coefficients."""
    points = -np.cos(np.pi * np.arange(order) / (order - 1))
    return points, np.linalg.inv(np.vander(points, increasing=True))


def _leak_table(
    offset: Float[Array, " edges"],
    width: Float[Array, "#edges"],
    bandwidth: Float[Array, " edges"],
    accuracy: Accuracy,
    reach: int,
) -> Float[Array, "edges window order"]:
    """Return the coefficients of the signed leak over each edge on the ``2 reach`` cells around it.

    ``offset`` is the place of the edge from the start of the first cell above it.
    """
    points, inverse = _interpolation(accuracy.order)
    cell = np.arange(-reach, reach)
    place = (cell[:, None] + (points[None, :] + 1) / 2).astype(offset.dtype)
    sign = np.where(cell < 0, -1, 1).astype(offset.dtype)[None, :, None]
    distance = place[None] * width[:, None, None] - offset[:, None, None]
    tail = sign * 0.5 * jax.lax.erfc(sign * distance / bandwidth[:, None, None] * np.sqrt(0.5).item())
    table: Array = jnp.matmul(tail, inverse.T.astype(offset.dtype), precision="highest")
    return table


def _offset(
    edges: Float[Array, " edges"], number: Int[Array, " edges"], width: Float[Array, " one"]
) -> Float[Array, " edges"]:
    """Return ``edges - number width`` without rounding.

    Both products are exact (a number of 12 bits times the 8 bits of a width), and so are both differences (of
    numbers within a factor 2 of each other). The whole product, of up to 29 bits, would be rounded in float32.
    """
    fine = jnp.asarray(2**12, dtype=number.dtype)
    coarse = jax.lax.div(number, fine) * fine  # towards zero
    steps = (part.astype(edges.dtype) * width for part in (coarse, number - coarse))
    for step in steps:
        edges = edges - step
    return edges


def _poison(of_cells: Float[Array, "*edges cells order"]) -> Float[Array, ""]:
    """Return NaN if the moments show a NaN value or a weight that is not finite, else 0."""
    return jnp.where(jnp.all(jnp.isfinite(of_cells)), 0, jnp.nan).astype(of_cells.dtype)


def grid_contents(
    values: Float[Array, " events"],
    weights: Float[Array, " events"],
    edges: Float[Array, " edges"],
    bandwidth: Float[Array, " edges"],
    *,
    grid: CellGrid,
    unequal: int,
) -> Float[Array, " bins"]:
    """Return the bKDE of one set of values on a resolved ``grid``; all NaN if an event is not finite."""
    accuracy = accuracy_of(values.dtype)
    reach = _window(accuracy, unequal)
    of_cells = moments(values, weights, grid.cells, number=CELLS, order=accuracy.order)[0]
    cell = jnp.arange(CELLS, dtype=jnp.int32)
    slot = jnp.searchsorted(grid.crossing, cell, side="right")
    slots = sums(of_cells[:, 0], slot, edges.size + 1)
    is_open = ~jnp.isfinite(edges)
    number = grid.crossing + grid.cells.first
    offset = _offset(jnp.where(is_open, 0, edges), jnp.where(is_open, 0, number), grid.cells.width)
    narrow = jnp.where(is_open, 1, bandwidth)
    table = _leak_table(offset, grid.cells.width, narrow, accuracy, reach)
    near = grid.crossing[:, None] + jnp.arange(-reach, reach, dtype=jnp.int32)[None, :]
    leak = jnp.einsum(
        "ewk,ewk->e", rows_of(of_cells, near), table.astype(of_cells.dtype), precision="highest"
    )
    leak = jnp.where(is_open, 0, leak)
    return (slots[1:-1] + jnp.diff(leak) + _poison(of_cells)).astype(values.dtype)


def edgewise_contents(
    values: Float[Array, " events"],
    weights: Float[Array, " events"],
    edges: Float[Array, " edges"],
    bandwidth: Float[Array, " edges"],
) -> Float[Array, " bins"]:
    """Return the bKDE of one set of values, whatever the bandwidths, in a pass per edge; NaN as above.

    Contents are differences of what is below the edges: without float64 (``jax_enable_x64``), 1e-7 of the
    whole weight is lost in them.
    """
    accuracy = accuracy_of(values.dtype)
    reach = _window(accuracy, 1)
    is_open = ~jnp.isfinite(edges)
    at, narrow = jnp.where(is_open, 0, edges), jnp.where(is_open, 1, bandwidth)
    centre = jax.lax.stop_gradient(at)
    width = jax.lax.stop_gradient(_cell_width(narrow, accuracy))
    cells = Cells(centre, jnp.full(edges.shape, -reach - 1, dtype=jnp.int32), width)
    of_cells = moments(values, weights, cells, number=2 * reach + 2, order=accuracy.order)
    table = _leak_table(at - centre, width, narrow, accuracy, reach)
    leak = jnp.einsum("ewk,ewk->e", of_cells[:, 1:-1], table.astype(of_cells.dtype), precision="highest")
    below = of_cells[:, : reach + 1, 0].sum(axis=1) + leak
    total = of_cells[:, :, 0].sum(axis=1)
    below = jnp.where(is_open, jnp.where(edges < 0, 0, total), below)
    return (jnp.diff(below) + _poison(of_cells)).astype(values.dtype)
