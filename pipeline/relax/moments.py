"""Moments of weighted events in the cells of uniform grids, and polynomials on the cells: two transposes.

With ``c = floor((x - origin) / width) - first`` the cell of an event on grid ``g``, ``u`` in [-1, 1) its
place there, and a factor ``f`` per event,

    moments      M[g, j, k] = sum over the events of cell j of f w u^k       linear in w and f
    polynomials  y          = f sum_gk G[g, c, k] u^k, per event             linear in G and f

Each is the other's transpose, and their derivatives in ``x`` are again of these two forms, so both are JAX
primitives that differentiate in either mode to any order. (The factor is 1, or the weights where ``w`` is a
change of ``x``: their product would be another array of the size of the events.)
``pipeline.relax.cells`` has the loops.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int

from pipeline.relax.cells import BLOCK, GPU_BLOCK, Cells, evaluate_polynomials, sum_moments

Operand = Any  # an array, a tracer, or one of JAX's own: a literal, a zero, what is to be transposed

_moments_p = Primitive("moments_in_cells")
_polynomials_p = Primitive("polynomials_on_cells")


def moments(
    values: Float[Array, " events"],
    weights: Float[Array, " events"],
    cells: Cells,
    *,
    number: int,
    order: int,
    factor: Float[ArrayLike, "*events"] = 1.0,
) -> Float[Array, "grids cells order"]:
    """Return ``sum f w u^k`` for each of ``number`` cells and ``k < order``, in JAX's default float type.

    The two outermost cells take what lies beyond, at ``u = 0``, with no derivative in ``x``. The moments of a
    NaN value are NaN in the first cell. A factor for all events is a constant.
    """
    factor = jnp.asarray(factor, dtype=values.dtype)
    out: Array = _moments_p.bind(values, factor, weights, *cells, number=number, order=order)
    return out


def polynomials(
    values: Float[Array, " events"],
    coefficients: Float[Array, "grids cells order"],
    cells: Cells,
    *,
    factor: Float[ArrayLike, "*events"] = 1.0,
) -> Float[Array, " events"]:
    """Return ``f sum coefficients[grid, cell, k] u^k`` for every event; NaN for NaN."""
    factor = jnp.asarray(factor, dtype=values.dtype)
    out: Array = _polynomials_p.bind(values, factor, coefficients, *cells)
    return out


def sums(
    weights: Float[Array, " events"], slots: Int[Array, " events"], number: int
) -> Float[Array, " slots"]:
    """Return the sum of weights in each of ``number`` slots, added in float64 whatever JAX's setting."""
    one = jnp.ones(1, dtype=weights.dtype)
    cells = Cells(0 * one, jnp.full(1, -1, dtype=jnp.int32), one)
    out: Array = moments(slots.astype(weights.dtype), weights, cells, number=number + 2, order=1)
    return out[0, 1:-1, 0]


def _slopes(
    number: int, order: int, width: Float[Array, " grids"], dtype: DTypeLike
) -> Float[Array, "grids cells lower"]:
    """Return ``d u^k / dx`` in units of ``u^(k-1)``, ``2 k / width``; 0 in the outermost cells, where u is 0."""
    cell = jnp.arange(number)[:, None]
    inner = (cell > 0) & (cell < number - 1)
    degree = jnp.where(inner, jnp.arange(1, order)[None, :], 0).astype(dtype)
    return degree[None] * (2 / width.astype(dtype))[:, None, None]


def _lowered(
    coefficients: Float[Array, "grids cells order"], width: Float[Array, " grids"]
) -> Float[Array, "grids cells lower"]:
    """Return the coefficients of the derivative in ``x``, one fewer."""
    _, number, order = coefficients.shape
    return coefficients[..., 1:] * _slopes(number, order, width, coefficients.dtype)


def _raised(
    moments: Float[Array, "grids cells lower"], width: Float[Array, " grids"]
) -> Float[Array, "grids cells order"]:
    """Return the change of the moments with ``x``, from those of ``w dx``, one fewer: the transpose of the above."""
    _, number, lower = moments.shape
    change = moments * _slopes(number, lower + 1, width, moments.dtype)
    return jnp.pad(change, ((0, 0), (0, 0), (1, 0)))


def _moments_jvp(
    primals: Sequence[Operand], tangents: Sequence[Operand], *, number: int, order: int
) -> tuple[Array, Array]:
    values, factor, weights, *constants = primals
    d_values, d_factor, d_weights = tangents[:3]
    cells = Cells(*constants)
    of = partial(moments, values, cells=cells, number=number)
    out = of(weights, factor=factor, order=order)
    change = jnp.zeros_like(out)
    if not isinstance(d_weights, ad.Zero):
        change = change + of(d_weights, factor=factor, order=order)
    if not isinstance(d_factor, ad.Zero):
        change = change + of(d_factor, factor=weights, order=order)
    if order > 1 and not isinstance(d_values, ad.Zero):
        change = change + _raised(of(d_values, factor=factor * weights, order=order - 1), cells.width)
    return out, change


