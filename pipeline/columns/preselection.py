"""Cuts of a preselection as text, such as ``abs(eta) < 2.1``.

So a configuration can name the branches of its own files.
"""

import dataclasses
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import awkward as ak
import numpy as np

from pipeline.errors import ConfigError

Values: TypeAlias = ak.Array | np.ndarray  # a number, or whether, of each object
Fields: TypeAlias = ak.Array | Mapping[str, Values]

COMPARISONS: Mapping[str, Callable[[Values, float], Values]] = MappingProxyType(
    {
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
        "==": operator.eq,
        "!=": operator.ne,
        "&": lambda flags, bits: (flags & int(bits)) == int(bits),
    }
)
SHAPE = re.compile(
    r"(?P<abs>abs\()?(?P<name>[A-Za-z]\w*)(?(abs)\)) *(?P<sign><=|>=|==|!=|<|>|&) *(?P<number>-?[\d.]+)"
)


@dataclasses.dataclass(frozen=True)
class Requirement:
    """What a field of an object must fulfil."""

    field: str
    absolute: bool
    sign: str
    number: float

    def __call__(self, objects: Fields) -> Values:
        """Return whether each object does, jagged as the objects are."""
        found = objects[self.field]
        kind = getattr(found, "type", "")
        if self.sign == "&" and "float" in str(kind):
            raise ConfigError(
                f"requirement '{self.field} & {self.number:g}': {self.field} has no bits, it holds {kind}"
            )
        return COMPARISONS[self.sign](abs(found) if self.absolute else found, self.number)


def requirements(texts: object, of: str) -> tuple[Requirement, ...]:
    """Parse ``name < number``, also with abs(name), <=, >, >=, ==, != and & (all of these bits are set).

    Raises:
        ConfigError: another shape; ``of`` says where it stands.
    """
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise ConfigError(f"{of}: {texts!r} is no list of requirements, as in ['pt > 25', 'jetId & 4']")
    return tuple(_parsed(text, of) for text in texts)


def fulfilled(objects: Fields, required: Iterable[Requirement], first: Values) -> Values:
    """Return whether each object fulfils all requirements, and ``first``."""
    for requirement in required:
        first = first & requirement(objects)
    return first


def _parsed(text: object, of: str) -> Requirement:
    match = SHAPE.fullmatch(text.strip()) if isinstance(text, str) else None
    try:
        if match is None:
            raise ValueError
        number = float(match["number"])
        if match["sign"] == "&" and not number.is_integer():
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{of}: {text!r} is no requirement; allowed: FIELD SIGN NUMBER, as in 'pt > 25', 'abs(eta) < 2.1', "
            f"'jetId & 4'; signs: {' '.join(COMPARISONS)}"
        ) from None
    return Requirement(match["name"], match["abs"] is not None, match["sign"], number)
