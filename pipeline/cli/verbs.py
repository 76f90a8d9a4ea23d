"""One verb per stage: files in, files out. Each imports its stage only when it runs."""

import argparse
import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import config as configuration
from pipeline.cli.progress import Log, epoch_line, to_standard_output
from pipeline.config import Config, Simulate
from pipeline.data import column_file, datasets, store
from pipeline.data.names import INITIAL
from pipeline.data.run_files import blocks, column_files, evaluation_header, notes, records
from pipeline.errors import ConfigError, InputError

if TYPE_CHECKING:
    from pipeline.gradient.sweeps import Executor, Parameters
    from pipeline.gradient.work import Work


def simulate(options: argparse.Namespace, lines: Log) -> None:
    """Generate one file of events."""
    config = _config(options)
    if config.simulate is None or options.sample not in config.simulate.samples:
        raise ConfigError(f"run {config.run!r} has no section simulate.samples.{options.sample}")
    plan = config.simulate.samples[options.sample]
    if options.index >= plan.files:
        raise ConfigError(
            f"sample {options.sample!r} has the files 0 to {plan.files - 1}, no file {options.index}"
        )
    planned = datasets.simulated_path(config, options.sample, options.index)
    if options.output.is_relative_to("results/simulated") and options.output != Path(planned):
        raise ConfigError(
            f"--output {options.output}: this file is now {planned}; was the generator changed since the workflow had "
            "begun? Start that again"
        )
    seed = datasets.file_seed(config.simulate.seed, options.sample, options.index)
    generate = _generator(config.simulate)
    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        generate(options.sample, options.output, events=plan.events_per_file, seed=seed)
    except ValueError as error:
        raise ConfigError(f"section simulate: {error}") from error
    except OSError as error:
        raise store.unwritable(options.output, error) from error
    lines.line(
        f"simulated {plan.events_per_file} events of {options.sample}, seed {seed}, into {options.output}"
    )


def manifest(options: argparse.Namespace, lines: Log) -> None:
    """Write a manifest in the AGC's format: of a run's generated events, or, by --process, of ROOT files there are."""
    if (options.config is None) == (not options.process):
        raise ConfigError(
            "give either CONFIG, a run whose events are generated, or --process NAME FILES, or several"
        )
    store.write_json(options.output, _inventory(options, lines) if options.process else _planned(options))
    lines.line(f"wrote {options.output}")


def columns(options: argparse.Namespace, lines: Log) -> None:
    """Read one ROOT file into rectangular columns."""
    from pipeline.columns.make import make_columns
    from pipeline.columns.rootfile import decompress_faster

    decompress_faster()
    config = _config(options)
    _check(config)
    files = [file for file in datasets.source_files(config) if file.sample == options.sample]
    if options.index >= len(files):
        there = f"{len(files)} ranges of it, counted from 0" if files else "the samples " + _listed(config)
        raise ConfigError(
            f"run {config.run!r} has no range {options.index} of sample {options.sample!r}; it has {there}"
        )
    file = files[options.index]
    folds, provenance = make_columns(config, file, lines.line)
    column_file.write(options.output, folds, provenance)
    lines.line(f"{file.place}: read {provenance.entries_read}, kept {provenance.entries_kept}")


def optimise(options: argparse.Namespace, lines: Log) -> None:
    """Run one block of epochs."""
    from pipeline import optimise as epochs
    from pipeline.data.fingerprint import fingerprint_of
    from pipeline.gradient.work import prepare_work
    from pipeline.optimise.parameters import initial_parameters
    from pipeline.optimise.width_names import check_names

    config = _config(options)
    if not 1 <= options.block <= len(blocks(config)):
        raise ConfigError(
            f"--block {options.block}: run {config.run!r} has the blocks 1 to {len(blocks(config))}"
        )
    folder = store.Folder(config.run)
    with _executor(config, options, lines) as executor:
        files = column_files(config)
        work = prepare_work(config, files, datasets.TRAIN)
        fingerprint = fingerprint_of(config, files)
        start = initial_parameters(config)
        check_names(config, work, start, relaxed=True)
        state = epochs.initial_state(config, start)
        if options.block > 1:
            before = options.block - 1
            state, _ = epochs.load(folder.block(before), config, start, fingerprint, before)
        until = min(options.block * config.optimise.epochs_per_job, config.optimise.epochs)
        _say(notes(config, files), lines)
        where = f"{work.events} events in {len(work.groups)} groups on {executor.workers} workers"
        lines.line(f"{where}; epochs {state.epoch} to {until - 1}")
        with lines.bar("optimise", config.optimise.epochs, state.epoch) as show:
            state, found = epochs.run(
                config, executor, work, state, until=until, checkpoints=folder.checkpoints, fingerprint=fingerprint,
                progress=lambda record: show(epoch_line(record)), say=lines.line,
            )  # fmt: skip
    epochs.save(options.output, state, fingerprint, found, options.block)


def evaluate(options: argparse.Namespace, lines: Log) -> None:
    """Apply exact cuts before and after the optimisation, on every fold, and fit with pyhf."""
    from pipeline.data.fingerprint import fingerprint_of
    from pipeline.evaluate.stage import all_points, write
    from pipeline.evaluate.summary import Seconds
    from pipeline.gradient.work import prepare_work
    from pipeline.optimise.blocks import both_points
    from pipeline.optimise.width_names import check_names

    config, started = _config(options), time.perf_counter()
    with _executor(config, options, lines) as executor:
        files = column_files(config)
        _say(notes(config, files), lines)
        fingerprint = fingerprint_of(config, files)
        points = both_points(config, files)
        check_names(config, prepare_work(config, files, datasets.TRAIN), points[INITIAL], relaxed=False)
        result = all_points(config, executor, files, points, lines.line)
    epochs = sum(record.seconds for record in records(config, fingerprint))
    seconds = Seconds(optimise=epochs, evaluate=time.perf_counter() - started)
    write(config, result, options.output, evaluation_header(config, fingerprint), seconds)


