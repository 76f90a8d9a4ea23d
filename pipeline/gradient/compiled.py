"""Both sweeps over chunks of one shape, compiled: their templates, and the pullback."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from pipeline.containers import AnyArray, Columns, Templates
from pipeline.gradient.accumulator import Accumulator, added, added_at
from pipeline.gradient.chunks import Parts
from pipeline.gradient.vectors import vector_of
from pipeline.gradient.work import Problem
from pipeline.templates.fill import EXACT, ExactCuts, Mode, Recipe, Widths, fill

Tree = TypeVar("Tree")
FreeValues = dict[str, AnyArray | np.number | float]
Sweeps = tuple[Callable[..., Accumulator], Callable[..., Accumulator]]  # forward and back


class Programs:
    """Compiled functions by problem and variations; of an analysis that is edited, those of its present source only."""

    def __init__(self, make: Callable[[Problem, tuple[str, ...]], Sweeps]) -> None:
        self._make = make
        self._kept: dict[tuple[Problem, tuple[str, ...]], Sweeps] = {}

    def __call__(self, problem: Problem, variations: tuple[str, ...]) -> Sweeps:
        """Return the compiled functions of a problem, made where they are not there."""
        key = (problem, variations)
        if key not in self._kept:
            self._kept = {k: sweeps for k, sweeps in self._kept.items() if not problem.succeeds(k[0])}
            self._kept[key] = self._make(problem, variations)
        return self._kept[key]

    def cache_clear(self) -> None:
        """Forget all."""
        self._kept = {}


class Visit(eqx.Module):
    """What a sweep goes through: ``count`` places of a stack, and of each the number of its sample."""

    parts: Parts  # [chunks, events, ...]
    places: Int[AnyArray, " chunks"]
    samples: Int[AnyArray, " chunks"]
    count: Int[AnyArray, ""]


@Programs
def compiled(problem: Problem, variations: tuple[str, ...]) -> Sweeps:
    """Return both sweeps over the chunks of a stack, compiled once per process and shape of a chunk.

    Each takes a sum, which it gives up, and returns it with what the chunks add: forward [samples, numbers of the
    templates], back [numbers of the gradient], in the order of ``vector_of``.
    """

    def templates(
        parameters: FreeValues,
        columns: Columns,
        mode: Mode,
        factor: Float[AnyArray, " events"],
        copies: Float[AnyArray, " events"] | None = None,
    ) -> Templates:
        with mixed_as_numpy_does():
            worked_on = in_types(problem, parameters, columns, mode)
            filled = fill(recipe(problem, variations), *worked_on, factor, copies)
        doubles: Templates = jax.tree.map(lambda array: array.astype(jnp.float64), filled)
        return doubles

    def forward(
        total: Accumulator,
        parameters: FreeValues,
        visit: Visit,
        mode: Mode,
        copies: Float[AnyArray, "chunks events"] | None,
    ) -> Accumulator:
        def step(number: Array, total: Accumulator) -> Accumulator:
            place, sample = visit.places[number], visit.samples[number]
            (columns, factor), own = _chunk((visit.parts, copies), place)
            found = templates(parameters, columns, mode, factor, own)
            return added_at(sample, total, vector_of(found))

        found: Accumulator = jax.lax.fori_loop(0, visit.count, step, total)
        return found

    def pull(
        total: Accumulator,
        parameters: FreeValues,
        visit: Visit,
        widths: Widths,
        cotangent: Templates,
        copies: Float[AnyArray, "chunks events"] | None = None,
    ) -> Accumulator:
        def step(number: Array, total: Accumulator) -> Accumulator:
            (columns, factor), own = _chunk((visit.parts, copies), visit.places[number])
            slopes = _chunk(cotangent, visit.samples[number])
            with mixed_as_numpy_does():
                _, transpose = jax.vjp(lambda p: templates(p, columns, widths, factor, own), parameters)
                gradient = transpose(slopes)[0]
            return added(total, vector_of(gradient))

        found: Accumulator = jax.lax.fori_loop(0, visit.count, step, total)
        return found

    return jax.jit(forward, donate_argnums=0), jax.jit(pull, donate_argnums=0)


def _chunk(tree: Tree, place: Array) -> Tree:
    """Return what lies at one place along the first axis of all arrays."""
    found: Tree = jax.tree.map(lambda array: jax.lax.dynamic_index_in_dim(array, place, keepdims=False), tree)
    return found


def recipe(problem: Problem, variations: tuple[str, ...]) -> Recipe:
    """Return the recipe of the templates of a problem."""
    return Recipe(problem.analysis, problem.binnings, variations, problem.linear, problem.memory)


@contextlib.contextmanager
def mixed_as_numpy_does() -> Iterator[None]:
    """Let analyses mix types of columns, and compute products of matrices in all the bits of their type."""
    with jax.numpy_dtype_promotion("standard"), jax.default_matmul_precision("highest"):
        yield


def in_types(
    problem: Problem, parameters: FreeValues, columns: Columns, mode: Mode
) -> tuple[FreeValues, Columns, Mode]:
    """Return the columns for selection and observables: relaxed in the configured precision, integers as they are.

    Exact ones are worked on in the columns' own types, at the very thresholds and edges.
    """
    if not isinstance(mode, ExactCuts):
        return (
            in_precision(problem, parameters),
            in_precision(problem, columns),
            in_precision(problem, mode),
        )
    exact = {binning.parameter for binning in problem.binnings}
    exact |= {name for name, array in parameters.items() if np.ndim(array) == 0}
    arrays = {n: a if n in exact else in_precision(problem, a) for n, a in parameters.items()}
    return arrays, columns, EXACT


def in_precision(problem: Problem, tree: Tree) -> Tree:
    """Return the same numbers in the precision of relaxed selections; whole numbers and booleans as they are."""

    def one(array: ArrayLike) -> Array:
        found = jax.numpy.asarray(array)
        return found.astype(problem.precision) if jax.numpy.issubdtype(found.dtype, np.floating) else found

    found: Tree = jax.tree.map(one, tree)
    return found
