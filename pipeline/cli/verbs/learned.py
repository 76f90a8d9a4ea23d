"""The verb that takes what was learned out of a run."""

import json
from pathlib import Path

import click

from pipeline.cli.options import Required, at_a_point, of_a_run, verb


@verb
@of_a_run
@click.option("--channel", cls=Required, help="channel with `shares` whose bins they are (required)")
@at_a_point
def bins(config: Path, overrides: tuple[str, ...], channel: str, point: str, fold: str) -> None:
    """Print bins that were learned as JSON, numbered by signal purity; pipeline/analysis/assign.py reads it."""
    from pipeline.cli.point import looking
    from pipeline.cli.progress import to_standard_output
    from pipeline.errors import ConfigError, nearest
    from pipeline.evaluate.yields.purity import exported

    with looking(config, overrides, point, fold) as (run, work, parameters):
        found = exported(run, work, parameters)
    if channel not in found:
        raise ConfigError(f"--channel {channel}: no bins of it are learned; {nearest(channel, found)}")
    to_standard_output(json.dumps(found[channel], indent=1))
