"""A range of a ROOT file's entries -> awkward events, whole or with an error that says what is wrong with the file.

Remote reads fail now and then for reasons that pass: they are tried again, with growing pauses, before the file
counts as unreadable.
"""

import contextlib
import logging
import textwrap
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import awkward as ak
import cramjam
import numpy as np
import tenacity
import uproot
from isal import isal_zlib

from pipeline.analysis import FlatTree, NanoAOD
from pipeline.columns import branches
from pipeline.columns.branches import RNTUPLE, TTREE
from pipeline.columns.branches import where as where
from pipeline.data.jobs import SourceFile
from pipeline.errors import ConfigError, InputError, ThalwegError, nearest

Found = TypeVar("Found")
logger = logging.getLogger(__name__)
COMPRESSION_ERRORS: Any = (zlib.error, isal_zlib.error, cramjam.DecompressionError)
LONGEST_REASON = 300  # characters of an exception's message
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0  # seconds between two tries; each is twice the one before
INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]  # awkward's names
HTTP_SERVER_FAULT, HTTP_TOO_MANY = 500, 429


class UnreadableFile(InputError):
    """A file that is missing, damaged or does not answer: ``data.unreadable_files`` says what happens then."""


def decompress_faster() -> None:
    """Let isal decompress ZLIB, which most NanoAOD is, in half of zlib's time; for programs that read much.

    uproot documents ZLIB.library for this, but reads with an object of the class above that, which does not look there.
    """
    getattr(uproot.compression, "_decompress_ZLIB", uproot.ZLIB).library = "isal"


def retried(file: SourceFile, attempts: int) -> Callable[[Callable[[], Found]], Found]:
    """Return a function that calls another until no fault that may pass stops it, ``attempts`` times at most."""

    def tell(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        reason = error.__cause__ if isinstance(error, UnreadableFile) else error
        tried = f"try {state.attempt_number} of {attempts} to read {file.path} failed"
        logger.warning(f"{tried} ({_short(reason)}); the next is in {pause:g} s")

    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE),
        retry=tenacity.retry_if_exception(
            lambda error: file.is_remote and isinstance(error, UnreadableFile) and _passes(error.__cause__)
        ),
        before_sleep=tell,
        reraise=True,
    )


def _passes(error: BaseException | None) -> bool:
    """Return whether an error of a remote read may be gone the next time."""
    of_http = _is_of_http(error)
    if of_http and isinstance(status := getattr(error, "status", None), int):
        return status >= HTTP_SERVER_FAULT or status == HTTP_TOO_MANY
    if isinstance(error, LASTING) or "no such file" in str(error).lower():  # XRootD has no type for that
        return False
    return of_http or isinstance(error, (OSError, *COMPRESSION_ERRORS))


def _is_of_http(error: BaseException | None) -> bool:
    """Return whether an error is one of aiohttp's, whose import takes longer than reading a small file."""
    return any(kind.__module__.startswith("aiohttp.") for kind in type(error).__mro__)


@contextlib.contextmanager
def opened(file: SourceFile, reads: NanoAOD | FlatTree) -> Iterator[uproot.ReadOnlyDirectory]:
    """Open a file, and check that it is whole and has its tree and branches.

    Raises:
        UnreadableFile: missing, damaged, no answer.
        InputError: no such tree or branch.
    """
    with _root(file) as root:
        with blaming(file):
            classes = {**root.classnames(), **root.classnames(cycle=False)}
            _require_tree(file, reads.tree, classes)
            tree = root[reads.tree]
            branches.places(file, branches.of_tree(reads, tree), tree)
        yield root


def entries(file: SourceFile, reads: NanoAOD | FlatTree, root: uproot.ReadOnlyDirectory) -> range:
    """Return the entries to read: all of the tree's, or the range of the file that is asked for.

    Raises:
        UnreadableFile: there are none, or fewer than promised, in whatever range of the file.
    """
    with blaming(file):  # an RNTuple reads its footer only now
        there = int(root[reads.tree].num_entries)
    place = f"tree {reads.tree!r} of {file.path}"
    if there == 0:
        raise UnreadableFile(f"{where(file)}: {place} has zero entries; take the file out of the manifest")
    if there < file.least:
        raise UnreadableFile(
            f"{where(file)}: {place} has {there} entries, fewer than the manifest promises; correct its 'nevts' "
            f"({file.least}), or replace the file"
        )
    return range(file.start, there if file.stop is None else file.stop)


