"""The systematic variations that an analysis makes by itself: their three kinds, and what each may change."""

import ast
import dataclasses
import inspect
import math
import numbers
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxtyping import Array, Float

from pipeline.analysis.declarations import WEIGHT, shape_of, shaped, short
from pipeline.analysis.theory import Components
from pipeline.config.fit.theory import Monomial, component, is_component, monomials
from pipeline.containers import AnyArray, Columns, Parameters
from pipeline.data.datasets import NOMINAL
from pipeline.errors import ConfigError, Noting, nearest
from pipeline.relax import Exact, Relaxed

ShiftSize = Array | float  # of a shift; traced where its derivative is taken
Changed = Columns | Mapping[str, AnyArray]  # the columns that change by name, or all of them: c.replace(...)


@dataclasses.dataclass(frozen=True)
class Transform:
    """Events with other columns, such as jets of another energy scale: selected and observed anew.

    Args:
        change: columns to those that change, ``{"jet_pt": 1.03 * c.jet_pt}``; names, shapes and events stay.
    """

    change: Callable[[Columns], Changed]

    def changed(self, columns: Columns) -> object:
        """Return the result of the function, unchecked."""
        return self.change(columns)


@dataclasses.dataclass(frozen=True)
class Shift:
    """A transform that is differentiable in its size, so that its derivative may enter the optimisation instead.

    With ``optimise.shifts: derivatives`` the relaxed templates are the nominal ones plus ``size`` times their
    derivative, which is taken once for all shifts with the same function.

    Args:
        change: columns and a size, in its own unit, to the columns that change; size 0 changes nothing.
        size: of this variation, usually +1 for the one up and -1 for the one down.
    """

    change: Callable[[Columns, ShiftSize], Changed]
    size: float | int

    def changed(self, columns: Columns) -> object:
        """Return the result of the function at this size, unchecked."""
        return self.change(columns, float(self.size))


@dataclasses.dataclass(frozen=True)
class WeightFactor:
    """A factor on the nominal weight that may depend on the selection, such as a scale factor of tagged jets.

    Selection and observables are the nominal ones, so it costs next to nothing.

    Args:
        factor: parameters, columns and ``relax``, as ``observe`` has them, to a factor [events].
        entry: of what ``factor`` returns, where it makes several by name: it is called once for all that share it.
    """

    factor: Callable[[Parameters, Columns, Relaxed | Exact], AnyArray | Mapping[str, AnyArray]]
    entry: str | None = None


Variation = Transform | Shift | WeightFactor
# What analyses once defined, and how the same is written now.
HOOKS = {
    "shifts": '{"jes_up": Shift(lambda c, size: {"jet_pt": (1 + 0.05 * size) * c.jet_pt}, +1)}, and "jes_down" with -1',
    "weight_variations": '{"btag_up": WeightFactor(lambda p, c, relax: 1 + 0.1 * c.tags)}',
    "weights": '{"btag_up": WeightFactor(lambda p, c, relax: 1 + 0.1 * c.tags)}, or WeightFactor(self.factors, '
    '"btag_up") where one method makes several, {name: factor}',
}


def declared(analysis: Any) -> dict[str, Variation]:
    """Return the systematic variations of an analysis by name, in the order of the templates.

    Those of an analysis with a theory are followed by the components of the nominal and of each, see
    ``pipeline.config.fit.theory``.

    Raises:
        ConfigError: ``variations`` returns something else; the message has its class, the variation and the cure.
    """
    name = f"{type(analysis).__name__}.variations()"
    with Noting(f"in {name}"):
        found = analysis.variations()
    if not isinstance(found, Mapping):
        raise ConfigError(
            f"{name} returns {short(found)}; it must return {{name: Transform(...), Shift(...) or WeightFactor(...)}}"
        )
    for variation, made in found.items():
        if reason := _fault(variation, made):
            raise ConfigError(f"{name}: variation {variation!r} {reason}")
    theory = getattr(analysis, "theory", {})
    return {**found, **_components(analysis, found)} if theory else dict(found)


def _components(analysis: Any, found: Mapping[str, Variation]) -> dict[str, Variation]:
    """Return the components of the nominal weights and of those of each variation, by the monomials of the theory."""

    parts = Components(analysis)

    def of_nominal(p: Parameters, c: Columns, relax: Relaxed | Exact) -> dict[str, AnyArray]:
        return {component(NOMINAL, m): array for m, array in parts(c).items()}

    own = monomials(analysis.theory)
    names = [component(NOMINAL, monomial) for monomial in own]
    made: dict[str, Variation] = {name: WeightFactor(of_nominal, name) for name in names}
    for name, variation in found.items():
        for monomial in own:
            made[component(name, monomial)] = _component(parts, variation, monomial)
    return made


def _component(parts: Components, variation: Variation, monomial: Monomial) -> Variation:
    """Return a variation of the events with what a monomial multiplies as their weight."""
    if isinstance(variation, WeightFactor):

        def factor(p: Parameters, c: Columns, relax: Relaxed | Exact) -> AnyArray:
            made: Any = variation.factor(p, c, relax)
            own = made if variation.entry is None else made[variation.entry]
            found: AnyArray = own * parts(c)[monomial]
            return found

        return WeightFactor(factor)

    def change(columns: Columns) -> dict[str, AnyArray]:
        made: Any = variation.changed(columns.holding(dict(columns.arrays)))
        arrays = made.arrays if isinstance(made, Columns) else made
        all_of_it = columns.holding({**columns.arrays, **arrays})
        weight = all_of_it.weight * parts(all_of_it)[monomial]
        return {**arrays, WEIGHT: weight.astype(columns.weight.dtype)}

    return Transform(change)


