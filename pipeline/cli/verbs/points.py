"""Verbs that look at one point, of the run or given by hand, and not only through the run's own stages."""

import json
import logging
from pathlib import Path

import click

from pipeline.cli.options import OUTPUT, PathOption, Required, at_a_point, of_a_run, verb, with_workers
from pipeline.errors import InputError

logger = logging.getLogger(__name__)


@verb
@of_a_run
@at_a_point
def yields(config: Path, overrides: tuple[str, ...], point: str, fold: str) -> None:
    """Print the exact yields per channel, sample and variation as JSON; --set takes free parameters as well.

    Events beyond the edges, which no bin counts, are in `outside`. The columns of the run are used where they are up to
    date; other files are read each time, and their columns are not kept.
    """
    from pipeline.cli.point import looking
    from pipeline.cli.progress import to_standard_output
    from pipeline.cluster import InProcess
    from pipeline.evaluate.stage import yields

    with looking(config, overrides, point, fold) as (run, work, parameters):
        to_standard_output(json.dumps(yields(run, InProcess(), work, parameters), indent=1))


@verb
@of_a_run
@at_a_point
@OUTPUT
@with_workers
def histograms(
    config: Path,
    overrides: tuple[str, ...],
    point: str,
    fold: str,
    output: Path,
    workers: int,
    memory_mb: int | None,
) -> None:
    """Write the exact histograms of every sample and variation as JSON, in the Analysis Grand Challenge's form."""
    from pipeline.cli.point import sweeping
    from pipeline.data import store
    from pipeline.evaluate.histograms import histograms_of
    from pipeline.gradient.pieces import events

    with sweeping(config, overrides, point, fold, workers, memory_mb) as (run, executor, pieces):
        found = histograms_of(run, executor, pieces)
    store.write_json(output, found)
    logger.info(f"{len(found)} histograms of {events(pieces)} preselected events in {output}")


@verb
@of_a_run
@click.option(
    "--pseudodata", is_flag=True, help="observe those of model.pseudodata, not the Asimov data (default: no)"
)
@at_a_point
@OUTPUT
@with_workers
def workspace(
    config: Path,
    overrides: tuple[str, ...],
    pseudodata: bool,
    point: str,
    fold: str,
    output: Path,
    workers: int,
    memory_mb: int | None,
) -> None:
    """Write the pyhf workspace of the run's model with exact cuts as JSON, without an optimisation or a fit."""
    from pipeline.cli.point import sweeping
    from pipeline.data import store
    from pipeline.evaluate.at_point import workspace_of
    from pipeline.gradient.pieces import events

    with sweeping(config, overrides, point, fold, workers, memory_mb) as (run, executor, pieces):
        found = workspace_of(run, executor, pieces, pseudodata=pseudodata)
    store.write_json(output, found)
    channels = ", ".join(repr(channel["name"]) for channel in found["channels"])
    logger.info(f"workspace of {events(pieces)} preselected events, channels {channels}, in {output}")


@verb
@of_a_run
@click.option(
    "--over",
    multiple=True,
    cls=Required,
    metavar="PARAMETER=VALUES",
    help="a free parameter and its values: jet_pt=25:60:15, btag=[0.3,0.5]; repeated: their grid (required)",
)
@at_a_point
@OUTPUT
@with_workers
def scan(
    config: Path,
    overrides: tuple[str, ...],
    over: tuple[str, ...],
    point: str,
    fold: str,
    output: Path,
    workers: int,
    memory_mb: int | None,
) -> None:
    """Write the objective, with exact cuts and relaxed, on a grid of free parameters as JSON."""
    from pipeline.cli.point import only, sweeping
    from pipeline.data import store
    from pipeline.evaluate.scan import grid, scan

    with sweeping(config, overrides, point, fold, workers, memory_mb, relaxed=True) as (
        run,
        executor,
        pieces,
    ):
        work, parameters = only(run, pieces)
        found = scan(run, executor, work, parameters, grid(run, over))
    store.write_json(output, {"fold": fold, **found})
    logger.info(f"{len(found['points'])} points in {output}")


@verb
@click.argument(
    "histograms", type=PathOption(), metavar="HISTOGRAMS", help="file written by the verb `histograms`"
)
@click.option("--reference", type=PathOption(), cls=Required, help="JSON file of the challenge (required)")
def validate(histograms: Path, reference: Path) -> None:
    """Compare a file of histograms with a reference file of the Analysis Grand Challenge, with its tolerance."""
    from pipeline.data import store
    from pipeline.evaluate.histograms import checked, differences

    found, expected = (checked(store.read_json(p), p) for p in (histograms, reference))
    wrong = differences(found, expected)
    for name, reason in wrong.items():
        logger.info(f"{name} {reason}")
    if wrong:
        raise InputError(
            f"{len(wrong)} of the {len(expected)} histograms of {reference} are not reproduced by {histograms}"
        )
    logger.info(f"all {len(expected)} histograms of {reference} are reproduced in {histograms}")