def report(options: argparse.Namespace, lines: Log) -> None:
    """Draw everything into one HTML page."""
    from pipeline import report as stage
    from pipeline.data.fingerprint import fingerprint_of
    from pipeline.evaluate import evaluation

    config = _config(options)
    files = column_files(config)
    fingerprint, provenances = fingerprint_of(config, files), [column_file.read(path) for _, path in files]
    epochs = records(config, fingerprint)
    found = evaluation.read(store.Folder(config.run).evaluation, evaluation_header(config, fingerprint))
    stage.write(config, epochs, found, provenances, page=options.output, figures=options.figures)
    lines.line(f"wrote {options.output}")


def yields(options: argparse.Namespace, lines: Log) -> None:
    """Print the exact yields per channel, sample and variation as JSON; --set takes free parameters as well."""
    from pipeline.cli.point import at_a_point
    from pipeline.cluster import InProcess
    from pipeline.evaluate.stage import yields

    with at_a_point(options, lines) as (config, work, parameters):
        to_standard_output(json.dumps(yields(config, InProcess(), work, parameters), indent=1))


def histograms(options: argparse.Namespace, lines: Log) -> None:
    """Write the exact histograms of every sample and variation as JSON, in the Analysis Grand Challenge's form."""
    from pipeline.evaluate.histograms import histograms

    with _sweeping_at_a_point(options, lines) as (config, executor, work, parameters):
        found = histograms(config, executor, work, parameters)
    store.write_json(options.output, found)
    lines.line(f"{len(found)} histograms of {work.events} preselected events in {options.output}")


def scan(options: argparse.Namespace, lines: Log) -> None:
    """Write the objective, with exact cuts and relaxed, on a grid of free parameters as JSON."""
    from pipeline.evaluate.scan import grid, scan
    from pipeline.optimise.width_names import check_names

    with _sweeping_at_a_point(options, lines) as (config, executor, work, parameters):
        check_names(config, work, parameters, relaxed=True)
        over = grid(config, options.over)
        found = scan(config, executor, work, parameters, over, lines.line)
    store.write_json(options.output, {"fold": options.fold, **found})
    lines.line(f"{len(found['points'])} points in {options.output}")


def validate(options: argparse.Namespace, lines: Log) -> None:
    """Compare a file of histograms with a reference file of the Analysis Grand Challenge, with its tolerance."""
    from pipeline.evaluate.histograms import checked, differences

    found, reference = (checked(store.read_json(p), p) for p in (options.histograms, options.reference))
    wrong = differences(found, reference)
    for name, reason in wrong.items():
        lines.line(f"{name} {reason}")
    if wrong:
        raise InputError(
            f"{len(wrong)} of the {len(reference)} histograms of {options.reference} are not reproduced by "
            f"{options.histograms}"
        )
    count = len(reference)
    lines.line(f"all {count} histograms of {options.reference} are reproduced in {options.histograms}")


def schema(options: argparse.Namespace, lines: Log) -> None:
    """Write config/schema.json, config/summary.schema.json and the key table of config/README.md."""
    from pipeline.cli import reference

    reference.write(options.folder)
    lines.line(f"wrote the two schemas and the table of README.md in {options.folder}")


def _config(options: argparse.Namespace) -> Config:
    return configuration.load(options.config, options.set)


def _planned(options: argparse.Namespace) -> dict[str, Any]:
    return datasets.planned_manifest(_config(options))


def _inventory(options: argparse.Namespace, lines: Log) -> dict[str, Any]:
    from pipeline.columns import inventory

    return inventory.taken(
        options.process,
        tree=options.tree,
        generator_weight=options.generator_weight,
        algorithm=None if options.checksum == "none" else options.checksum,
        allow_repeated=options.allow_repeated,
        say=lines.line,
    )


def _say(notes: Iterable[str], lines: Log) -> None:
    for note in notes:
        lines.line(note)


def _generator(section: Simulate) -> Callable[..., None]:
    """What makes the events of a file: sample, path, number of events, seed."""
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


def _executor(
    config: Config, options: argparse.Namespace, lines: Log
) -> contextlib.AbstractContextManager["Executor"]:
    from pipeline import cluster

    warning = cluster.unprotected(config.cluster)
    if warning is not None:
        lines.line(warning)
    cluster.quiet()  # for good: Dask reports what was lost even after the run has ended
    folder = store.Folder(config.run).root
    return cluster.executor(config.cluster, options.workers, folder, options.memory_mb)


@contextlib.contextmanager
def _sweeping_at_a_point(
    options: argparse.Namespace, lines: Log
) -> Iterator[tuple[Config, "Executor", "Work", "Parameters"]]:
    """What a verb that goes through all events at one point needs."""
    from pipeline.cli.point import at_a_point, config_and_values

    config, _ = config_and_values(options)
    with (
        _executor(config, options, lines) as executor,
        at_a_point(options, lines) as (config, work, parameters),
    ):
        yield config, executor, work, parameters


def _check(config: Config) -> None:
    """What can be known to be wrong before a single event is read, which may take hours."""
    from pipeline.gradient.work import check_surrogate, check_variations_used, collection_sizes
    from pipeline.optimise.parameters import initial_parameters

    initial_parameters(config)
    check_variations_used(config)
    check_surrogate(config)
    collection_sizes(config)


def _listed(config: Config) -> str:
    return ", ".join(map(repr, datasets.sample_names(config)))


VERBS = (simulate, manifest, columns, optimise, evaluate, report, yields, histograms, scan, validate, schema)
