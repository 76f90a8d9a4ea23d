"""One verb per stage; the only place that catches errors, prints and exits."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pipeline
from pipeline import config as configuration
from pipeline import datasets, store
from pipeline.config import Config
from pipeline.errors import ConfigError, ThalwegError, nearest
from pipeline.progress import Log, epoch_line, log, to_standard_output

if TYPE_CHECKING:
    from pipeline.gradient import Parameters

Columns = list[tuple[str, Path]]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one verb; exit code 0, 1 for an error that was explained, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    _set_up_jax()
    try:
        with log(getattr(options, "log", None)) as lines:
            try:
                options.verb(options, lines)
            except ThalwegError as error:
                lines.line(f"error: {error}")
                sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _set_up_jax() -> None:
    """One XLA thread, read when JAX is imported, so that sums run in the same order everywhere; and float64."""
    os.environ.setdefault("NPROC", "1")
    import jax

    jax.config.update("jax_enable_x64", True)


def simulate(options: argparse.Namespace, lines: Log) -> None:
    """Generate one file of the embedded data set."""
    config = _config(options)
    try:
        from pipeline.simulate import simulate as generate
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; it is in the extra: pip install thalweg[simulate]") from error
    if config.simulate is None or options.sample not in config.simulate.samples:
        raise ConfigError(f"run {config.run!r} has no section simulate.samples.{options.sample}")
    events = config.simulate.samples[options.sample].events_per_file
    seed = datasets.file_seed(config.simulate.seed, options.sample, options.index)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        generate(options.sample, options.output, events=events, seed=seed)
    except ValueError as error:
        raise ConfigError(f"section simulate: {error}") from error
    lines.line(f"simulated {events} events of {options.sample} with seed {seed} into {options.output}")


def manifest(options: argparse.Namespace, lines: Log) -> None:
    """Write the manifest of the embedded data set, in the AGC's format."""
    store.write_json(options.output, datasets.planned_manifest(_config(options)))
    lines.line(f"wrote {options.output}")


def columns(options: argparse.Namespace, lines: Log) -> None:
    """Read one ROOT file into rectangular columns."""
    from pipeline.columns import make

    config = _config(options)
    found = [f for f in datasets.source_files(config) if (f.sample, f.index) == (options.sample, options.index)]
    if not found:
        raise ConfigError(f"run {config.run!r} has no file {options.index} of sample {options.sample!r}")
    folds, provenance = make(config, found[0])
    store.write_columns(options.output, folds, provenance)
    lines.line(f"{found[0].path}: read {provenance['entries_read']}, kept {provenance['entries_kept']}")


def optimise(options: argparse.Namespace, lines: Log) -> None:
    """Run one block of epochs."""
    from pipeline import cluster, problem
    from pipeline import optimise as epochs

    config = _config(options)
    files = _column_files(config)
    work = problem.work(config, files, datasets.TRAIN)
    fingerprint = problem.fingerprint(config, files)
    folder = store.Folder(config.run)
    start = problem.initial_parameters(config)
    state = epochs.initial_state(config, start)
    if options.block > 1:
        state, _ = epochs.load(folder.block(options.block - 1), config, start, fingerprint)
    until = min(options.block * config.optimise.epochs_per_job, config.optimise.epochs)
    lines.line(f"{work.events} events in {len(work.groups)} groups; epochs {state.epoch} to {until - 1}")
    with (
        cluster.executor(config.cluster, options.workers) as executor,
        lines.bar("optimise", config.optimise.epochs, state.epoch) as show,
    ):
        state, records = epochs.run(
            config, executor, work, state, until=until, checkpoints=folder.checkpoints, fingerprint=fingerprint,
            progress=lambda record: show(epoch_line(record)),
        )  # fmt: skip
    epochs.save(options.output, state, fingerprint, records)


def evaluate(options: argparse.Namespace, lines: Log) -> None:
    """Apply exact cuts before and after the optimisation, on every fold, and fit with pyhf."""
    from pipeline import cluster, problem
    from pipeline import evaluate as stage

    config = _config(options)
    files = _column_files(config)
    points = {"initial": problem.initial_parameters(config), "optimised": _optimised(config, files)}
    with cluster.executor(config.cluster, options.workers) as executor:
        result = stage.all_points(config, executor, files, points, lines.line)
    for (point, fold), workspace in result.workspaces.items():
        store.write_json(store.Folder(config.run).workspace(point, fold), workspace)
    store.write_json(options.output, result.summary)


def report(options: argparse.Namespace, lines: Log) -> None:
    """Draw everything into one HTML page."""
    from pipeline import report as stage

    config = _config(options)
    files = _column_files(config)
    records = [r for block in _blocks(config) for r in store.read_state(block)[1]["records"]]
    provenances = [store.read_provenance(path) for _, path in files]
    summary = store.read_json(store.Folder(config.run).evaluation)
    stage.write(config, records, summary, provenances, page=options.output, figures=options.figures)
    lines.line(f"wrote {options.output}")


