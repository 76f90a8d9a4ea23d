"""Exact histograms of every sample and variation, in the Analysis Grand Challenge's JSON form, and their comparison.

``{"<channel>_<sample>[_<variation>]": {"edges": [...], "contents": [underflow, bins ..., overflow]}}``. The tolerance
of the comparison is that of the challenge's validation: equal within rounding, or an event has crossed a bin edge.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.config import Config
from pipeline.data.datasets import NOMINAL
from pipeline.errors import ConfigError, InputError
from pipeline.gradient.pieces import Piece, Pieces, added
from pipeline.gradient.sweeps import Executor, FreeValues
from pipeline.gradient.work import Work
from pipeline.optimise.parameters import edges_at
from pipeline.templates.axes import variations_of
from pipeline.templates.binning import Binning
from pipeline.templates.fill import EXACT

Histogram = Mapping[str, list[float] | list[int] | list[float | int]]
COUNTED = (0.0, 1.0)  # edges of a channel that only counts
MIGRATED = 2.0  # events: how far apart neighbouring bins may be where one event has changed its bin
RANDOM = "pt_res_up"  # drawn without a seed in the challenge: never compared
OPTIONAL = "pseudodata"
SHAPE = '{name: {"edges": [...], "contents": [underflow, bins ..., overflow]}}'


def histograms(
    config: Config, executor: Executor, work: Work, parameters: FreeValues
) -> dict[str, Histogram]:
    """Return histograms of some events at one point, see ``histograms_of``."""
    return histograms_of(config, executor, (Piece(work, parameters),))


def histograms_of(config: Config, executor: Executor, pieces: Pieces) -> dict[str, Histogram]:
    """Return histograms of all samples with hard cuts, and those of the pseudodata.

    Their bins are ``channels.*.histogram``. A value at the upper edge of the last bin is in the overflow. Where pieces
    have bins of their own, these are added one by one, and the edges are the means.
    """
    of_pieces = [{name: _edges(config, name, own.parameters) for name in config.channels} for own in pieces]
    edges = {
        name: tuple(np.mean([own[name] for own in of_pieces], axis=0).tolist()) for name in config.channels
    }
    flowing = [
        own._replace(work=_open_ended(config, own.work, inner))
        for own, inner in zip(pieces, of_pieces, strict=True)
    ]
    found, work = added(executor, flowing, EXACT).yields, pieces[0].work
    named: dict[str, Histogram] = {}
    for channel in config.channels:
        rows = {
            (sample, variation): _with_flow(
                np.asarray(found[channel][work.axes.row(sample, variation)]), len(edges[channel])
            )
            for sample in work.axes.samples
            for variation in (NOMINAL, *variations_of(config, sample))
        }
        for (sample, variation), contents in rows.items():
            suffix = "" if variation == NOMINAL else f"_{variation}"
            name = f"{channel}_{sample.replace('__', '_')}{suffix}"
            if name in named:
                raise ConfigError(
                    f"two histograms would have the name {name!r}; rename the sample {sample!r}"
                )
            named[name] = _histogram(edges[channel], contents)
        if config.model.pseudodata:
            mixed = sum(factor * rows[sample, NOMINAL] for sample, factor in config.model.pseudodata.items())
            named[f"{channel}_pseudodata"] = _histogram(edges[channel], np.asarray(mixed))
    return named


def _open_ended(config: Config, work: Work, edges: Mapping[str, tuple[float, ...]]) -> Work:
    """Return the same events, to be filled into bins with under- and overflow."""
    binnings = tuple(
        Binning(
            name,
            None if config.channels[name].edges is None else (-math.inf, *inner, math.inf),
            shares=config.channels[name].shares,
        )
        for name, inner in edges.items()
    )
    return work._replace(problem=dataclasses.replace(work.problem, binnings=binnings))


def differences(found: Mapping[str, Histogram], reference: Mapping[str, Histogram]) -> dict[str, str]:
    """Return the fault of each histogram of the reference that ``found`` does not reproduce.

    Bins agree by ``np.isclose``, under- and overflow included. Neighbouring bins that do not may hold an event that
    crossed an edge: then each is within 2 events and their sums agree.
    """
    wrong = {}
    for name, expected in reference.items():
        if name not in found:
            if not name.endswith(OPTIONAL):
                wrong[name] = "is missing"
        elif reason := _difference(found[name], expected, compare=RANDOM not in name):
            wrong[name] = reason
    return wrong


def _difference(found: Histogram, expected: Histogram, *, compare: bool) -> str | None:
    if len(found["edges"]) != len(expected["edges"]) or not np.allclose(found["edges"], expected["edges"]):
        return f"has edges {found['edges']}, not {expected['edges']}"
    ours, theirs = np.array(found["contents"]), np.array(expected["contents"])
    if ours.shape != theirs.shape:
        return f"has {len(ours)} contents, not {len(theirs)}: bins, under- and overflow"
    if not compare:
        return None
    apart = np.flatnonzero(~np.isclose(ours, theirs))
    for run in np.split(apart, np.flatnonzero(np.diff(apart) > 1) + 1) if len(apart) else ():
        migrated = np.allclose(ours[run], theirs[run], atol=MIGRATED) and np.allclose(
            ours[run].sum(), theirs[run].sum()
        )
        if not migrated:
            return (
                f"differs in bins {run[0]} to {run[-1]} (0 is the underflow): {ours[run].tolist()}, "
                f"not {theirs[run].tolist()}"
            )
    return None


def checked(content: object, source: Path) -> dict[str, Histogram]:
    """Return the content of a file of histograms.

    Raises:
        InputError: it is none; ``source`` names it.
    """
    if not isinstance(content, dict) or not content:
        raise InputError(f"{source} is no file of histograms: {SHAPE}")
    for name, entry in content.items():
        parts = [entry.get(key) for key in ("edges", "contents")] if isinstance(entry, dict) else [None]
        numbers = all(isinstance(p, list) and all(type(x) in (int, float) for x in p) for p in parts)
        if not numbers:
            raise InputError(f"{source}: {name!r} is no histogram; a file of histograms is {SHAPE}")
    return content


def _edges(config: Config, channel: str, parameters: FreeValues) -> tuple[float, ...]:
    chosen = config.channels[channel].histogram
    if chosen is not None:
        return chosen.edges
    return tuple(edges_at(config, parameters)[channel] or COUNTED)


def _with_flow(contents: Float[np.ndarray, " bins"], edges: int) -> Float[np.ndarray, " flow"]:
    """Put a counted number, or shares, between two empty flow bins."""
    return np.array([0.0, *contents, 0.0]) if len(contents) < edges else contents


def _histogram(edges: tuple[float, ...], contents: Float[np.ndarray, " bins"]) -> Histogram:
    return {"edges": list(edges), "contents": contents.tolist()}
