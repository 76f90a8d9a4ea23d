"""The verb that packs a run for others."""

import logging
from pathlib import Path

import click

from pipeline.cli.options import PathOption, of_a_run, verb
from pipeline.cli.verbs.snakefile import FOLDER

logger = logging.getLogger(__name__)


@verb
@of_a_run
@click.option("--output", type=PathOption(), help="archive to write (default: results/RUN/crate.zip)")
def crate(config: Path, overrides: tuple[str, ...], output: Path | None) -> None:
    """Pack a run as an RO-Crate: result, workspaces, configuration, versions, inputs."""
    from pipeline import config as configuration
    from pipeline.data import store
    from pipeline.data.fingerprint import fingerprint_of
    from pipeline.data.run_files import column_files, evaluation_header, folder_of, provenances
    from pipeline.evaluate import evaluation
    from pipeline.report import crate as packing

    run = configuration.load(config, overrides)
    archive = folder_of(run).root / "crate.zip" if output is None else output
    files = column_files(run)
    evaluation.read(store.Folder(run.run).evaluation, evaluation_header(run, fingerprint_of(run, files)))
    packing.write(run, config, overrides, FOLDER / "Snakefile", provenances(files), archive)
    logger.info(f"wrote {archive}")
