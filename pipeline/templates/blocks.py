"""Rows of a chunk's templates in blocks: as many at once as a bound on memory allows, one block after the other.

All rows under one ``vmap`` are the fastest way where they fit, and their memory grows with their number. Here a block
is recomputed in the pullback, so that this holds the intermediate results of one block and not of all.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

Tree = TypeVar("Tree")
LOOPS = ("scan", "while")  # what they return is more than one turn makes


def mapped(function: Callable[[Any], Tree], rows: Any, most: int) -> Tree:
    """Return a function of rows, ``most`` of them at a time; it is compiled once, whatever their number.

    Blocks are of one size, the smallest that takes no more of them; what the last one lacks is filled up with rows
    that are there, and their results dropped. Where all rows fit, this is ``function(rows)``.

    Args:
        function: arrays with rows as their first axis, to such arrays; a row's result depends on no other row.
        rows: arrays [rows, ...].
    """
    number = len(jax.tree.leaves(rows)[0])
    if number <= most:
        return function(rows)
    blocks = -(-number // most)
    size = -(-number // blocks)

    def parted(array: jax.Array) -> jax.Array:
        missing = blocks * size - number
        filled = jnp.concatenate([array, array[:missing]]) if missing else array
        return filled.reshape(blocks, size, *array.shape[1:])

    found = jax.lax.map(jax.checkpoint(function, prevent_cse=False), jax.tree.map(parted, rows))
    joined: Tree = jax.tree.map(lambda a: a.reshape(blocks * size, *a.shape[2:])[:number], found)
    return joined


def at_once(number: int, total: int, memory: float) -> int:
    """Return how many of so many rows, which take ``total`` bytes together, fit into ``memory``; one at least."""
    return number if total <= memory else max(1, math.floor(memory * number / total))


def held_by_pullback(function: Callable[[Any], Any], parameters: Any) -> int:
    """Return bytes that the pullback of a function holds: what its derivative needs of the way there.

    Counted on shapes alone. XLA's own number for the AGC's selection is 2 to 5 % less.
    """
    return _size(jax.eval_shape(lambda p: jax.vjp(function, p)[1], parameters))


def made_by(function: Callable[[Any], Any], parameters: Any) -> int:
    """Return the bytes of all that a function computes.

    It is for a function that has no derivative; XLA holds less of it at any time.
    """
    return sum(_size(eqn.outvars) for eqn in _equations(jax.make_jaxpr(function)(parameters)))


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Yield the operations of a program, inside its functions and loops too; those that only call others left out."""
    for eqn in jaxpr.eqns:
        inner = [p for p in jax.tree.leaves(list(eqn.params.values())) if isinstance(p, ClosedJaxpr | Jaxpr)]
        for program in inner:
            yield from _equations(program)
        if not inner or eqn.primitive.name in LOOPS:
            yield eqn


def _size(tree: Any) -> int:
    """Return bytes of the arrays in a tree."""
    arrays: list[Any] = [getattr(leaf, "aval", leaf) for leaf in jax.tree.leaves(tree)]
    plain = [array for array in arrays if isinstance(getattr(array, "dtype", None), np.dtype)]
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in plain)
