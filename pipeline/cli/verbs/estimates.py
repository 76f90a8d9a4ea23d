"""The verb that says what a run will cost before it is begun."""

import logging
from pathlib import Path

import click

from pipeline.cli.options import PathOption, Several, Whole, of_a_run, verb

logger = logging.getLogger(__name__)
COUNT = Whole(1)


def _counts(
    ctx: click.Context, param: click.Parameter, values: tuple[tuple[str, ...], ...]
) -> tuple[int, ...]:
    """Return the numbers of workers, each once."""
    numbers = [COUNT.convert(text, param, ctx) for given in values for text in given]
    return tuple(dict.fromkeys(numbers)) or (1,)


@verb
@of_a_run
@click.option(
    "--workers",
    type=Several(),
    multiple=True,
    callback=_counts,
    metavar="NUMBER...",
    help="numbers of workers, as in --workers 1 2 64 (default: 1)",
)
@click.option(
    "--seconds",
    type=Whole(1),
    default=60,
    help="to measure for, about, besides compiling and starting workers (default: 60)",
)
@click.option(
    "--memory-mb",
    type=Whole(1),
    help="of this machine that workers may use together (default: the machine's)",
)
@click.option("--json", "output", type=PathOption(), help="file for the same numbers (default: none)")
def estimate(
    config: Path,
    overrides: tuple[str, ...],
    workers: tuple[int, ...],
    seconds: int,
    memory_mb: int | None,
    output: Path | None,
) -> None:
    """Say what a run will cost: seconds, memory, disk, traffic, core hours, from a short measurement."""
    from pipeline import cluster
    from pipeline import config as configuration
    from pipeline.cli.estimate.stage import estimate
    from pipeline.cli.estimate.table import table
    from pipeline.cli.progress import to_standard_output
    from pipeline.columns.rootfile import decompress_faster
    from pipeline.data import store

    decompress_faster()
    cluster.quiet()
    run = configuration.load(config, overrides)
    found = estimate(run, workers, seconds=seconds, memory_mb=memory_mb)
    to_standard_output(table(found))
    if output is not None:
        store.write_json(output, found.as_json())
        logger.info(f"wrote {output}")
