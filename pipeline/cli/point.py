"""The point and the events that a verb is asked to look at, and the workers for it."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline import cluster
from pipeline import config as configuration
from pipeline.columns.make import make_columns
from pipeline.config import Config
from pipeline.config.textfiles import LONGEST_SHOWN
from pipeline.data import column_file, datasets, store
from pipeline.data.names import ALL, OPTIMISED, fold_name
from pipeline.data.run_files import ColumnFiles, is_current, notes
from pipeline.errors import ConfigError
from pipeline.evaluate.cross_fitting import paired, works_of_folds
from pipeline.evaluate.yields.purity import folds_by_purity
from pipeline.gradient.pieces import Pieces
from pipeline.gradient.sweeps import Executor, FreeValues
from pipeline.gradient.work import Work, prepare_work
from pipeline.optimise.automatic_widths import of_run
from pipeline.optimise.blocks import optimised
from pipeline.optimise.given_values import Value, parsed_value, require_free, with_values
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.width_names import missing_names

logger = logging.getLogger(__name__)


def config_and_values(path: Path, overrides: Sequence[str]) -> tuple[Config, dict[str, Value]]:
    """Return the overrides of the configuration and of free parameters apart; ``--set jet_pt=35``."""
    keys = [item for item in overrides if item.partition("=")[0].partition(".")[0] in Config.model_fields]
    config = configuration.load(path, keys)
    given = [item.partition("=") for item in overrides if item not in keys]
    for name, _, _ in given:
        require_free(config, f"--set {name[:LONGEST_SHOWN]}", name)
    return config, {
        name: parsed_value(f"--set {name}={text[:LONGEST_SHOWN]}", text) for name, _, text in given
    }


@contextlib.contextmanager
def looking(
    path: Path, overrides: Sequence[str], point: str, fold: str
) -> Iterator[tuple[Config, Work, FreeValues]]:
    """Return configuration, events of a fold, and the initial or optimised parameters, with some set by hand."""
    config, values = config_and_values(path, overrides)
    with _at(config, values, point, fold) as (run, pieces):
        yield run, *only(run, pieces)


@contextlib.contextmanager
def sweeping(
    path: Path,
    overrides: Sequence[str],
    point: str,
    fold: str,
    workers: int,
    memory_mb: int | None,
    *,
    relaxed: bool = False,
) -> Iterator[tuple[Config, Executor, Pieces]]:
    """Look at a point as ``looking`` does, with workers to go through all events, which may be in pieces.

    Args:
        relaxed: with smooth cuts, too, whose widths the configuration then has.
    """
    config, values = config_and_values(path, overrides)
    with (
        executor_of(config, workers, memory_mb) as executor,
        _at(config, values, point, fold, relaxed=relaxed) as (run, pieces),
    ):
        yield run, executor, pieces


def only(config: Config, pieces: Pieces) -> tuple[Work, FreeValues]:
    """Return events and parameters where all events have the same.

    Raises:
        ConfigError: they have not.
    """
    if len(pieces) > 1:
        raise ConfigError(
            f"run {config.run!r} has data.folds: {config.data.folds}, and optimised parameters for each of them; say "
            "which are meant by --fold fold_1: those of the optimisation outside of it, and its events"
        )
    return pieces[0].work, pieces[0].parameters


@contextlib.contextmanager
def _at(
    config: Config, values: dict[str, Value], point: str, fold: str, *, relaxed: bool = False
) -> Iterator[tuple[Config, Pieces]]:
    datasets.chosen(config, fold)
    initial = with_values(config, initial_parameters(config), values)
    with tempfile.TemporaryDirectory() as scratch:
        files = _current_columns(config, Path(scratch))
        wanted = [
            own for own in datasets.optimisations(config) if own is None or fold in (ALL, fold_name(own))
        ]
        if point == OPTIMISED:
            found = [with_values(config, optimised(config, files, own), values) for own in wanted]
        else:
            found = [initial]
        of = wanted if point == OPTIMISED else datasets.optimisations(config)[:1]
        found = folds_by_purity(config, cluster.InProcess(), files, list(zip(of, found, strict=True)))
        works = works_of_folds(config, files) if len(found) > 1 else [prepare_work(config, files, fold)]
        pieces = paired(works, found)
        if relaxed:
            config = of_run(config, files)
        elif config.widths:
            missing_names(config, pieces[0].work, pieces[0].parameters)  # a wrong name is an error here, too
        for note in notes(config, files):
            logger.info(note)
        yield config, pieces


def executor_of(
    config: Config, workers: int, memory_mb: int | None
) -> contextlib.AbstractContextManager[Executor]:
    """Return the workers of a run, with a warning where anybody may use them."""
    warning = cluster.unprotected(config.cluster)
    if warning is not None:
        logger.warning(warning)
    cluster.quiet()  # for good: Dask reports what was lost even after the run has ended
    return cluster.executor(config.cluster, workers, store.Folder(config.run).root, memory_mb)


def _current_columns(config: Config, scratch: Path) -> ColumnFiles:
    """Return column files of the run where they are up to date; the others are made in a scratch folder."""
    folder, found, read = store.Folder(config.run), [], False
    for job in datasets.columns_jobs(config):
        path = folder.columns(job.name)
        if not is_current(config, job):
            logger.info(f"reading {job.place} (no current column file of it in this run)")
            path = scratch / f"{job.name}.parquet"
            column_file.write(path, *make_columns(config, job))
            read = True
        found.append((job.sample, path))
    if read:
        logger.info(
            "these columns are not kept; `snakemake --until columns` or Run(...).columns() keeps them"
        )
    return found