def check_hooks(analysis: object) -> None:
    """Raise where an analysis is written for hooks that are no more, or names a variation twice.

    Raises:
        ConfigError: the message has its class, the hook and how to write it now.
    """
    kind = type(analysis)
    for hook, now in HOOKS.items():
        if callable(there := getattr(kind, hook, None)) or (
            hook == "weight_variations" and there is not None
        ):
            raise ConfigError(
                f"{kind.__name__}.{hook}: analyses have no such hook any more, variations() returns all systematic "
                f"variations; write {now}. If it is something of your own, give it another name"
            )
    declared(analysis)
    for owner in kind.__mro__:
        for twice in _written_twice(vars(owner).get("variations")):
            raise ConfigError(
                f"{owner.__name__}.variations(): {twice!r} is there twice, and Python would take the second one; give "
                "each its own name"
            )


def changed(analysis: object, name: str, columns: Columns, change: Callable[[Columns], object]) -> Columns:
    """Return the columns of a variation.

    Raises:
        ConfigError: it changes something else than the values of columns that are there.
    """
    where = f"variation {name!r} of {type(analysis).__name__}"
    with Noting(f"in {where}"):
        made = change(
            columns.holding(dict(columns.arrays))
        )  # its own: what it changes in place is no other's
    if not isinstance(made, Columns | Mapping):
        raise ConfigError(
            f"{where} returns {short(made)}; it must return the columns that change, {{column: array}}, or all of "
            "them, c.replace(column=array)"
        )
    arrays = made.arrays if isinstance(made, Columns) else made
    if isinstance(made, Columns) and (missing := sorted(columns.arrays.keys() - arrays)):
        raise ConfigError(
            f"{where} removes column {missing[0]!r}; return c.replace(...), which keeps those that do not change"
        )
    for column, array in arrays.items():
        if column not in columns.arrays:
            raise ConfigError(
                f"{where} changes column {column!r}, which columns() does not make; {nearest(column, columns.arrays)}"
            )
        shape, own = shape_of(array), columns.arrays[column].shape
        if shape != own:
            raise ConfigError(
                f"{where} makes of column {column!r} {shaped(array)}; it must stay an array of shape {own}: to remove "
                "events or objects, set their weight or their mask to 0"
            )
    return columns.holding({**columns.arrays, **arrays})


def factors(
    analysis: object,
    wanted: Mapping[str, WeightFactor],
    parameters: Parameters,
    columns: Columns,
    relax: Exact | Relaxed,
) -> dict[str, Float[Array, " events"]]:
    """Return the factors on the nominal weight by variation; a function that several share is called once.

    Raises:
        ConfigError: what a function returns is no factor for each event.
    """
    made: dict[tuple[int, int], object] = {}
    found = {}
    for name, variation in wanted.items():
        where, function = f"variation {name!r} of {type(analysis).__name__}", identity(variation.factor)
        if function not in made:
            with Noting(f"in {where}"):
                made[function] = variation.factor(parameters, columns, relax)
        factor = _entry(where, made[function], variation.entry)
        if shape_of(factor) not in ((), columns.weight.shape):
            raise ConfigError(
                f"{where}: its factor is {shaped(factor)}; it must be a number for each event, of shape "
                f"{columns.weight.shape}: make one of the objects' by relax.sum(...) or jnp.prod(..., axis=1)"
            )
        found[name] = factor
    return found


def identity(function: Callable[..., object]) -> tuple[int, int]:
    """Return a key that is the same for two methods of one object, which Python makes anew each time."""
    return id(getattr(function, "__self__", None)), id(getattr(function, "__func__", function))


def _entry(where: str, made: object, entry: str | None) -> Any:
    """Return the factor of one variation in what its function made."""
    if entry is None:
        if isinstance(made, Mapping):
            raise ConfigError(
                f"{where}: its function returns several factors, {short(list(made))}; say which, WeightFactor(..., "
                "entry=name)"
            )
        return made
    if not isinstance(made, Mapping):
        raise ConfigError(
            f"{where}: its function returns {shaped(made)}; with `entry` it must return {{name: factor}}"
        )
    if entry not in made:
        raise ConfigError(f"{where}: its function makes no entry {entry!r}; {nearest(entry, map(str, made))}")
    return made[entry]


def _fault(name: object, made: object) -> str | None:
    """Return the fault of one entry of ``variations()`` as a sentence, or None."""
    if not isinstance(name, str) or not name:
        return "needs a text for its name"
    if is_component(name):
        return "has an '@' in its name, which parts a variation from a theory's monomials; leave it out"
    if name == NOMINAL:
        return "has the name of the events as they are; give it another"
    if not isinstance(made, Transform | Shift | WeightFactor):
        if callable(made) and not isinstance(made, type):
            return f'is a bare function; write {{"{name}": Transform(...)}} around it'
        return f"is {short(made)}; it must be Transform(...), Shift(...) or WeightFactor(...)"
    given: dict[str, Any] = dict(vars(made))  # whatever its class says of the types
    function = given.get("factor", given.get("change"))
    if not callable(function):
        return f"is {type(made).__name__}({short(function)}); it must be given a function"
    if not _is_size(given.get("size", 1)):
        return f"is a Shift of size {given['size']!r}; it must be a number other than 0, usually +1 or -1"
    if not isinstance(given.get("entry"), str | None):
        return f"is a WeightFactor with entry {given['entry']!r}; it must be a text"
    return None


def _is_size(value: object) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value) and value != 0


def _written_twice(method: Any) -> Iterator[str]:
    """Yield texts that are keys of one dictionary twice in the source of a method, where there is a source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    except (OSError, TypeError, SyntaxError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            yield from (str(key) for key in dict.fromkeys(keys) if keys.count(key) > 1)
