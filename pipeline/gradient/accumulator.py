"""Sums that do not know an order: the same bits for any permutation, any tree and any partition of the summands.

A number is cut, without an error, into whole multiples of units on a grid that is the same for all numbers: units are
powers of 2^32, four of them from the largest summand down. Whole numbers add without an order, and rounding happens
once, at the end. After the binned sums of P. Ahrens, J. Demmel, H. D. Nguyen, ACM Trans. Math. Softw. 46, 3 (2020), 22,
with int64 in place of their floating-point bins, so that 2^31 summands need no carry. The error of a sum of n numbers
is n 2^-97 of the largest one at most, besides that of the result's own rounding. Summands that know 24 bits only, as
float32's, need two units: n 2^-33.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int8

from pipeline.containers import AnyArray

DIGIT = 32  # bits between two units
DIGITS = {"float64": 4, "float32": 2}  # of sums of numbers that come from this precision
LOWEST, HIGHEST = 4, 62  # levels: below 2^-895 bits are lost, from 2^993 on numbers count as infinite
MANTISSA = 52  # bits of float64's; above them is the exponent, 1023 more than that of 2
HALF = 1 << (MANTISSA - 1)  # the mantissa of 1.5
NAN, PLUS, MINUS = 1, 2, 4  # marks of what is not finite


class Accumulator(NamedTuple):
    """The sum of arrays of one shape, element by element.

    ``level`` is that of the largest summand: the first unit is ``2^(32 level - 1023)``. ``marks`` remember summands
    that are not finite.
    """

    level: Int8[AnyArray, "*shape"]
    marks: Int8[AnyArray, "*shape"]
    digits: tuple[Int[AnyArray, "*shape"], ...]


def empty(shape: tuple[int, ...], precision: str = "float64") -> Accumulator:
    """Return the sum of nothing, for summands that are computed in a precision and given in float64."""
    digits = tuple(np.zeros(shape, dtype=np.int64) for _ in range(DIGITS[precision]))
    return Accumulator(np.full(shape, LOWEST, dtype=np.int8), np.zeros(shape, dtype=np.int8), digits)


def added(total: Accumulator, summand: Float[AnyArray, "*shape"]) -> Accumulator:
    """Return a sum with one more summand, an array of float64."""
    own = jnp.clip(_exponent(summand) // DIGIT, LOWEST, HIGHEST).astype(jnp.int8)
    is_counted = jnp.abs(summand) < _power(DIGIT * (HIGHEST + 1))
    mark = jnp.where(summand > 0, PLUS, jnp.where(summand < 0, MINUS, NAN))
    marks = total.marks | jnp.where(is_counted, 0, mark).astype(jnp.int8)
    level = jnp.maximum(total.level, jnp.where(is_counted, own, LOWEST).astype(jnp.int8))
    rest, digits = jnp.where(is_counted, summand, 0.0), []
    for place, digit in enumerate(_lowered(total, level)):
        shift = _power(DIGIT * (level.astype(jnp.int64) - place) + MANTISSA, HALF)
        moved = rest + shift  # rounded to whole units: they are the last bits now
        rest = rest - (moved - shift)
        digits.append(digit + _bits(moved) - _bits(shift))
    return Accumulator(level, marks, tuple(digits))


def added_at(place: Int[Array, ""], total: Accumulator, summand: Float[AnyArray, "*rest"]) -> Accumulator:
    """Return sums of which one, by its place along the first axis, has one more summand."""
    own = jax.tree.map(lambda array: jax.lax.dynamic_index_in_dim(array, place, keepdims=False), total)
    put: Accumulator = jax.tree.map(
        lambda array, row: jax.lax.dynamic_update_index_in_dim(array, row, place, 0),
        total,
        added(own, summand),
    )
    return put


def merged(one: Accumulator, other: Accumulator) -> Accumulator:
    """Return the sum of all summands of two."""
    level = jnp.maximum(one.level, other.level)
    both = zip(_lowered(one, level), _lowered(other, level), strict=True)
    return Accumulator(level, one.marks | other.marks, tuple(a + b for a, b in both))


def rounded(total: Accumulator) -> Float[Array, "*shape"]:
    """Return the sum in float64: NaN where a summand is, or where both infinities are."""
    digits = list(total.digits)
    for place in range(len(digits) - 1, 0, -1):
        carry = (digits[place] + (1 << (DIGIT - 1))) >> DIGIT
        digits[place] = digits[place] - (carry << DIGIT)
        digits[place - 1] = digits[place - 1] + carry
    found = digits[-1].astype(jnp.float64)
    for digit in reversed(digits[:-1]):
        found = found * 2.0**-DIGIT + digit.astype(jnp.float64)
    finite = found * _power(DIGIT * total.level.astype(jnp.int64))
    marks = total.marks
    infinite = jnp.where(marks == PLUS, jnp.inf, jnp.where(marks == MINUS, -jnp.inf, jnp.nan))
    return jnp.where(marks == 0, finite, infinite)


@jax.jit
def union(one: dict[Any, Accumulator], other: dict[Any, Accumulator]) -> dict[Any, Accumulator]:
    """Return sums by name: those of both merged, where both have them."""
    both = {name: merged(one[name], other[name]) for name in one.keys() & other.keys()}
    return {**one, **other, **both}


def arrays_of(sums: dict[Any, Accumulator], precision: str = "float64") -> dict[Any, np.ndarray]:
    """Return the arrays of sums by name, in NumPy: what leaves a worker."""
    found: dict[Any, np.ndarray] = jax.device_get(_all_rounded(sums, precision))
    return found


@functools.partial(jax.jit, static_argnames="precision")
def _all_rounded(sums: dict[Any, Accumulator], precision: str) -> dict[Any, Array]:
    return {name: rounded(total).astype(precision) for name, total in sums.items()}


def _lowered(total: Accumulator, level: Int8[Array, "*shape"]) -> list[Array]:
    """Return the digits as they are counted from a higher level: those below the last unit go."""
    by = level - total.level
    found = []
    for place in range(len(total.digits)):
        digit = jnp.zeros_like(total.digits[0])
        for former in range(place + 1):
            digit = jnp.where(by == place - former, total.digits[former], digit)
        found.append(digit)
    return found


def _bits(number: Float[Array, "*shape"]) -> Int[Array, "*shape"]:
    bits: Array = jax.lax.bitcast_convert_type(number, jnp.int64)
    return bits


def _exponent(number: Float[AnyArray, "*shape"]) -> Int[Array, "*shape"]:
    """Return the exponent of 2 as float64 has it: 1023 for 1."""
    return (_bits(jnp.asarray(number)) >> MANTISSA) & 0x7FF


def _power(exponent: Int[AnyArray, "*shape"] | int, mantissa: int = 0) -> Float[Array, "*shape"]:
    """Return the float64 of an exponent, 1023 for 1, and a mantissa."""
    bits = (jnp.asarray(exponent, dtype=jnp.int64) << MANTISSA) | mantissa
    power: Array = jax.lax.bitcast_convert_type(bits, jnp.float64)
    return power
