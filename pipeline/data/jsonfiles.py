"""Text and JSON files of a run, written in one step; what is read is checked to be JSON."""

import json
from pathlib import Path
from typing import Any

from pipeline.config import textfiles
from pipeline.data.atomic import replacing
from pipeline.errors import InputError


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding=textfiles.ENCODING)


def write_json(path: Path, content: object) -> None:
    """Write JSON in one step; floats keep all their bits, and NaN or infinity is an error."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        InputError: it cannot be read, or is no JSON, see ``textfiles.from_json``.
    """
    name = textfiles.named(path)
    try:
        text = textfiles.read(path, textfiles.LARGEST_JSON)
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{name} {error}") from error
    try:
        return textfiles.from_json(text)
    except ValueError as error:
        raise InputError(f"{name} is not JSON: {error}") from error
