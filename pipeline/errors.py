"""The ways a run ends early; each message names the thing, its value, what was allowed and the cure."""

import difflib
from collections.abc import Iterable
from types import TracebackType


class ThalwegError(Exception):
    """What the command line prints as one message, without a traceback."""


class ConfigError(ThalwegError):
    """The configuration or the analysis contradicts itself, the data, or the schema."""


class InputError(ThalwegError):
    """A file of the data set, or one made from it, cannot be used."""


class OutputError(ThalwegError):
    """A file cannot be written: no such place, no permission, no space."""


class FitError(ThalwegError):
    """A fit did not converge or a value is not finite; no number is reported from it."""


class ClusterError(ThalwegError):
    """Workers, their scheduler or the batch system are not there, or not any more."""


class Noting:
    """Says where in the physicist's own code an unexpected exception came from; its traceback stays as it is.

    A `with Noting("..."):` block adds the text to the end of the traceback. Errors that explain themselves pass.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, ThalwegError):
            error.add_note(self._text)


def nearest(name: str, allowed: Iterable[str], count: int = 3) -> str:
    """The allowed names closest to a misspelt one, as the end of a message."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.4)
    return f"nearest: {', '.join(map(repr, close))}" if close else f"allowed: {', '.join(map(repr, names))}"
