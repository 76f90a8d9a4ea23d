"""Events whose weights are polynomials of a theory's coefficients, and what each monomial multiplies.

An amplitude that is linear in the coefficients, as at the first order of an effective field theory, makes weights that
are polynomials of degree 2: the sum over events of what a monomial multiplies is the template that it multiplies.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analysis.declarations import WEIGHT, short
from pipeline.config.fit.theory import Monomial, TheoryCoefficient
from pipeline.containers import AnyArray, Columns, Parameters
from pipeline.errors import ConfigError, Noting, nearest

LOOKED_AT = 256  # events, by which a function is known
ROUNDING = {
    np.dtype(np.float32): 1e-3,
    np.dtype(np.float64): 1e-9,
}  # of weights, relative to the largest of an event


@dataclasses.dataclass(frozen=True)
class Theory:
    """A coefficient of the theory: where the events' weights are what they are, and where the polynomial holds.

    Args:
        nominal: the value at which the column ``weight`` is the weight.
        valid: lowest and highest value that a fit may use.
        unit: for messages and figures.
    """

    nominal: float
    valid: tuple[float, float]
    unit: str = ""


def check_theory(analysis: Any) -> None:
    """Raise where ``theory`` is not what the contract asks for.

    Raises:
        ConfigError: which coefficient, its value, what it must be.
    """
    where, given = f"{type(analysis).__name__}.theory", analysis.theory
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where} is {short(given)}; it must be {{name: Theory(nominal, valid)}}")
    for name, own in given.items():
        if not (isinstance(name, str) and name.isidentifier()) or not isinstance(own, Theory):
            raise ConfigError(
                f"{where}: {name!r}: {short(own)}; it must be a name of Python and Theory(nominal, valid)"
            )
        low, high = own.valid if len(own.valid) == 2 else (math.nan, math.nan)
        if not (math.isfinite(low) and math.isfinite(high) and low < high and low <= own.nominal <= high):
            raise ConfigError(
                f"{where}: {name!r}: nominal {own.nominal} and valid {own.valid}; the range must be two ascending "
                "numbers with the nominal value inside"
            )


def check_coefficient(analysis: Any, own: TheoryCoefficient) -> None:
    """Raise where a configuration's coefficient is none of the analysis, or leaves the range in which it is valid.

    Raises:
        ConfigError: the message has its values and the analysis's.
    """
    where, known = f"model.theory: {own.name!r}", analysis.theory
    if own.name not in known:
        raise ConfigError(
            f"{where} is no coefficient of {type(analysis).__name__}.theory; "
            + (
                nearest(own.name, known)
                if known
                else "it has none; declare it there, with a method theory_weight"
            )
        )
    nominal, (low, high) = known[own.name].nominal, known[own.name].valid
    if own.nominal != nominal:
        raise ConfigError(
            f"{where} has nominal {own.nominal:g}, and {type(analysis).__name__}.theory {nominal:g}, where the weights "
            "are those of the events; make them equal"
        )
    if own.bounds[0] < low or own.bounds[1] > high:
        raise ConfigError(
            f"{where} has bounds {list(own.bounds)}, outside its range of validity [{low:g}, {high:g}] in "
            f"{type(analysis).__name__}.theory; narrow the bounds"
        )


def components_of(analysis: Any, columns: Columns) -> dict[Monomial, Float[Array, " events"]]:
    """Return what each monomial of the coefficients less their nominal values multiplies, relative to the weight.

    The derivatives of ``theory_weight`` there, of a monomial of degree 2 divided by 2 where it is a square.

    Raises:
        ConfigError: ``theory_weight`` returns something else than a number for each event.
    """
    names = sorted(analysis.theory)
    at = jnp.asarray([analysis.theory[name].nominal for name in names], dtype=columns.weight.dtype)

    def factor(values: Float[Array, " coefficients"]) -> Float[Array, " events"]:
        return weight_at(analysis, dict(zip(names, values, strict=True)), columns)

    first = jax.jacfwd(factor)
    slopes, bends = first(at), jax.jacfwd(first)(at)
    found: dict[Monomial, Array] = {(name,): slopes[:, i] for i, name in enumerate(names)}
    for i, one in enumerate(names):
        for j, other in enumerate(names[i:], start=i):
            found[one, other] = bends[:, i, j] * (0.5 if i == j else 1.0)
    return found


class Components:
    """``components_of`` of an analysis, not again while what ``theory_weight`` reads are the same arrays.

    A variation of what is measured leaves the truth alone: one program makes the components of all.
    """

    def __init__(self, analysis: Any):
        self._analysis = analysis
        self._seen: list[tuple[dict[str, AnyArray], dict[Monomial, Float[Array, " events"]]]] = []

    def __call__(self, columns: Columns) -> dict[Monomial, Float[Array, " events"]]:
        """Return the components at some columns."""
        for read, found in self._seen:
            if all(columns.arrays[name] is array for name, array in read.items()):
                return found
        recorded = _Recorded(columns.arrays)
        found = components_of(self._analysis, columns.holding(recorded))
        self._seen.append(({name: columns.arrays[name] for name in recorded.read}, found))
        return found


class _Recorded(dict[str, Any]):
    """Arrays by name that know which were read; all, where they were looked through."""

    def __init__(self, arrays: Mapping[str, Any]):
        super().__init__(arrays)
        self.read: set[str] = {WEIGHT}

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read |= {name} & super().keys()
        return super().get(name, default)

    def __iter__(self) -> Iterator[str]:
        self.read |= super().keys()
        return super().__iter__()

    def items(self) -> Any:
        self.read |= super().keys()
        return super().items()

    def values(self) -> Any:
        self.read |= super().keys()
        return super().values()


def weight_at(analysis: Any, coefficients: Mapping[str, Any], columns: Columns) -> Float[Array, " events"]:
    """Return the factor on the weights at coefficients.

    Raises:
        ConfigError: it is no number for each event.
    """
    where = f"{type(analysis).__name__}.theory_weight(t, c)"
    with Noting(f"in {where}"):
        made = analysis.theory_weight(
            Parameters({n: jnp.asarray(v) for n, v in coefficients.items()}), columns
        )
    if getattr(made, "shape", None) != columns.weight.shape:
        raise ConfigError(
            f"{where} returns {short(getattr(made, 'shape', made))}; it must be a factor on the weight of each event, "
            f"of shape {columns.weight.shape}"
        )
    found: Float[Array, " events"] = made
    return found


def weight_fault(analysis: Any, columns: Mapping[str, AnyArray]) -> str | None:
    """Return why the weights of events are no polynomials of degree 2 that start at 1, as a sentence, or None.

    Looked at for the first events, at two opposite corners of the valid range, and where no coefficient is nominal.
    """
    own = {name: jnp.asarray(array[:LOOKED_AT]) for name, array in columns.items()}
    where, names = f"{type(analysis).__name__}.theory_weight(t, c)", sorted(analysis.theory)
    nominal = {name: analysis.theory[name].nominal for name in names}
    corners = [
        {name: analysis.theory[name].valid[(side + place) % 2] for place, name in enumerate(names)}
        for side in (0, 1)
    ]
    corners.append({name: _halfway(analysis.theory[name]) for name in names})
    start, parts, ends = jax.tree.map(np.asarray, _looked_at(analysis, own, nominal, corners))
    used = np.asarray(own[WEIGHT]) != 0
    if bad := int(np.sum(~np.isfinite(start[used]))):
        return f"{where} is not finite at the nominal coefficients {nominal} for {bad} events"
    tolerance = ROUNDING.get(start.dtype, max(ROUNDING.values()))
    if np.any(np.abs(start[used] - 1) > tolerance):
        worst = start[used][np.argmax(np.abs(start[used] - 1))]
        return (
            f"{where} is {worst:g} at the nominal coefficients {nominal}, where it must be 1: the column {WEIGHT!r} is "
            "the weight there; divide by the weight at the nominal coefficients"
        )
    for at, found in zip(corners, ends, strict=True):
        terms = [array * math.prod(at[name] - nominal[name] for name in m) for m, array in parts.items()]
        expected, size = start + sum(terms), np.abs(start) + sum(map(np.abs, terms))
        apart = used & ~(np.abs(found - expected) <= tolerance * size)
        if np.any(apart):
            number = int(np.argmax(apart))
            return (
                f"{where} is {found[number]:g} at {at} for an event for which a polynomial of degree 2 is "
                f"{expected[number]:g}; templates are such polynomials where the amplitude is linear in coefficients"
            )
    return None


def _halfway(own: Theory) -> float:
    """Return the middle between the nominal value and the end that is farther away."""
    return (own.nominal + max(own.valid, key=lambda end: abs(end - own.nominal))) / 2


def _looked_at(
    analysis: Any,
    columns: Mapping[str, AnyArray],
    nominal: Mapping[str, float],
    corners: Sequence[Mapping[str, float]],
) -> tuple[Array, dict[Monomial, Array], list[Array]]:
    """Return the factors at the nominal coefficients, the components, and the factors at corners, by one program."""

    @jax.jit
    def look(arrays: Mapping[str, Array]) -> tuple[Array, dict[Monomial, Array], list[Array]]:
        own = Columns(dict(arrays))
        ends = [weight_at(analysis, at, own) for at in corners]
        return weight_at(analysis, nominal, own), components_of(analysis, own), ends

    found: tuple[Array, dict[Monomial, Array], list[Array]] = look(columns)
    return found
