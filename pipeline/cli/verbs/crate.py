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
    from pipeline.data.run_files import column_files, folder_of, provenances
    from pipeline.report import crate as packing

    run = configuration.load(config, overrides)
    archive = folder_of(run).root / "crate.zip" if output is None else output
    inputs = provenances(column_files(run))
    packing.write(run, config, overrides, FOLDER / "Snakefile", inputs, archive)
    logger.info(f"wrote {archive}")
