"""The point and the events that a verb is asked to look at: initial or optimised parameters, some set by hand."""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline import config as configuration
from pipeline.cli.progress import Log
from pipeline.columns.make import make_columns
from pipeline.config import Config
from pipeline.config.textfiles import LONGEST_SHOWN
from pipeline.data import column_file, datasets, store
from pipeline.data.names import OPTIMISED
from pipeline.data.provenance import outdated
from pipeline.data.run_files import Columns, notes
from pipeline.gradient.sweeps import Parameters
from pipeline.gradient.work import Work, prepare_work
from pipeline.optimise.blocks import optimised
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.point import Value, require_free, value_of, with_values
from pipeline.optimise.width_names import check_names


def config_and_values(options: argparse.Namespace) -> tuple[Config, dict[str, Value]]:
    """`--set` of a configuration key, or directly of a free parameter: `--set jet_pt=35`."""
    keys = [item for item in options.set if item.partition("=")[0].partition(".")[0] in Config.model_fields]
    config = configuration.load(options.config, keys)
    given = [item.partition("=") for item in options.set if item not in keys]
    for name, _, _ in given:
        require_free(config, f"--set {name[:LONGEST_SHOWN]}", name)
    return config, {name: value_of(f"--set {name}={text[:LONGEST_SHOWN]}", text) for name, _, text in given}


@contextlib.contextmanager
def at_a_point(options: argparse.Namespace, lines: Log) -> Iterator[tuple[Config, Work, Parameters]]:
    """Configuration, events of a fold, and the initial or optimised parameters, with some set by hand."""
    config, values = config_and_values(options)
    start = with_values(config, initial_parameters(config), values)
    with tempfile.TemporaryDirectory() as scratch:
        files = _current_columns(config, Path(scratch), lines)
        if options.parameters == OPTIMISED:
            start = optimised(config, files)
        work, parameters = prepare_work(config, files, options.fold), with_values(config, start, values)
        check_names(config, work, parameters, relaxed=False)
        for note in notes(config, files):
            lines.line(note)
        yield config, work, parameters


def _current_columns(config: Config, scratch: Path, lines: Log) -> Columns:
    """Column files of the run where they are up to date; the others are made in a scratch folder."""
    folder, found = store.Folder(config.run), []
    for file in datasets.source_files(config):
        path = folder.columns(file.name)
        made_of = column_file.read(path) if path.exists() else None
        if made_of is None or made_of.left_out is not None or outdated(config, file, made_of):
            lines.line(f"reading {file.place} (no current column file of it in this run)")
            path = scratch / f"{file.name}.parquet"
            column_file.write(path, *make_columns(config, file, lines.line))
        found.append((file.sample, path))
    return found