def _polynomials_jvp(primals: Sequence[Operand], tangents: Sequence[Operand]) -> tuple[Array, Array]:
    values, factor, coefficients, *constants = primals
    d_values, d_factor, d_coefficients = tangents[:3]
    cells = Cells(*constants)
    of = partial(polynomials, values, cells=cells)
    out = of(coefficients, factor=factor)
    change = jnp.zeros_like(out)
    if not isinstance(d_coefficients, ad.Zero):
        change = change + of(d_coefficients, factor=factor)
    if not isinstance(d_factor, ad.Zero):
        change = change + of(coefficients, factor=d_factor)
    if coefficients.shape[-1] > 1 and not isinstance(d_values, ad.Zero):
        change = change + of(_lowered(coefficients, cells.width), factor=factor * d_values)
    return out, change


def _moments_transpose(
    cotangent: Operand,
    values: Operand,
    factor: Operand,
    weights: ad.UndefinedPrimal,
    *cells: Operand,
    number: int,
    order: int,
) -> tuple[Array | None, ...]:
    return None, None, polynomials(values, cotangent, Cells(*cells), factor=factor), None, None, None


def _polynomials_transpose(
    cotangent: Operand,
    values: Operand,
    factor: Operand,
    coefficients: Operand,
    *constants: Operand,
) -> tuple[Array | None, ...]:
    cells = Cells(*constants)
    if isinstance(factor, ad.UndefinedPrimal):
        return None, polynomials(values, coefficients, cells, factor=cotangent), None, None, None, None
    _, number, order = coefficients.aval.shape
    transposed = moments(values, cotangent, cells, number=number, order=order, factor=factor)
    return None, None, transposed.astype(coefficients.aval.dtype), None, None, None


def _one_after_the_other(
    primitive: Primitive, arguments: Sequence[Operand], axes: Sequence[int | None], **params: int
) -> tuple[Array, int]:
    """Batch by a loop: the memory stays that of one set of events."""
    mapped = {
        i: jnp.moveaxis(argument, axis, 0)
        for i, (argument, axis) in enumerate(zip(arguments, axes, strict=True))
        if axis is not None
    }

    def one(row: dict[int, Array]) -> Array:
        out: Array = primitive.bind(*(row.get(i, argument) for i, argument in enumerate(arguments)), **params)
        return out

    return lax.map(one, mapped), 0


def _lowering(function: Callable[..., Array], block: int) -> Callable[..., Any]:
    run = partial(function, block=block)

    def rule(context: mlir.LoweringRuleContext, *arguments: object, **params: int) -> Any:
        dtype = context.avals_out[0].dtype
        with jax.enable_x64(True):
            lower = mlir.lower_fun(lambda *a, **p: run(*a, **p).astype(dtype), multiple_results=False)
            return lower(context, *arguments, **params)

    return rule


for _primitive, _function, _jvp, _transpose in (
    (_moments_p, sum_moments, _moments_jvp, _moments_transpose),
    (_polynomials_p, evaluate_polynomials, _polynomials_jvp, _polynomials_transpose),
):
    mlir.register_lowering(_primitive, _lowering(_function, BLOCK))
    for _gpu in ("cuda", "rocm"):
        mlir.register_lowering(_primitive, _lowering(_function, GPU_BLOCK), platform=_gpu)
    ad.primitive_jvps[_primitive] = _jvp
    ad.primitive_transposes[_primitive] = _transpose
    batching.primitive_batchers[_primitive] = partial(_one_after_the_other, _primitive)


def _compiled(bind: Callable[..., Array], static: Sequence[str] = ()) -> Callable[..., Array]:
    """Run eagerly by compiling, under ``jax.disable_jit`` too: there is no other implementation."""
    compiled = jax.jit(bind, static_argnames=static)

    def run(*arguments: Array, **params: int) -> Array:
        with jax.disable_jit(False):
            out: Array = compiled(*arguments, **params)
            return out

    return run


_moments_p.def_impl(_compiled(_moments_p.bind, ("number", "order")))
_polynomials_p.def_impl(_compiled(_polynomials_p.bind))


def _moments_shape(values: ShapedArray, *others: ShapedArray, number: int, order: int) -> ShapedArray:
    return ShapedArray((others[-1].size, number, order), jnp.result_type(float))


def _polynomials_shape(values: ShapedArray, *_: ShapedArray) -> ShapedArray:
    return ShapedArray(values.shape, values.dtype)


_moments_p.def_abstract_eval(_moments_shape)
_polynomials_p.def_abstract_eval(_polynomials_shape)
