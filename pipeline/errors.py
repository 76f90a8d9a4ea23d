"""The three ways a run ends early; each message names the thing, its value, what was allowed and the cure."""

import difflib
from collections.abc import Iterable


class ThalwegError(Exception):
    """What the command line prints as one message, without a traceback."""


class ConfigError(ThalwegError):
    """The configuration or the analysis contradicts itself, the data, or the schema."""


class InputError(ThalwegError):
    """A file of the data set cannot be used."""


class FitError(ThalwegError):
    """A fit did not converge or a value is not finite; no number is reported from it."""


def nearest(name: str, allowed: Iterable[str], count: int = 3) -> str:
    """The allowed names closest to a misspelt one, as the end of a message."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.4)
    return f"nearest: {', '.join(map(repr, close))}" if close else f"allowed: {', '.join(map(repr, names))}"
