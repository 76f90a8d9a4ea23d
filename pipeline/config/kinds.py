"""Sections of which there are several kinds: ``kind`` says which one, and each has keys of its own, its options."""

import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pydantic
from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pipeline.config.section import Section

QUANTITY = "quantity"
"""The field of `BesideKind` that the configuration does not spell."""


class Kind(Section):
    """One kind of a section."""

    common: ClassVar[frozenset[str]] = frozenset({"kind"})  # keys that every kind has
    kind: str

    @classmethod
    def named(cls) -> str:
        """Return the name that ``kind`` has in the configuration."""
        name: str = typing.get_args(cls.model_fields["kind"].annotation)[0]
        return name

    @classmethod
    def option_names(cls) -> list[str]:
        """Return the keys that are this kind's own."""
        return [name for name in cls.model_fields if name not in cls.common]

    @property
    def options(self) -> dict[str, object]:
        """The options that have a value."""
        values = {name: getattr(self, name) for name in self.option_names()}
        return {name: value for name, value in values.items() if value is not None}

    @pydantic.model_validator(mode="before")
    @classmethod
    def _own_options(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        for key in given:
            if key not in cls.model_fields:
                known = ", ".join(cls.option_names()) or "no options"
                raise ValueError(f"{key} means nothing to {cls.named()!r}, which has {known}; remove it")
        for name in cls.option_names():
            field = cls.model_fields[name]
            if field.is_required() and given.get(name) is None:
                raise ValueError(f"{cls.named()!r} needs {name}, {field.description}; add it")
        return {key: value for key, value in given.items() if value is not None}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema with ``kind`` required: its default is for Python alone."""
        made = handler(schema)
        section = handler.resolve_ref_schema(made)
        section["required"] = ["kind", *section.get("required", [])]
        return made


class BesideKind(Section):
    """A section whose own keys stand beside those of a kind, as in ``{kind: cls, mu: 2, weight: 3}``.

    Each such section declares ``quantity``, one of several kinds.
    """

    @classmethod
    def kinds(cls) -> tuple[type[Kind], ...]:
        """Return the kinds that ``quantity`` may be."""
        return typing.get_args(cls.model_fields[QUANTITY].annotation)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _apart(cls, given: object) -> object:
        """Move the keys of the kind under ``quantity``; a key that no kind has is left for an error to name."""
        if not isinstance(given, Mapping) or isinstance(given.get(QUANTITY), Kind):
            return given
        if QUANTITY in given:
            raise ValueError(f"{QUANTITY}: unknown key; write what it holds beside kind")
        of_kinds = {name for kind in cls.kinds() for name in ("kind", *kind.option_names())}
        own = {key: value for key, value in given.items() if key not in of_kinds}
        return {**own, QUANTITY: {key: value for key, value in given.items() if key in of_kinds}}

    @pydantic.model_serializer(mode="wrap")
    def _together(self, handler: Callable[[object], dict[str, Any]]) -> dict[str, object]:
        content = handler(self)
        return {**content.pop(QUANTITY), **content}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema, in which the keys of the kinds and these are all there are."""
        made = handler(schema)
        section = handler.resolve_ref_schema(made)
        section["oneOf"] = section["properties"].pop(QUANTITY)["oneOf"]
        section["required"] = ["kind"]
        section["unevaluatedProperties"] = section.pop("additionalProperties")
        return made
