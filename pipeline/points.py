"""A point in the space of the free parameters, set by hand or found before, and the events to look at there."""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import config as configuration
from pipeline import optimise
from pipeline.analysis import analysis_of
from pipeline.columns.make import make_columns
from pipeline.config import Config, parse_value
from pipeline.config.textfiles import LONGEST_SHOWN
from pipeline.data import datasets, store
from pipeline.data.fingerprint import fingerprint_of
from pipeline.data.provenance import outdated
from pipeline.data.run_files import Columns, blocks, notes
from pipeline.errors import ConfigError, nearest
from pipeline.gradient.sweeps import Parameters
from pipeline.gradient.work import Work, prepare_work
from pipeline.optimise.parameters import check_bounds, initial_parameters
from pipeline.optimise.width_names import check_names
from pipeline.progress import Log
from pipeline.relax import edge_logits
from pipeline.templates.binning import binnings_of

Value = float | list[float]  # of a free parameter; of free bin edges a list


def config_and_values(options: argparse.Namespace) -> tuple[Config, dict[str, Value]]:
    """`--set` of a configuration key, or directly of a free parameter: `--set jet_pt=35`."""
    keys = [item for item in options.set if item.partition("=")[0].partition(".")[0] in Config.model_fields]
    config = configuration.load(options.config, keys)
    given = [item.partition("=") for item in options.set if item not in keys]
    for name, _, _ in given:
        require_free(config, f"--set {name[:LONGEST_SHOWN]}", name)
    return config, {name: value_of(f"--set {name}={text[:LONGEST_SHOWN]}", text) for name, _, text in given}


def require_free(config: Config, where: str, name: str) -> None:
    """Raise where a name is no free parameter that a value can be given for."""
    known = {*analysis_of(config).parameters, *_free_edges(config)}
    if name not in known:
        raise ConfigError(
            f"{where}: no free parameter of the analysis and no key of the configuration; "
            f"{nearest(name, {*known, *Config.model_fields})}"
        )


def value_of(where: str, text: str) -> Value:
    """A number, or a list of them, in YAML."""
    return checked_value(where, parse_value(text, where))


def checked_value(where: str, given: Any) -> Value:
    """The same, of what is read already."""
    numbers = given if isinstance(given, list) and given else [given]
    if not all(type(number) in (int, float) for number in numbers):  # true is an int too
        raise ConfigError(
            f"{where}: the value of a free parameter is a number, of free bin edges a list of them"
        )
    return [float(number) for number in numbers] if isinstance(given, list) else float(given)


def with_values(config: Config, parameters: Parameters, values: Mapping[str, Value]) -> Parameters:
    """A point with some parameters set by hand: cuts inside their bounds, a channel's edges by `edges_<channel>`."""
    free, edges = analysis_of(config).parameters, _free_edges(config)
    changed: Parameters = {}
    for name, value in values.items():
        if isinstance(value, list) != (name in edges):
            kind = "bin edges, a list" if name in edges else "a number"
            raise ConfigError(f"parameters.{name}: value {value}; allowed: {kind}")
        if isinstance(value, list):
            changed[name] = _logits(config, edges[name], value)
        else:
            check_bounds(name, value, free[name])
            changed[name] = np.float64(value)
    return {**parameters, **changed}


def optimised(config: Config, files: Columns) -> Parameters:
    """The parameters that the run ended with."""
    start = initial_parameters(config)
    fingerprint = fingerprint_of(config, files)
    last = config.optimise.jobs
    return optimise.load(blocks(config)[-1], config, start, fingerprint, last)[0].parameters


@contextlib.contextmanager
def at_a_point(options: argparse.Namespace, lines: Log) -> Iterator[tuple[Config, Work, Parameters]]:
    """Configuration, events of a fold, and the initial or optimised parameters, with some set by hand."""
    config, values = config_and_values(options)
    start = with_values(config, initial_parameters(config), values)
    with tempfile.TemporaryDirectory() as scratch:
        files = _current_columns(config, Path(scratch), lines)
        if options.parameters == "optimised":
            start = optimised(config, files)
        work, parameters = prepare_work(config, files, options.fold), with_values(config, start, values)
        check_names(config, work, parameters, relaxed=False)
        for note in notes(config, files):
            lines.line(note)
        yield config, work, parameters


def _free_edges(config: Config) -> dict[str, str]:
    """Channels with free bin edges, by the name of their parameter."""
    return {b.parameter: b.channel for b in binnings_of(config) if b.smallest is not None}


def _logits(config: Config, channel: str, edges: Sequence[float]) -> np.ndarray:
    """What the parameter of free bin edges is at these edges."""
    own = config.channels[channel]
    if own.edges is None or own.free_edges is None:
        raise TypeError(f"channel {channel!r} has no free edges")
    outer = own.edges[0], own.edges[-1]
    if len(edges) != len(own.edges) or (edges[0], edges[-1]) != outer:
        raise ConfigError(
            f"edges of channel {channel!r}: {list(edges)}; allowed: {len(own.edges)}, from {outer[0]} to {outer[1]}"
        )
    try:
        return np.asarray(edge_logits(np.asarray(edges), smallest=own.free_edges.smallest))
    except ValueError as error:
        raise ConfigError(f"edges of channel {channel!r}: {error}") from error


def _current_columns(config: Config, scratch: Path, lines: Log) -> Columns:
    """Column files of the run where they are up to date; the others are made in a scratch folder."""
    folder, found = store.Folder(config.run), []
    for file in datasets.source_files(config):
        path = folder.columns(file.name)
        made_of = store.read_provenance(path) if path.exists() else None
        if made_of is None or datasets.LEFT_OUT in made_of or outdated(config, file, made_of):
            lines.line(f"reading {file.place} (no current column file of it in this run)")
            path = scratch / f"{file.name}.parquet"
            store.write_columns(path, *make_columns(config, file, lines.line))
        found.append((file.sample, path))
    return found
