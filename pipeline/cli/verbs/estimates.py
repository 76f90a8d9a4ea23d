"""The verb that says what a run will cost before it is begun."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import CORES, PathOption, Several, Whole, of_a_run, verb

if TYPE_CHECKING:
    from pipeline.config import Cluster

logger = logging.getLogger(__name__)
COUNT = Whole(1)


def _counts(
    ctx: click.Context, param: click.Parameter, values: tuple[tuple[str, ...], ...]
) -> tuple[int, ...]:
    """Return the numbers of workers, each once."""
    numbers = [COUNT.convert(text, param, ctx) for given in values for text in given]
    return tuple(dict.fromkeys(numbers))


def _of_the_run(cluster: "Cluster") -> int:
    """Return the number of workers that a run has where none is given."""
    own = {"in_process": 1, "local": CORES}
    return own.get(cluster.executor, cluster.workers)


@verb
@of_a_run
@click.option(
    "--workers",
    type=Several(),
    multiple=True,
    callback=_counts,
    metavar="NUMBER...",
    help="numbers of workers, as in --workers 1 2 64 (default: that of the run, or one per core of this machine)",
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
    found = estimate(run, workers or (_of_the_run(run.cluster),), seconds=float(seconds), memory_mb=memory_mb)
    to_standard_output(table(found))
    if output is not None:
        store.write_json(output, found.as_json())
        logger.info(f"wrote {output}")
