"""Messages: the package's logger writes to standard error and to a file; a terminal has a bar for a long step."""

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from rich.console import Console, ConsoleRenderable
from rich.highlighter import NullHighlighter
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.data.atomic import unwritable
from pipeline.data.record import EpochRecord
from pipeline.errors import OutputError

PACKAGE = "pipeline"  # the logger of it, and no other library's: Dask's own messages are not for the user
logger = logging.getLogger(__name__)
IN_BAR = {"in_bar": True}  # of a message that a terminal shows in the bar


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raise what stopped the printing; Rich would end the process."""
        raise BrokenPipeError


class _LogFile(logging.StreamHandler[TextIO]):
    """The file of ``--log``.

    What an earlier run left in it goes with the first line: a process that only serves others writes none.

    Attributes:
        writable: whether nothing has failed so far; further lines are not tried.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.writable = True
        self._begun = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line.

        Raises:
            OutputError: it cannot be written.
        """
        if not self.writable:
            return
        try:
            if not self._begun:
                self.stream.truncate(0)
                self._begun = True
            print(self.format(record), file=self.stream, flush=True)
        except OSError as error:
            self.writable = False
            _to_nowhere(self.stream)
            raise unwritable(Path(self.stream.name), error) from error


class _Terminal(RichHandler):
    """Plain lines on standard error; a run goes on whose terminal was closed, or whose reader has gone.

    A terminal shows no line that is in the file or in the bar.
    """

    def __init__(self, file: _LogFile | None, *, debug: bool) -> None:
        console = _Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        super().__init__(console=console, highlighter=NullHighlighter(), keywords=[])
        self._file, self._debug = file, debug

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a message is shown; tracebacks are for those who ask for them."""
        if record.levelno == logging.DEBUG:
            return self._debug
        elsewhere = hasattr(record, "in_bar") or (self._file is not None and self._file.writable)
        return not (elsewhere and self.console.is_terminal)

    def render(self, *, message_renderable: ConsoleRenderable, **_: object) -> ConsoleRenderable:
        """Return the message alone, on one line: rich's columns for time, level and path would fold it."""
        return message_renderable

    def handleError(self, record: logging.LogRecord) -> None:
        """Handle an exception that stopped the printing; logging calls this."""
        if not isinstance(sys.exception(), OSError):
            raise
        self.console.quiet = True
        _to_nowhere(sys.stderr)


@contextlib.contextmanager
def logged(path: Path | None, *, debug: bool = False) -> Iterator[None]:
    """Send messages of the package to standard error and to a file; of a terminal's only to the file.

    Args:
        debug: tracebacks go to standard error too.

    Raises:
        OutputError: the file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        file = None if path is None else _LogFile(stack.enter_context(_opened(path)))
        handlers: list[logging.Handler] = [*([] if file is None else [file]), _Terminal(file, debug=debug)]
        package = logging.getLogger(PACKAGE)
        level, propagate = package.level, package.propagate
        package.setLevel(logging.DEBUG)
        package.propagate = False  # an analysis may set up the root logger: each line would come twice
        for handler in handlers:
            package.addHandler(handler)
        try:
            yield
        finally:
            for handler in handlers:
                package.removeHandler(handler)
            package.setLevel(level)
            package.propagate = propagate


def _opened(path: Path) -> TextIO:
    """Return the file of ``--log``, to go on with."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise OutputError(f"cannot write the log {path}: it is no ordinary file; choose another path")
        return path.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise unwritable(path, error) from error


def log_traceback(error: BaseException) -> None:
    """Log the traceback of an exception, for the file and for people who ask for it."""
    text = getattr(error, "details", "") or "".join(traceback.format_exception(error))
    with contextlib.suppress(OutputError):  # the error itself is what matters
        logger.debug(text.rstrip())


@contextlib.contextmanager
def bar(what: str, total: int, start: int = 0) -> Iterator[Callable[[str], None]]:
    """Give a function to call once per step with the step's line; on a terminal a bar moves instead."""
    console = next(
        (own.console for own in logging.getLogger(PACKAGE).handlers if isinstance(own, _Terminal)), None
    )
    if console is None or not console.is_terminal:
        yield logger.info
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total, completed=start)

        def step(text: str) -> None:
            logger.info(text, extra=IN_BAR)
            progress.update(task, advance=1, description=f"{what}: {text}")

        yield step


def epoch_line(record: EpochRecord) -> str:
    """Return epoch, objective, gradient norm, seconds, events/s; the exact objective where it was checked."""
    checks = [check for check in (record.check, record.last_check) if check is not None]
    exact = "".join(f"  exact {check.objective:.6f}" for check in checks)
    start = f"start {record.start}  " if record.start else ""
    return (
        f"{start}epoch {record.epoch - record.begun:5d}  objective {record.objective:.6f}{exact}  "
        f"|gradient| {record.gradient_norm:.3e}  {record.seconds:6.2f} s  {record.events_per_second:.3g} events/s"
    )


def to_standard_output(text: str) -> None:
    """Print the result of a verb.

    Raises:
        OutputError: nobody reads it, as after ``| head``, or there is no space.
    """
    try:
        print(text, file=sys.stdout, flush=True)  # noqa: T201
    except OSError as error:
        _to_nowhere(sys.stdout)
        raise unwritable(Path("standard output"), error) from error


def _to_nowhere(stream: TextIO) -> None:
    """Drop what cannot be written; else Python tries once more when the stream is closed."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
