"""The command line; the only place that catches errors, prints and exits."""

import errno
import functools
import gc
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from pipeline.cli.signals import Signals
from pipeline.errors import OutputError, ThalwegError
from pipeline.runtime import environment

logger = logging.getLogger(__name__)
# What the machine refuses whatever the program does: no space, no permission, too many open files, a broken disk.
OF_THE_MACHINE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE),
    *(errno.ENOMEM, errno.EAGAIN, errno.EIO, errno.ESTALE),
)
# Python looks for garbage after so many new objects, not 700: nearly all of what a verb imports stays, and looking
# through it again and again takes a seventh of the time of a short job.
NEW_OBJECTS = 10_000


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and exit.

    Exit code 0; 1 for an error, explained where it is the user's, and with its traceback in the log where it is ours;
    2 for wrong usage; 130 when interrupted, 143 when terminated, 129 when the terminal was closed, as shells say.
    """
    gc.set_threshold(NEW_OBJECTS)
    came = Signals()
    code = 0
    try:
        with came.watched():
            code = _run(arguments, came)
    except OutputError as error:  # of the log itself
        sys.exit(f"error: {error}")
    except BaseException as error:
        if came.number is None and not isinstance(error, KeyboardInterrupt):
            raise
        print(came.sentence, file=sys.stderr)  # before there was a log, or after
        code = came.code
    sys.exit(code)


def _run(arguments: Sequence[str] | None, came: Signals) -> int:
    """Return the exit code; a signal may come while the command is imported."""
    import click

    from pipeline.cli.command import thalweg

    # As `python -m` has it: a module of an analysis may be in the working directory.
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.insert(0, "")
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    try:
        with thalweg.make_context("thalweg", given, obj=functools.partial(_logged, came)) as context:
            code: int = thalweg.invoke(context)
        return code
    except click.exceptions.Exit as end:  # of --help and --version
        return end.exit_code
    except click.UsageError as error:
        error.show()
        return error.exit_code


def _logged(came: Signals, verb: Callable[[], None], log: Path | None, debug: bool) -> int:
    """Import the log, which takes seconds in which a signal may come, and run the verb with it."""
    from pipeline.cli.progress import logged

    with logged(log, debug=debug):
        return _ended(came, verb, log, debug)


def _ended(came: Signals, verb: Callable[[], None], log: Path | None, debug: bool) -> int:
    """Run the verb; the exit code, after a line for whatever stopped it."""
    from pipeline.cli.progress import log_traceback

    try:
        _set_up_jax()
        verb()
        return 0
    except BaseException as error:
        if (
            isinstance(error, SystemExit) and came.number is None
        ):  # of a scheduler or worker that this process was
            raise
        ended = came.number is not None or isinstance(error, KeyboardInterrupt)
        ours = not ended and _is_ours(error)
        if ours or debug:
            log_traceback(error)
        logger.error(came.sentence if ended else f"error: {_explained(error, log, debug)}")
        return came.code if ended else 1


def _is_ours(error: BaseException) -> bool:
    """Return whether an exception says that something is wrong with this program, and not with what it was given."""
    if isinstance(error, OSError):
        return error.errno not in OF_THE_MACHINE
    return not isinstance(error, ThalwegError | SyntaxError | MemoryError) and not _is_memory(error)


def _explained(error: BaseException, log: Path | None, debug: bool) -> str:
    """Return the sentence that the user reads of an exception."""
    if isinstance(error, ThalwegError):
        return str(error)
    if isinstance(error, SyntaxError):  # of the analysis: every other file was compiled before
        return f"{error.filename}, line {error.lineno}: {error.msg}; correct this file of the analysis"
    if _is_memory(error):
        return "no memory is left; lower cluster.chunk_events or cluster.memory_mb, or take fewer --workers"
    said = " ".join(f"{type(error).__name__}: {error}".split())
    if not _is_ours(error):
        return f"the system refused ({said}); check space and permissions, then run again"
    shown = (
        "with what is printed above"
        if debug
        else f"with the file {log}, which holds the traceback"
        if log
        else "with what the same command prints when --debug is added"
    )
    return f"{said}; this is a fault of Thalweg and not yours: please report it, {shown}"


def _is_memory(error: BaseException) -> bool:
    """Return whether an exception says that no memory is left: NumPy's and Python's own, or XLA's."""
    return isinstance(error, MemoryError) or (
        type(error).__name__ in ("XlaRuntimeError", "JaxRuntimeError") and "RESOURCE_EXHAUSTED" in str(error)
    )


def _set_up_jax() -> None:
    """Set the environment that JAX reads when it is imported, and float64."""
    os.environ.update(environment())
    import jax

    jax.config.update("jax_enable_x64", True)
