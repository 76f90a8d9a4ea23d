"""What every section of a configuration is made of."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

MOST = 1_000_000  # of what a run makes one by one, so that a slip of the keyboard has an end
LONGEST_NAME = 120  # characters: with an ending and a number it is still the name of a file
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+.-]*$", max_length=LONGEST_NAME)]


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and all within it that are written out in it; those of other sections are references."""
    for inner in list(schema.values() if isinstance(schema, dict) else schema):
        if isinstance(inner, dict | list | tuple):
            yield from _parts(inner)
    if isinstance(schema, dict) and isinstance(schema.get("type"), str):
        yield schema


def _whole_number(given: object) -> object:
    if isinstance(given, bool | str):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return given


class Section(pydantic.BaseModel):
    """A section of the configuration: immutable, and an unknown key is an error.

    A number is a number wherever it stands, also in lists, mappings and choices: no text of digits, no truth value,
    which Python takes for 1 and 0. A whole number may have a point, as in 2.0 and 1e3.
    """

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True
    )

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """Return the fields by the keys of a file, which may be words that Python keeps for itself."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: pydantic.GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of the annotations, its numbers and truth values strict."""
        made = handler(source)
        for part in _parts(handler.resolve_ref_schema(made)):
            if part["type"] in ("float", "bool"):
                part["strict"] = True
            elif part["type"] == "int" or (
                part["type"] == "literal" and any(isinstance(value, int) for value in part["expected"])
            ):
                inner = dict(part)
                part.clear()
                part.update(core_schema.no_info_before_validator_function(_whole_number, inner))
        return made


class Anneal(Section):
    """A width that shrinks geometrically over the epochs, so that the optimum found is that of hard cuts."""

    initial: float = Field(gt=0, description="width at the first epoch, in the unit of the quantity")
    final: float = Field(
        gt=0, description="width from the epoch `optimise.anneal_fraction` on; at most `initial`"
    )

    @pydantic.model_validator(mode="after")
    def _shrinks(self) -> "Anneal":
        if self.final > self.initial:
            raise ValueError(f"final {self.final} is larger than initial {self.initial}; widths only shrink")
        return self


AUTO = "auto"  # for a width or a bandwidth, in place of leaving it out: it removes one that is inherited


def _without_auto(given: object) -> object:
    if given == AUTO:
        return {}
    return {n: width for n, width in given.items() if width != AUTO} if isinstance(given, Mapping) else given


WidthsByName = Annotated[
    dict[str, Anneal],
    pydantic.BeforeValidator(
        _without_auto, json_schema_input_type=Literal["auto"] | dict[str, Anneal | Literal["auto"]]
    ),
]
"""Widths by name; those that are `auto` are not there."""


class Bandwidth(Anneal):
    """The width of a histogram's kernel, in the unit of the values or as a fraction of the bins."""

    unit: Literal["value", "bin"] = Field(
        default="value",
        description="`bin`: both are fractions of the bin width, at each edge of the narrower of its two bins",
    )
