"""The files of a job -> rectangular arrays of the preselected events, in one column file."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from pipeline import analysis as contract
from pipeline.analysis import Analysis
from pipeline.analysis.theory import weight_fault
from pipeline.columns import rootfile
from pipeline.columns.one_file import Folds, contents_of, kinds, read_events
from pipeline.columns.rootfile import UnreadableFile, where
from pipeline.columns.selection import NumpyColumns
from pipeline.config import Config
from pipeline.data import datasets
from pipeline.data.column_file import Contents, Provenance
from pipeline.data.jobs import ColumnsJob, SourceFile
from pipeline.data.provenance import branch_of_generator_weights, coefficients_in_models, recipes
from pipeline.errors import InputError

logger = logging.getLogger(__name__)
WIDEST = np.dtype(np.int64)  # holds the bits of every whole number


def make_columns(config: Config, job: ColumnsJob) -> tuple[Folds, list[Provenance]]:
    """Return columns of the files of a job of a run, one after the other, and the provenance of each.

    The provenance is what was read, by which analysis and version.

    A file that cannot be read gives no columns at all where ``data.unreadable_files`` is ``leave_out``: its provenance
    says why, and the normalisation goes by the events that were read.

    Raises:
        InputError: a file cannot be used, or the files of the job give different columns.
    """
    made_of = recipes(config, job.files)
    found = contract.load(config.analysis.target, config.analysis.options_json, config.analysis.content)
    read = [_of_file(config, found, file) for file in job.files]
    for file, before, now in zip(job.files, made_of, recipes(config, job.files), strict=True):
        if now != before:
            raise InputError(
                f"{where(file)}: the analysis or {file.path} was changed while it was read; run again"
            )
    flushed: Counter[str] = Counter()
    for _, contents in read:
        flushed.update(contents.subnormal)
    for column, number in flushed.items():
        logger.info(
            f"note: {number} values of column {column!r} are too small for their type and were set to 0"
        )
    stored = _common_types(job.files, [folds for folds, _ in read])
    provenances = [
        Provenance(**{**dict(contents), "types": _other_types(_any(folds), stored)}, **dict(recipe))
        for (folds, contents), recipe in zip(read, made_of, strict=True)
    ]
    return _joined([folds for folds, _ in read], stored), provenances


def _of_file(config: Config, analysis: Analysis, file: SourceFile) -> tuple[Folds, Contents]:
    """Return the columns of one file; none of one that is left out."""
    retried = rootfile.retried(file, config.data.read_attempts)
    try:
        made = retried(
            lambda: read_events(
                file,
                analysis,
                held_out_fraction=config.data.held_out_fraction,
                folds=config.data.folds,
                generator_weight=branch_of_generator_weights(config, file.sample),
            )
        )
        _require_polynomial(config, analysis, file, made[0])
        return made
    except UnreadableFile as error:
        if config.data.unreadable_files == "fail":
            raise
        logger.warning(f"left out: {error}")
        folds: Folds = {part: {} for part in datasets.parts(config)}
        return folds, contents_of(file, folds, dict.fromkeys(folds, 0)).changed(left_out=str(error))


def _require_polynomial(config: Config, analysis: Analysis, file: SourceFile, folds: Folds) -> None:
    """Raise where the weights of a sample that depends on the theory are no polynomials of its coefficients."""
    if coefficients_in_models(config, file.sample):
        for columns in folds.values():
            if reason := weight_fault(analysis, columns):
                raise InputError(f"{where(file)}: {reason}")


def _common_types(files: Sequence[SourceFile], read: Sequence[Folds]) -> dict[str, np.dtype]:
    """Return the type of each column in which the column file holds that of all files, without rounding.

    Raises:
        InputError: there is none, or the files give other columns, or other numbers of objects.
    """
    there = [(file, folds) for file, folds in zip(files, read, strict=True) if _any(folds)]
    types: dict[str, set[np.dtype]] = {}
    for file, folds in there:
        if _shapes(_any(folds)) != _shapes(_any(there[0][1])):
            _refuse(there[0], (file, folds))
        for name, array in _any(folds).items():
            types.setdefault(name, set()).add(array.dtype)
    common = {name: _common(found) for name, found in types.items()}
    for file, folds in there:
        if not all(_is_held(part[name], kind) for part in folds.values() for name, kind in common.items()):
            _refuse(there[0], (file, folds))
    return common


def _any(folds: Folds) -> NumpyColumns:
    """Return the columns of a fold: those of all have the same names and types."""
    return next(iter(folds.values()))


def _shapes(columns: NumpyColumns) -> dict[str, tuple[int, ...]]:
    return {name: array.shape[1:] for name, array in columns.items()}


def _common(types: set[np.dtype]) -> np.dtype:
    """Return a type that holds the numbers of all types, or else of all that are not too large."""
    found = np.result_type(*types)
    return WIDEST if found.kind == "f" and all(kind.kind in "biu" for kind in types) else found


def _is_held(array: np.ndarray, kind: np.dtype) -> bool:
    """Return whether an array comes back as it was from another type."""
    return array.dtype == kind or bool(np.array_equal(array.astype(kind).astype(array.dtype), array))


def _refuse(one: tuple[SourceFile, Folds], other: tuple[SourceFile, Folds]) -> NoReturn:
    """Raise what is said of two files whose columns do not fit into one column file."""
    (first, known), (file, found) = ((source, kinds(_any(folds))) for source, folds in (one, other))
    apart = [name for name in {**found, **known} if found.get(name) != known.get(name)]
    here, there = ({name: own[name] for name in apart if name in own} for own in (found, known))
    raise InputError(
        f"{where(file)}: columns() returns {here} for {file.path} and {there} for {first.path}, which one job reads; "
        "names, types and numbers of objects must not depend on the file"
    )


def _other_types(columns: NumpyColumns, stored: dict[str, np.dtype]) -> dict[str, str]:
    """Return the types of the columns that are stored in another one."""
    return {name: str(array.dtype) for name, array in columns.items() if array.dtype != stored[name]}


def _joined(read: Sequence[Folds], stored: dict[str, np.dtype]) -> Folds:
    """Return the columns of all files, one after the other; no columns where every file was left out."""
    there = [folds for folds in read if _any(folds)]
    if len(there) == 1:
        return there[0]
    return {
        fold: {
            name: np.concatenate([folds[fold][name].astype(kind, copy=False) for folds in there])
            for name, kind in stored.items()
        }
        for fold in read[0]
    }
