"""How a process ends before its time: Ctrl-C, a batch system's SIGTERM, a terminal that is closed."""

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

WORDS: dict[int, str] = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "terminated",
}
AGAIN = (
    1.0  # seconds: a terminal and Snakemake may both send a signal at once, a person's second one comes later
)
GRACE = 20.0  # seconds to shut workers down; batch systems kill after some 30


class Ended(BaseException):
    """A signal came; no ``except Exception`` on the way holds it up."""


class Signals:
    """What has come.

    Attributes:
        number: the first signal; None: none has come.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._raised = False
        self._repeated = False

    @property
    def sentence(self) -> str:
        """What the user is told."""
        number = signal.Signals(self.number or signal.SIGINT)
        return f"{WORDS[number]} by {number.name}; finished files stay, the same command goes on from there"

    @property
    def code(self) -> int:
        """The exit code, as shells have it."""
        return 128 + (self.number or signal.SIGINT)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Watch for signals: the first raises ``Ended`` where the process is, a second one ends it at once.

        So does a first one after a while: compiling, or a worker that does not answer, may keep Python from it. What
        the process was told to ignore, as by nohup, it ignores.
        """
        kept: dict[int, Any] = {}
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        watch = threading.Thread(target=_watch, args=(reading, self), name="signals", daemon=True)
        watch.start()
        before, hook = signal.set_wakeup_fd(writing, warn_on_full_buffer=False), sys.unraisablehook
        sys.unraisablehook = lambda lost: self._lost(lost, hook)
        try:
            for number in WORDS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    kept[number] = signal.signal(number, self._received)
            yield
        finally:
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)  # Python's own way is a traceback
            for number, handler in kept.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
            sys.unraisablehook = hook
            os.close(writing)
            watch.join()
            os.close(reading)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self._raised:
            return
        self._raised, self.number = True, number
        if _is_importing(frame):
            self.end()
        raise Ended

    def end(self) -> NoReturn:
        """Print the line and end the process, without tidying up."""
        with contextlib.suppress(OSError, ValueError):
            os.write(sys.stderr.fileno(), f"{self.sentence}\n".encode())
        os._exit(self.code)

    def _lost(self, lost: Any, otherwise: Callable[[Any], None]) -> None:
        """Raise it again a moment later: Python drops what is raised while it collects garbage."""
        if not isinstance(lost.exc_value, Ended) or self.number is None:
            otherwise(lost)
            return
        self._raised, self._repeated = False, True
        threading.Timer(0.01, os.kill, (os.getpid(), self.number)).start()

    def _is_repeated(self) -> bool:
        repeated, self._repeated = self._repeated, False
        return repeated


def _watch(reading: int, came: Signals) -> None:
    """End the process when a second signal comes, or some time after the first; return when the pipe is closed.

    What a signal means is for its handler to say: code that runs here may have one of its own, for an end in order.
    """
    first = 0
    began: float | None = None
    while began is None or time.monotonic() < began + GRACE:
        left = None if began is None else max(0.0, began + GRACE - time.monotonic())
        if not select.select([reading], [], [], left)[0]:
            break
        content = os.read(reading, 1)
        if not content:
            return
        if content[0] not in WORDS or came._is_repeated():
            continue
        if began is not None and time.monotonic() >= began + AGAIN:
            break
        if began is None:
            first, began = content[0], time.monotonic()
    came.number = came.number or first
    came.end()


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a module is being imported: compiled ones may crash when an exception comes meanwhile."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
