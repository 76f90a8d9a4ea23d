"""The start values of the free parameters and of free bin edges, and what values are allowed."""

import jax
import numpy as np

from pipeline import analysis as contract
from pipeline.analysis import analysis_of
from pipeline.config import Config
from pipeline.errors import ConfigError, nearest
from pipeline.gradient.compiled import FreeValues
from pipeline.optimise.resolution import check_sizes
from pipeline.relax import edge_logits
from pipeline.templates.binning import binnings_of


def initial_parameters(config: Config) -> FreeValues:
    """Start values: the analysis's own, then the configuration's; checked against the bounds."""
    found = analysis_of(config)
    check_sizes(config, found)
    for name in config.parameters:
        if name not in found.parameters:
            raise ConfigError(f"parameters.{name}: no such free parameter; {nearest(name, found.parameters)}")
    values = {name: config.parameters.get(name, free.initial) for name, free in found.parameters.items()}
    for name, value in values.items():
        check_bounds(name, value, found.parameters[name])
    arrays = {**contract.start_arrays(found, config.optimise.seed), **_free_edges(config)}
    twice = sorted(set(arrays) & set(values))
    if twice:
        raise ConfigError(f"parameter {twice[0]!r} of {config.analysis.target} is taken; choose another name")
    return {**{n: np.float64(v) for n, v in values.items()}, **{n: np.asarray(a) for n, a in arrays.items()}}


def _free_edges(config: Config) -> dict[str, jax.Array]:
    """Start values of the free bin edges: one number per bin, see ``relax.ordered_edges``."""
    return {
        binning.parameter: edge_logits(np.asarray(binning.edges), smallest=binning.smallest)
        for binning in binnings_of(config)
        if binning.smallest is not None
    }


def edges_at(config: Config, parameters: FreeValues) -> dict[str, list[float] | None]:
    """Bin edges of every channel at a point, numbers of bins for shares; None for one that counts."""
    found = {
        b.channel: b.edges_at(parameters) if b.shares is None else np.arange(b.shares + 1)
        for b in binnings_of(config)
    }
    return {n: None if e is None else np.asarray(e, dtype=np.float64).tolist() for n, e in found.items()}


def check_bounds(name: str, value: float, free: contract.Free) -> None:
    """Raise where a value is outside its parameter's bounds."""
    low, high = free.bounds
    if not low <= value <= high:
        raise ConfigError(
            f"parameters.{name}: value {value} is outside its bounds [{low}, {high}]"
            f"{' ' + free.unit if free.unit else ''}; choose a value inside"
        )
