"""What a check finds: errors, which would end the run, and notes, which a person should judge."""

from collections.abc import Callable
from typing import TypeVar

from pipeline.errors import ThalwegError

Found = TypeVar("Found")


class Findings:
    """Tells each finding as it comes, once, and counts them.

    Args:
        tell: is given a line.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._told = tell, set[str]()
        self.errors, self.notes = 0, 0

    def error(self, text: str) -> None:
        """Tell what would end the run."""
        self.errors += self._say("error", text)

    def note(self, text: str) -> None:
        """Tell what a person should judge."""
        self.notes += self._say("note", text)

    def fine(self, text: str) -> None:
        """Tell how far the check came."""
        self._say("fine", text)

    def tried(self, call: Callable[[], Found]) -> Found | None:
        """Return what a step of the run returns; None where it raises, which is told line by line."""
        try:
            return call()
        except ThalwegError as error:
            for line in lines_of(str(error)):
                self.error(line)
        except SyntaxError as error:  # of the analysis: every other file was compiled before
            self.error(
                f"{error.filename}, line {error.lineno}: {error.msg}; correct this file of the analysis"
            )
        return None

    def _say(self, kind: str, text: str) -> int:
        line = f"{kind}: {text}"
        if line in self._told:
            return 0
        self._told.add(line)
        self._tell(line)
        return 1


def lines_of(message: str) -> list[str]:
    """Return what a message lists under a heading, or all of it in one line."""
    heading, *listed = message.split("\n  ")
    return listed if listed and heading.endswith(":") else [" ".join(message.split())]
