"""What a long step shows: a progress bar on a terminal, plain lines in a log."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.errors import OutputError
from pipeline.store import unwritable


class Log:
    """Lines for people: to the log file where there is one, and to standard error.

    What an earlier run left in the file goes with the first line: a process that only serves others writes none.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._begun = False
        self._console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

    def line(self, text: str) -> None:
        """One line, at once."""
        self.record(text)
        if not (self._stream and self._console.is_terminal):
            self._console.print(text)

    def record(self, text: str) -> None:
        """One line for the file alone."""
        if self._stream is None:
            return
        if not self._begun:
            self._stream.truncate(0)
            self._begun = True
        print(text, file=self._stream, flush=True)

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
    """The log of one verb; `path=None` is standard error alone. The file holds the traceback of an exception as well.

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
        lines = Log(stream)
        stack.push(lambda kind, error, trace: _record(lines, error))
        yield lines


def _record(lines: Log, error: BaseException | None) -> bool:
    if isinstance(error, Exception):
        lines.record("".join(traceback.format_exception(error)).rstrip())
    return False


def epoch_line(record: Mapping[str, Any]) -> str:
    """Epoch, objective, gradient norm, seconds, events/s."""
    return (
        f"epoch {record['epoch']:5d}  objective {record['objective']:.6f}  |gradient| {record['gradient_norm']:.3e}  "
        f"{record['seconds']:6.2f} s  {record['events_per_second']:.3g} events/s"
    )


def to_standard_output(text: str) -> None:
    """A verb's result.

    Raises:
        OutputError: nobody reads it, as after `| head`, or there is no space.
    """
    try:
        print(text, file=sys.stdout, flush=True)  # noqa: T201
    except OSError as error:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # else Python tries once more when it ends
        raise unwritable(Path("standard output"), error) from error
