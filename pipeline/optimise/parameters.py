"""The start values of all that is free: parameters, arrays of the analysis, bin edges."""

import jax
import numpy as np

from pipeline import analysis as contract
from pipeline.analysis import analysis_of
from pipeline.analysis.initial import initial_values
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.gradient.compiled import FreeValues
from pipeline.relax import edge_logits
from pipeline.templates.binning import binnings_of


def initial_parameters(config: Config) -> FreeValues:
    """Start values: the analysis's own, then the configuration's; checked against the bounds."""
    values = initial_values(config)
    found = analysis_of(config)
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
