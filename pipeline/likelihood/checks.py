"""Check that a workspace is one: by pyhf's schema, and by what it lets pass."""

import contextlib
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TypeGuard

from pipeline.errors import MissingExtraError
from pipeline.likelihood.structure import require_structure
from pipeline.likelihood.workspace import Workspace, check_type


def validate(workspace: Workspace) -> None:
    """Refuse modifiers of unknown types, and whatever else pyhf's schema refuses; the message says where.

    Without pyhf, which comes with the extra ``stats``, its ``structure`` is asked.
    """
    with contextlib.suppress(AttributeError, TypeError):  # of another structure: the schema says so
        for channel in workspace.get("channels", ()):
            for sample in channel.get("samples", ()):
                where = f"channel '{channel.get('name')}', sample '{sample.get('name')}'"
                for modifier in sample.get("modifiers", ()):
                    check_type(modifier.get("type"), f"{where}, modifier '{modifier.get('name')}'")
    try:
        _by_schema(workspace)
    except ValueError as error:
        raise ValueError(
            f"workspace: {error}; mend it as https://scikit-hep.org/pyhf/likelihood.html says"
        ) from error
    _refuse_truths(workspace, "workspace")


def _by_schema(workspace: Workspace) -> None:
    """Ask pyhf, where it is installed: it takes half a second to import, so not before it is needed."""
    try:
        pyhf = import_module("pyhf")
    except MissingExtraError:
        require_structure(workspace)
        return
    try:
        pyhf.schema.validate(workspace, "workspace.json")
    except pyhf.exceptions.InvalidSpecification as error:
        raise ValueError(error) from error


def _refuse_truths(content: object, where: str) -> None:
    """Refuse true and false, which pyhf takes for the numbers 1 and 0."""
    if isinstance(content, bool):
        raise ValueError(f"{where} is {str(content).lower()}, which is no number; write a number")
    items = (
        content.items() if isinstance(content, Mapping) else enumerate(content) if _is_list(content) else ()
    )
    for key, value in items:
        if key != "fixed":
            _refuse_truths(value, f"{where}[{key!r}]")


def _is_list(content: object) -> TypeGuard[Sequence[object]]:
    return isinstance(content, list | tuple)
