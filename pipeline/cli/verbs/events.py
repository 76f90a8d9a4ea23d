"""Verbs that make and read events: ROOT files, their manifest, their columns."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import INDEX, LOG, OUTPUT, SAMPLE, SET, PathOption, Several, of_a_run, verb
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config import Config, Simulate

CHECKSUMS = ("adler32", "sha256")  # as in `checksums`, which takes a second to import
logger = logging.getLogger(__name__)


@verb
@of_a_run
@SAMPLE
@INDEX
@OUTPUT
def simulate(config: Path, overrides: tuple[str, ...], sample: str, index: int, output: Path) -> None:
    """Generate one file of events."""
    from pipeline import config as configuration
    from pipeline.data import datasets, store

    run = configuration.load(config, overrides)
    if run.simulate is None or sample not in run.simulate.samples:
        raise ConfigError(f"run {run.run!r} has no section simulate.samples.{sample}")
    plan = run.simulate.samples[sample]
    if index >= plan.files:
        raise ConfigError(f"sample {sample!r} has the files 0 to {plan.files - 1}, no file {index}")
    planned = datasets.simulated_path(run, sample, index)
    if output.is_relative_to("results/simulated") and output != Path(planned):
        raise ConfigError(
            f"--output {output}: this file is now {planned}; was the generator changed since the workflow had "
            "begun? Start that again"
        )
    seed = datasets.file_seed(run.simulate.seed, sample, index)
    generate = _generator(run.simulate)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        generate(sample, output, events=plan.events_per_file, seed=seed)
    except ValueError as error:
        raise ConfigError(f"section simulate: {error}") from error
    except OSError as error:
        raise store.unwritable(output, error) from error
    logger.info(f"simulated {plan.events_per_file} events of {sample}, seed {seed}, into {output}")


@verb
@click.argument(
    "config",
    type=PathOption(),
    metavar="[CONFIG]",
    required=False,
    help="YAML file of a run with a section simulate, in place of --process",
)
@click.option(
    "--process",
    "processes",
    type=Several(),
    multiple=True,
    metavar="NAME FILE...",
    help="process, or process__variation, and its files: paths, URLs or quoted patterns such as 'data/ttbar*.root'; "
    "repeated for every process (default: none, the generated events of CONFIG)",
)
@click.option("--tree", default="Events", help="tree whose entries are the events (default: Events)")
@click.option(
    "--generator-weight",
    metavar="BRANCH",
    help="branch with the generator's weights to add up (default: genWeight, where there is one)",
)
@click.option(
    "--checksum",
    type=click.Choice([*CHECKSUMS, "none"]),
    default="adler32",
    help="of every file, to be verified when it is read (default: adler32)",
)
@click.option(
    "--allow-repeated",
    is_flag=True,
    help="a file, or a copy of it, may be there twice (default: an error)",
)
@SET
@LOG
@OUTPUT
def manifest(
    config: Path | None,
    overrides: tuple[str, ...],
    processes: tuple[tuple[str, ...], ...],
    tree: str,
    generator_weight: str | None,
    checksum: str,
    allow_repeated: bool,
    output: Path,
) -> None:
    """Write a manifest in the AGC's format: of a run's generated events, or, by --process, of ROOT files there are."""
    from pipeline import config as configuration
    from pipeline.data import datasets, store

    if processes and config is None:
        from pipeline.columns import inventory

        taken = inventory.taken(
            processes,
            tree=tree,
            generator_weight=generator_weight,
            algorithm=None if checksum == "none" else checksum,
            allow_repeated=allow_repeated,
        )
        store.write_json(output, taken)
    elif config is not None and not processes:
        store.write_json(output, datasets.planned_manifest(configuration.load(config, overrides)))
    else:
        raise ConfigError(
            "give either CONFIG, a run whose events are generated, or --process NAME FILES, or several"
        )
    logger.info(f"wrote {output}")


@verb
@of_a_run
@SAMPLE
@INDEX
@OUTPUT
def columns(config: Path, overrides: tuple[str, ...], sample: str, index: int, output: Path) -> None:
    """Read the ROOT files of one job into rectangular columns."""
    from pipeline import config as configuration
    from pipeline.columns.make import make_columns
    from pipeline.columns.rootfile import decompress_faster
    from pipeline.data import column_file, datasets

    decompress_faster()
    run = configuration.load(config, overrides)
    _check(run)
    if (sample, index) == (datasets.sample_names(run)[0], 0):
        _check_start(run)
    jobs = [job for job in datasets.columns_jobs(run) if job.sample == sample]
    if index >= len(jobs):
        known = ", ".join(map(repr, datasets.sample_names(run)))
        there = f"{len(jobs)} of them, counted from 0" if jobs else f"the samples {known}"
        raise ConfigError(f"run {run.run!r} has no job {index} of sample {sample!r}; it has {there}")
    job = jobs[index]
    folds, provenances = make_columns(run, job)
    column_file.write(output, folds, provenances)
    read, kept = (
        {fold: sum(getattr(p, what)[fold] for p in provenances) for fold in folds}
        for what in ("entries_read", "entries_kept")
    )
    logger.info(f"{job.place}: read {read}, kept {kept}")


def _generator(section: "Simulate") -> Callable[..., None]:
    """Return the function that makes the events of a file from sample, path, number of events and seed."""
    if section.generator is not None:
        from pipeline.simulate.generate import generate

        return functools.partial(generate, section.generator)
    try:
        from pipeline.simulate.pythia import simulate as generate_embedded
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed; it is in the extra: pip install thalweg[simulate]"
        ) from error
    return generate_embedded


def _check(run: "Config") -> None:
    """Refuse what can be known to be wrong before a single event is read, which may take hours."""
    from pipeline.analysis.initial import initial_values
    from pipeline.gradient.work import check_surrogate, check_variations_used, collection_sizes

    initial_values(run)
    check_variations_used(run)
    check_surrogate(run)
    collection_sizes(run)


def _check_start(run: "Config") -> None:
    """Refuse start values that are none; only one job does, as drawing the weights of a network takes a while."""
    from pipeline.optimise.parameters import initial_parameters

    initial_parameters(run)
