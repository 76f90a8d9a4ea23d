"""The ways a run ends early; each message names the thing, its value, what was allowed and the cure."""

import difflib
import sys
import sysconfig
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from traceback import extract_tb, format_exception
from types import TracebackType

PACKAGE = Path(__file__).parent.resolve()
ANALYSES = PACKAGE / "analyses"
# Where code is that no physicist wrote for this analysis.
INSTALLED = (
    PACKAGE,
    *(Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
)
# Packages that an extra of this project brings, by the names they are imported with; pyproject.toml has their
# distributions, and a test compares the two.
EXTRAS = {
    "io": (
        *("aiohttp", "awkward", "coffea", "correctionlib", "cramjam", "hist", "isal", "pyarrow", "tenacity"),
        "uproot",
    ),
    "workflow": (
        *("cryptography", "dask", "distributed", "jinja2", "matplotlib", "mplhep", "rocrate", "snakemake"),
        *("markupsafe", "tornado"),  # of jinja2 and distributed
    ),
    "stats": ("cabinetry", "iminuit", "jsonpatch", "pyhf"),
}
_EXTRA_OF = {package: extra for extra, packages in EXTRAS.items() for package in packages}
LONGEST_REASON, LONGEST_LINE = 600, 120  # characters of an exception's message, and of a source line


class ThalwegError(Exception):
    """What the command line prints as one message, without a traceback."""


class ConfigError(ThalwegError):
    """The configuration or the analysis contradicts itself, the data, or the schema."""


class InputError(ThalwegError):
    """A file of the data set, or one made from it, cannot be used."""


class OutputError(ThalwegError):
    """A file cannot be written: no such place, no permission, no space."""


class RunError(ThalwegError):
    """A stage of a run has failed in its own process."""


class FitError(ThalwegError):
    """A fit did not converge or a value is not finite; no number is reported from it."""


class ClusterError(ThalwegError):
    """Workers, their scheduler or the batch system are not there, or not any more."""


class MissingExtraError(ThalwegError, ModuleNotFoundError):
    """A package is not installed that comes with an extra of this project."""


class AnalysisError(ThalwegError):
    """An exception of the physicist's own code: what it is, in which method, and the line of the source.

    It travels from worker to client as it is; `details` is the traceback, for logs and `--debug`.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message, details)
        self.details = details

    def __str__(self) -> str:
        return str(self.args[0])


class Failures:
    """What physicist's own code raised inside of compiled programs, which exceptions do not leave; the first of it."""

    def __init__(self) -> None:
        self._first: AnalysisError | None = None

    def note(self, error: AnalysisError) -> None:
        """Keep the first one."""
        self._first = self._first or error

    def raised(self) -> None:
        """Raise it where there is one."""
        if self._first is not None:
            raise self._first


class Noting:
    """Makes an exception of the physicist's own code, which runs in the block, an `AnalysisError` that says so.

    `with Noting("in Tiny.columns(events, 'ttbar')"):` names the method. Errors that explain themselves pass.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, KeyboardInterrupt) and not _is_ours(error):
            raise AnalysisError(_described(error, self._text), _details(error)) from error


def _is_ours(error: BaseException) -> bool:
    """Whether an exception explains itself: this package's own, a signal among them."""
    return isinstance(error, ThalwegError) or type(error).__module__.partition(".")[0] == __package__


def _details(error: BaseException) -> str:
    """The traceback."""
    return "".join(format_exception(error))


def _message(error: BaseException) -> str:
    """What an exception says of itself, which may fail as well."""
    try:
        return str(error)
    except Exception as other:
        return f"its own text cannot be made ({type(other).__name__})"


def _described(error: BaseException, text: str) -> str:
    """One line: what is wrong, in which method, and at which line of the source."""
    frames = extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)]
    called = (own or frames[1:2])[-1:]  # where none is the physicist's: what the block called
    places = [(frame.filename, frame.lineno, frame.line) for frame in called]
    reason = _message(error).strip().partition("\n\n")[0]
    if isinstance(error, SyntaxError) and error.filename:
        places, reason = [(error.filename, error.lineno, error.text)], error.msg
    said = textwrap.shorten(reason, LONGEST_REASON, placeholder=" ...") or "no message"
    lines = (
        f"; {file}, line {number}: {textwrap.shorten(source or '', LONGEST_LINE, placeholder=' ...')}"
        for file, number, source in places
    )
    kind = next(c.__name__ for c in type(error).__mro__ if not c.__name__.startswith("_"))
    return "".join((f"{kind} {text}: {said}", *lines))


def _is_own(filename: str) -> bool:
    """Whether a file is the physicist's: neither installed, nor Python's, nor this package's but for its analyses."""
    if not (path := Path(filename)).is_absolute() and not path.is_file():
        return False  # <frozen importlib> and the like
    path = path.resolve()
    return path.is_relative_to(ANALYSES) or not any(path.is_relative_to(folder) for folder in INSTALLED)


def nearest(name: str, allowed: Iterable[str], count: int = 3) -> str:
    """The allowed names closest to a misspelt one, as the end of a message."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.4)
    return f"nearest: {', '.join(map(repr, close))}" if close else f"allowed: {', '.join(map(repr, names))}"


def refuse_missing(package: str) -> None:
    """Raise where a module of this package asks for a package of an extra that is not there.

    Others' imports, which may do without it, are theirs. To be called where no finder has found the package.
    """
    asking = next(_asking(), "")
    if package in _EXTRA_OF and asking.startswith("pipeline."):
        raise MissingExtraError(
            f"{asking} needs the package {package!r}, which is not installed; it comes with the extra "
            f'{_EXTRA_OF[package]!r}: pip install "thalweg[{_EXTRA_OF[package]}]", or "thalweg[all]" for whole runs',
            name=package,
        )


def _asking() -> Iterator[str]:
    """The modules whose code is running, from the innermost outwards, without those that do the importing."""
    frame = sys._getframe(1)
    while (frame := frame.f_back) is not None:  # type: ignore[assignment]
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] != "importlib" and name not in (__name__, "pipeline"):
            yield name
