"""The command line; the only place that catches errors, prints and exits."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from pipeline.arguments import parser
from pipeline.errors import OutputError, ThalwegError
from pipeline.progress import Log, log
from pipeline.runtime import environment
from pipeline.verbs import VERBS


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and exit.

    Exit code 0; 1 for an error, explained where it is the user's and with its traceback where it is in code; 2 for
    wrong usage; 130 when interrupted, 143 when terminated, as batch systems do.
    """
    options = parser(VERBS).parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + signal.SIGTERM))
    try:
        with log(getattr(options, "log", None)) as lines:
            _explained(options, lines)
    except OutputError as error:  # of the log itself
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted; finished files stay, nothing is half written", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def _explained(options: argparse.Namespace, lines: Log) -> None:
    try:
        _set_up_jax()
        options.verb(options, lines)
    except ThalwegError as error:
        lines.line(f"error: {error}")
        sys.exit(1)
    except SyntaxError as error:  # of the analysis: every other file was compiled before
        place = f"{error.filename}, line {error.lineno}"
        lines.line(f"error: {place}: {error.msg}; correct this file of the analysis")
        sys.exit(1)


def _set_up_jax() -> None:
    """The runtime's environment, read when JAX is imported, and float64."""
    os.environ.update(environment())
    import jax

    jax.config.update("jax_enable_x64", True)