def yields(options: argparse.Namespace, lines: Log) -> None:
    """Print the exact yields per channel, sample and variation as JSON."""
    from pipeline import evaluate as stage
    from pipeline import problem
    from pipeline.cluster import InProcess

    config, values = _config_and_values(options)
    with tempfile.TemporaryDirectory() as scratch:
        files = _current_columns(config, Path(scratch), lines)
        start = problem.initial_parameters(config)
        parameters = start if options.parameters == "initial" else _optimised(config, files)
        parameters = stage.with_values(config, parameters, values)
        work = problem.work(config, files, options.fold)
        to_standard_output(json.dumps(stage.yields(config, InProcess(), work, parameters), indent=1))


def schema(options: argparse.Namespace, lines: Log) -> None:
    """Write config/schema.json and the key table of config/README.md."""
    from pipeline import reference

    reference.write(options.folder)
    lines.line(f"wrote {options.folder}/schema.json and the table in {options.folder}/README.md")


def _config(options: argparse.Namespace) -> Config:
    return configuration.load(options.config, options.set)


def _config_and_values(options: argparse.Namespace) -> tuple[Config, dict[str, float]]:
    """`--set` of a configuration key, or directly of a free parameter: `--set jet_pt=35`."""
    from pipeline import problem

    config = configuration.load(options.config)
    free = problem.analysis(config).parameters
    chosen = [item.partition("=") for item in options.set]
    values = {}
    for name, _, text in chosen:
        if name in free:
            try:
                values[name] = float(text)
            except ValueError:
                raise ConfigError(f"--set {name}={text}: the value of a free parameter is a number") from None
        elif name.partition(".")[0] not in Config.model_fields:
            raise ConfigError(f"--set {name}: no free parameter or configuration key; {nearest(name, free)}")
    return configuration.load(options.config, [f"{n}={t}" for n, _, t in chosen if n not in free]), values


def _column_files(config: Config) -> Columns:
    folder = store.Folder(config.run)
    return [(file.sample, folder.columns(file.name)) for file in datasets.source_files(config)]


def _current_columns(config: Config, scratch: Path, lines: Log) -> Columns:
    """Column files of the run where they are up to date; the others are made in a scratch folder."""
    from pipeline.columns import is_current, make

    found = []
    for file, (sample, path) in zip(datasets.source_files(config), _column_files(config), strict=True):
        if not is_current(config, file, path):
            lines.line(f"reading {file.path} (no current column file of it in this run)")
            path = scratch / f"{file.name}.parquet"
            store.write_columns(path, *make(config, file))
        found.append((sample, path))
    return found


def _blocks(config: Config) -> list[Path]:
    jobs = -(-config.optimise.epochs // config.optimise.epochs_per_job)
    return [store.Folder(config.run).block(number) for number in range(1, jobs + 1)]


def _optimised(config: Config, files: Columns) -> "Parameters":
    from pipeline import optimise as epochs
    from pipeline import problem

    start = problem.initial_parameters(config)
    return epochs.load(_blocks(config)[-1], config, start, problem.fingerprint(config, files))[0].parameters


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=pipeline.__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"thalweg {pipeline.__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    file = {"--sample": {"required": True}, "--index": {"type": int, "required": True}}
    output = {"--output": {"type": Path, "required": True}}
    workers = {"--workers": {"type": int, "default": os.cpu_count() or 1, "help": "worker processes"}}
    _verb(verbs, simulate, {**file, **output})
    _verb(verbs, manifest, output)
    _verb(verbs, columns, {**file, **output})
    _verb(verbs, optimise, {"--block": {"type": int, "default": 1, "help": "from 1"}, **output, **workers})
    _verb(verbs, evaluate, {**output, **workers})
    _verb(verbs, report, {**output, "--figures": {"type": Path, "required": True, "help": "folder"}})
    points = {"choices": ["initial", "optimised"], "default": "initial", "help": "of the configuration, or of the run"}
    fold = {"choices": [datasets.ALL, datasets.TRAIN, datasets.HELD_OUT], "default": datasets.ALL}
    _verb(verbs, yields, {"--parameters": points, "--fold": fold})
    generate = verbs.add_parser("schema", help=schema.__doc__, description=schema.__doc__)
    generate.add_argument("--folder", type=Path, default=Path("config"))
    generate.set_defaults(verb=schema)
    return parser


def _verb(verbs: Any, function: Callable[..., None], arguments: dict[str, dict[str, Any]]) -> None:
    parser = verbs.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of the run, see config/README.md")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the config")
    parser.add_argument("--log", type=Path, help="also write messages to this file")
    for flag, settings in arguments.items():
        parser.add_argument(flag, **settings)
    parser.set_defaults(verb=function)
