"""Verbs of a run's own stages: optimise, evaluate, report."""

import logging
import time
from pathlib import Path

import click

from pipeline.cli.options import OUTPUT, PathOption, Required, Whole, of_a_run, verb, with_workers
from pipeline.errors import ConfigError

logger = logging.getLogger(__name__)


@verb
@of_a_run
@click.option("--block", type=Whole(1), default=1, help="block of epochs, from 1 (default: 1)")
@click.option(
    "--fold",
    type=Whole(1),
    help="of data.folds, from 1: optimise on the events outside of it (default: a run without folds)",
)
@OUTPUT
@with_workers
def optimise(
    config: Path,
    overrides: tuple[str, ...],
    block: int,
    fold: int | None,
    output: Path,
    workers: int,
    memory_mb: int | None,
) -> None:
    """Run one block of epochs."""
    from pipeline import config as configuration
    from pipeline import optimise as epochs
    from pipeline.cli.point import executor_of
    from pipeline.cli.progress import bar, epoch_line
    from pipeline.data import datasets
    from pipeline.data.fingerprint import fingerprint_of, of_optimisation
    from pipeline.data.names import fold_name
    from pipeline.data.run_files import blocks, column_files, folder_of, notes
    from pipeline.gradient.work import prepare_work
    from pipeline.optimise.automatic_widths import told, with_all_widths
    from pipeline.optimise.blocks import end_of
    from pipeline.optimise.parameters import initial_parameters
    from pipeline.optimise.starts import is_over

    run = configuration.load(config, overrides)
    if block > len(blocks(run)):
        raise ConfigError(f"--block {block}: run {run.run!r} has the blocks 1 to {len(blocks(run))}")
    seen, folder = datasets.training(run, fold), folder_of(run, fold)
    with executor_of(run, workers, memory_mb) as executor:
        files = column_files(run)
        work = prepare_work(run, files, seen)
        if fold is not None:
            prepare_work(
                run, files, fold_name(fold)
            )  # which must have events, too, as will be asked at the end
        fingerprint = of_optimisation(fingerprint_of(run, files), fold)
        start = initial_parameters(run)
        written, run = run, with_all_widths(run, work, start)
        state = epochs.initial_state(run, start)
        if block > 1:
            state, _ = epochs.load(folder.block(block - 1), run, start, fingerprint, block - 1)
        until = end_of(run, block)
        for note in notes(run, files):
            logger.info(note)
        where = f"{work.events} events in {len(work.groups)} groups on {executor.workers} workers"
        left = "no epoch, the run is over" if is_over(run, state) else f"epochs {state.epoch} to {until - 1}"
        logger.info(f"{where}; {left}")
        told(written, run)
        with bar("optimise", run.optimise.all_epochs, state.epoch) as show:
            state, found = epochs.run(
                run, executor, work, state, until=until, checkpoints=folder.checkpoints, fingerprint=fingerprint,
                progress=lambda record: show(epoch_line(record)),
            )  # fmt: skip
    epochs.save(output, state, fingerprint, found, block)


@verb
@of_a_run
@OUTPUT
@with_workers
def evaluate(
    config: Path, overrides: tuple[str, ...], output: Path, workers: int, memory_mb: int | None
) -> None:
    """Apply exact cuts before and after the optimisation, on every fold, and fit with pyhf."""
    from pipeline import config as configuration
    from pipeline.cli.point import executor_of
    from pipeline.data import datasets
    from pipeline.data.fingerprint import fingerprint_of
    from pipeline.data.progress import kept
    from pipeline.data.run_files import column_files, evaluation_header, notes, records_of_all
    from pipeline.evaluate.cross_fitting import cross_fitted
    from pipeline.evaluate.stage import all_points, write
    from pipeline.evaluate.summary import Seconds
    from pipeline.optimise.automatic_widths import of_run
    from pipeline.optimise.blocks import both_points, optimised
    from pipeline.optimise.parameters import initial_parameters

    run, started = configuration.load(config, overrides), time.perf_counter()
    with executor_of(run, workers, memory_mb) as executor:
        files = column_files(run)
        for note in notes(run, files):
            logger.info(note)
        fingerprint = fingerprint_of(run, files)
        start, folds = initial_parameters(run), datasets.optimisations(run)
        epochs = records_of_all(run, fingerprint)
        whole = of_run(run, files)  # the fingerprint is of what is written
        if run.data.folds is None:
            result = all_points(whole, executor, files, both_points(run, files), kept(epochs[0]))
        else:
            found = [optimised(run, files, fold) for fold in folds]
            result = cross_fitted(whole, executor, files, start, found)
    seconds = Seconds(
        optimise=sum(record.seconds for own in epochs for record in own),
        evaluate=time.perf_counter() - started,
    )
    write(run, result, output, evaluation_header(run, fingerprint), seconds, *epochs)


@verb
@of_a_run
@OUTPUT
@click.option("--figures", type=PathOption(), cls=Required, help="folder for the figures (required)")
def report(config: Path, overrides: tuple[str, ...], output: Path, figures: Path) -> None:
    """Draw everything into one HTML page."""
    from pipeline import config as configuration
    from pipeline import report as stage
    from pipeline.data import store
    from pipeline.data.fingerprint import fingerprint_of
    from pipeline.data.run_files import column_files, evaluation_header, provenances, records_of_all
    from pipeline.evaluate import evaluation

    run = configuration.load(config, overrides)
    files = column_files(run)
    fingerprint = fingerprint_of(run, files)
    epochs = records_of_all(run, fingerprint)
    found = evaluation.read(store.Folder(run.run).evaluation, evaluation_header(run, fingerprint))
    stage.write(run, epochs[0], found, provenances(files), page=output, figures=figures, others=epochs[1:])
    logger.info(f"wrote {output}")
