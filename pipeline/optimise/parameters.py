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
    arrays = {**contract.start_arrays(found, jax.random.key(config.optimise.seed)), **_free_edges(config)}
    twice = sorted(set(arrays) & set(values))
    if twice:
        raise ConfigError(f"parameter {twice[0]!r} of {config.analysis.target} is taken; choose another name")
    return {**{n: np.float64(v) for n, v in values.items()}, **{n: np.asarray(a) for n, a in arrays.items()}}


def start_parameters(config: Config, start: int) -> FreeValues:
    """Return the values that a start begins with: the first at the start values, the others at drawn ones.

    Bounded parameters are uniform between their bounds, bin edges uniform over all that ascend, and other arrays are
    what the analysis makes of another key. What is drawn for a start depends on the seed and its number only.
    """
    first = initial_parameters(config)
    if start == 0:
        return first
    found, random = analysis_of(config), np.random.default_rng((config.optimise.seed, start))
    drawn = {name: np.float64(random.uniform(*found.parameters[name].bounds)) for name in found.parameters}
    edges = {name: _drawn_logits(random, np.asarray(logits)) for name, logits in _free_edges(config).items()}
    key = jax.random.fold_in(jax.random.key(config.optimise.seed), start)
    return {**first, **drawn, **contract.start_arrays(found, key), **edges}


def _drawn_logits(random: np.random.Generator, like: np.ndarray) -> np.ndarray:
    """Return logits of widths that are uniform over all of one sum; less their mean, as those of the start values."""
    logits = np.log(random.standard_exponential(like.shape))
    return np.asarray(logits - logits.mean(), dtype=like.dtype)


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


def scalars(values: FreeValues) -> dict[str, float]:
    """Return what is no array of parameters, or of their gradient."""
    return {name: float(value) for name, value in values.items() if np.ndim(value) == 0}
