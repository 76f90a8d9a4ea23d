"""Values that are written as JSON and read again: frozen, with every key that they name and no other."""

import json
from collections.abc import Mapping
from typing import TypeVar

import pydantic

from pipeline.errors import InputError

STRICT = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
FileKind = TypeVar("FileKind", bound="Written")


class Written(pydantic.BaseModel):
    """A value of a file: what it is made of has the types that it says."""

    model_config = STRICT

    def as_json(self) -> dict[str, object]:
        """Return its content, of types that JSON knows."""
        return self.model_dump(mode="json")

    def changed(self: FileKind, **values: object) -> FileKind:
        """Return the same with other values, checked as all are."""
        return type(self)(**{**dict(self), **values})


def parsed(kind: type[FileKind], content: Mapping[str, object], where: str, cure: str) -> FileKind:
    """Return the value that ``as_json`` wrote.

    Args:
        where: names the file in a message; ``cure`` says what to do.

    Raises:
        InputError: a key is missing, or there is one that is not known, or a value of another type.
    """
    try:
        return kind.model_validate_json(json.dumps(content))  # in JSON a list is a tuple
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        wrong = {"missing": "is missing", "extra_forbidden": "is not known"}.get(first["type"])
        reason = wrong or f"is not what it should be: {first['msg']}"
        raise InputError(
            f"{where}: key {key!r} {reason}; another version of this program wrote it, {cure}"
        ) from error
