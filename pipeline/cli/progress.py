"""What a long step shows: a progress bar on a terminal, plain lines in a log."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.data.record import EpochRecord
from pipeline.data.store import unwritable
from pipeline.errors import OutputError


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process."""
        raise BrokenPipeError


class Log:
    """Lines for people: to the log file where there is one, and to standard error.

    What an earlier run left in the file goes with the first line: a process that only serves others writes none.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._begun = False
        self._console = _Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

    def line(self, text: str) -> None:
        """One line, at once."""
        self.record(text)
        if not (self._stream and self._console.is_terminal):
            self._show(text)

    def _show(self, text: str) -> None:
        """Print it; a run goes on whose terminal was closed, or whose reader has gone."""
        try:
            self._console.print(text)
        except OSError:
            self._console.quiet = True
            _to_nowhere(sys.stderr)

    def record(self, text: str) -> None:
        """One line for the file alone.

        Raises:
            OutputError: it cannot be written; further lines are not tried.
        """
        stream = self._stream
        if stream is None:
            return
        try:
            if not self._begun:
                stream.truncate(0)
                self._begun = True
            print(text, file=stream, flush=True)
        except OSError as error:
            self._stream = None
            _to_nowhere(stream)
            raise unwritable(Path(stream.name), error) from error

    def traceback(self, error: BaseException, *, shown: bool) -> None:
        """Where an exception came from, for the file; and for people where `shown`."""
        text = getattr(error, "details", "") or "".join(traceback.format_exception(error))
        with contextlib.suppress(OutputError):  # the error itself is what matters
            self.record(text.rstrip())
        if shown:
            self._show(text.rstrip())

    @contextlib.contextmanager
    def bar(self, what: str, total: int, start: int = 0) -> Iterator[Callable[[str], None]]:
        """A function to call once per step with the step's line; on a terminal a bar moves as well."""
        if not self._console.is_terminal:
            yield self.line
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(what, total=total, completed=start)

            def step(text: str) -> None:
                self.record(text)
                progress.update(task, advance=1, description=f"{what}: {text}")

            yield step


@contextlib.contextmanager
def log(path: Path | None) -> Iterator[Log]:
    """The log of one verb; `path=None` is standard error alone.

    Raises:
        OutputError: the file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        stream = None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.exists() and not path.is_file():
                    raise OutputError(
                        f"cannot write the log {path}: it is no ordinary file; choose another path"
                    )
                stream = stack.enter_context(path.open("a", encoding="utf-8", errors="backslashreplace"))
            except OSError as error:
                raise unwritable(path, error) from error
        yield Log(stream)


def epoch_line(record: EpochRecord) -> str:
    """Epoch, objective, gradient norm, seconds, events/s."""
    return (
        f"epoch {record.epoch:5d}  objective {record.objective:.6f}  |gradient| {record.gradient_norm:.3e}  "
        f"{record.seconds:6.2f} s  {record.events_per_second:.3g} events/s"
    )


def to_standard_output(text: str) -> None:
    """A verb's result.

    Raises:
        OutputError: nobody reads it, as after `| head`, or there is no space.
    """
    try:
        print(text, file=sys.stdout, flush=True)  # noqa: T201
    except OSError as error:
        _to_nowhere(sys.stdout)
        raise unwritable(Path("standard output"), error) from error


def _to_nowhere(stream: TextIO) -> None:
    """What cannot be written is dropped; else Python tries once more when the stream is closed."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
