"""Values of free parameters that are set by hand: cuts as numbers, free bin edges as lists."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.analysis import analysis_of
from pipeline.analysis.initial import check_bounds
from pipeline.config import Config, parse_value
from pipeline.errors import ConfigError, nearest
from pipeline.gradient.sweeps import FreeValues
from pipeline.relax import edge_logits
from pipeline.templates.binning import binnings_of

Value = float | list[float]  # of a free parameter; of free bin edges a list


def require_free(config: Config, where: str, name: str) -> None:
    """Raise where a name is no free parameter that a value can be given for."""
    known = {*analysis_of(config).parameters, *_free_edges(config)}
    if name not in known:
        raise ConfigError(
            f"{where}: no free parameter of the analysis and no key of the configuration; "
            f"{nearest(name, {*known, *Config.model_fields})}"
        )


def parsed_value(where: str, text: str) -> Value:
    """Return a number, or a list of them, in YAML."""
    return checked_value(where, parse_value(text, where))


def checked_value(where: str, given: object) -> Value:
    """Return the same, of what is read already."""
    numbers = given if isinstance(given, list) and given else [given]
    if not all(type(number) in (int, float) for number in numbers):  # true is an int too
        raise ConfigError(
            f"{where}: the value of a free parameter is a number, of free bin edges a list of them"
        )
    found = [float(number) for number in numbers if isinstance(number, int | float)]
    return found if isinstance(given, list) else found[0]


def with_values(config: Config, parameters: FreeValues, values: Mapping[str, Value]) -> FreeValues:
    """Return a point with some parameters set by hand.

    Cuts must be inside their bounds; a channel's edges are set by ``edges_<channel>``.
    """
    free, edges = analysis_of(config).parameters, _free_edges(config)
    changed: FreeValues = {}
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


def _free_edges(config: Config) -> dict[str, str]:
    """Return channels with free bin edges, by the name of their parameter."""
    return {b.parameter: b.channel for b in binnings_of(config) if b.smallest is not None}


def _logits(config: Config, channel: str, edges: Sequence[float]) -> np.ndarray:
    """Return the parameter of free bin edges that gives these edges."""
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