def events(
    file: SourceFile, reads: NanoAOD | FlatTree, root: uproot.ReadOnlyDirectory, start: int, stop: int
) -> tuple[ak.Array, np.ndarray]:
    """Return events ``start`` to ``stop`` as the analysis sees them, and their numbers.

    The branches are read and checked here, not when the analysis first touches them: what fails is the file's fault.
    """
    with blaming(file):
        tree = root[reads.tree]
        own = branches.of_tree(reads, tree)
        made = branches.arrays(file, own, tree, branches.places(file, own, tree), start, stop)
        found = branches.assembled(own, made)
    if reads.event is None:
        return found, np.arange(start, stop)
    numbers = made[reads.event]
    if str(numbers.type.content) not in INTEGERS:
        raise InputError(
            f"{where(file)}: branch {reads.event!r} of {file.path}, which should number the events, holds "
            f"{numbers.type.content}; it must hold one integer per event"
        )
    return found, ak.to_numpy(numbers)


@contextlib.contextmanager
def blaming(file: SourceFile) -> Iterator[None]:
    """Turn what uproot, its decompressors and awkward raise on a file's bytes into the error of that file.

    There is no end to what they raise on bytes that make no sense; nothing of the analysis's runs in such a block.
    """
    try:
        yield
    except ThalwegError:
        raise
    except NotImplementedError as error:
        raise InputError(f"{where(file)}: uproot cannot read {file.path}: {_short(error)}") from error
    except MemoryError as error:
        raise InputError(
            f"{where(file)}: reading {file.path} takes more memory than there is ({_short(error)}): it is damaged, or "
            "data.max_events_per_job is too large"
        ) from error
    except Exception as error:
        raise damaged(file, error) from error


def damaged(file: SourceFile, error: BaseException) -> UnreadableFile:
    """Return the error of a file whose bytes make no sense, or do not come."""
    return UnreadableFile(
        f"{where(file)}: {file.path} cannot be read: it is truncated, damaged or no ROOT file "
        f"({_short(error)}); replace it, take it out of the manifest, or see data.unreadable_files"
    )


def require_there(file: SourceFile) -> None:
    """Raise where a local file is none.

    Raises:
        UnreadableFile: it is not there, or something else is.
    """
    path = Path(file.path)
    if not file.is_remote and not path.is_file():
        what = "is no file" if path.exists() else "does not exist here or beside the manifest"
        raise UnreadableFile(f"{where(file)}: file {path} {what}; {file.cure_if_missing}")


@contextlib.contextmanager
def _root(file: SourceFile) -> Iterator[uproot.ReadOnlyDirectory]:
    """Open a file, and check that it is as long as its header says."""
    path = Path(file.path)
    require_there(file)
    with blaming(file):
        try:
            root = uproot.open({file.path: None}, array_cache=None)
        except ImportError as error:  # the reader of a protocol is a package of its own
            raise ConfigError(
                f"{where(file)}: {file.path} cannot be read: {_short(error)}; for root:// install thalweg[xrootd]"
            ) from error
    with root:
        promised = int(root.file.fEND)
        if not file.is_remote and path.stat().st_size < promised:
            raise damaged(file, EOFError(f"it has {path.stat().st_size} of {promised} bytes"))
        yield root


def _require_tree(file: SourceFile, tree: str, classes: Mapping[str, str]) -> None:
    trees = [name for name, kind in classes.items() if kind in (TTREE, RNTUPLE)]
    if tree in trees:
        return
    found = f"{tree!r} is a {classes[tree]} there" if tree in classes else f"no tree {tree!r} there"
    newest = [name for name in trees if ";" not in name]
    hint = nearest(tree, newest) if trees else "it holds no tree at all"
    raise InputError(f"{where(file)}: cannot read tree {tree!r} of {file.path}: {found}; {hint}")


def _short(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {textwrap.shorten(str(error), LONGEST_REASON, placeholder=' ...')}"
