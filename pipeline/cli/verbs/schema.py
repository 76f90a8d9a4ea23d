"""The verb that writes the reference of the configuration."""

import logging
from pathlib import Path

import click

from pipeline.cli.options import PathOption, verb

logger = logging.getLogger(__name__)


@verb
@click.option("--folder", type=PathOption(), default=Path("config"), help="to write to (default: config)")
def schema(folder: Path) -> None:
    """Write config/schema.json and the key table of config/README.md."""
    from pipeline.cli import reference

    reference.write(folder)
    logger.info(f"wrote {folder}/schema.json and the table in {folder}/README.md")
