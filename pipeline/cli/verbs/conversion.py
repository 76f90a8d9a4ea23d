"""The verb that writes a model in another format."""

import logging
from pathlib import Path
from typing import get_args

import click

from pipeline.cli.options import LOG, PathOption, Required, verb
from pipeline.errors import InputError

logger = logging.getLogger(__name__)

FORMATS = ("pyhf", "hs3", "combine", "cabinetry", "hepdata")


@verb
@click.argument(
    "source",
    type=PathOption(),
    metavar="MODEL",
    help="JSON file of a pyhf workspace or of HS3, or a datacard",
)
@click.argument(
    "target", type=PathOption(), metavar="TARGET", help="file to write; cabinetry, hepdata: a folder"
)
@click.option("--to", "written", type=click.Choice(FORMATS), cls=Required, help="format to write (required)")
@click.option("--measurement", help="measurement of the workspace, or analysis of HS3 (default: its first)")
@click.option(
    "--explicit-gammas", is_flag=True,
    help="hs3: staterror as shapefactors with constraint terms, for programs without it (default: no)",
)  # fmt: skip
@click.option(
    "--summary", type=PathOption(), help="hepdata: summary.json of a run, for its objective (default: none)"
)
@LOG
def convert(
    source: Path,
    target: Path,
    written: str,
    measurement: str | None,
    explicit_gammas: bool,
    summary: Path | None,
) -> None:
    """Write a model in another format: pyhf, HS3, a Combine datacard, cabinetry, HEPData tables."""
    from pipeline.evaluate.workspaces.exchange import formats

    for option, given, of in (
        ("--explicit-gammas", explicit_gammas, "hs3"),
        ("--summary", summary, "hepdata"),
    ):
        if given and written != of:
            raise InputError(f"{option} is for --to {of}; remove it")
    (chosen,) = (known for known in get_args(formats.WrittenFormat) if known == written)
    read = formats.convert(source, target, chosen, formats.Wanted(measurement, explicit_gammas, summary))
    logger.info(f"{source}, read as {read}, written as {written} to {target}")
