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

from pipeline.store import unwritable


class Log:
    """Lines for people: to the log file where there is one, and to standard error."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

    def line(self, text: str) -> None:
        """One line, at once."""
        if self._stream:
            print(text, file=self._stream, flush=True)
        if not (self._stream and self._console.is_terminal):
            self._console.print(text)

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
                if self._stream:
                    print(text, file=self._stream, flush=True)
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
                stream = stack.enter_context(path.open("w"))
            except OSError as error:
                raise unwritable(path, error) from error
            stack.push(lambda kind, error, trace: _record(stream, error))
        yield Log(stream)


def _record(stream: TextIO | None, error: BaseException | None) -> bool:
    if isinstance(error, Exception):
        traceback.print_exception(error, file=stream)
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
