"""Numbers for bins that were learned: by their purity, from the least signal to the most.

What learns them knows no order, and one seed's third bin is another's seventh. Bins are exchangeable, so the free
arrays themselves are put in order, and templates, workspaces, figures and exported bins all have it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.analysis import analysis_of
from pipeline.config import Config
from pipeline.containers import AnyArray, Templates
from pipeline.data import datasets
from pipeline.data.datasets import NOMINAL
from pipeline.data.names import Point
from pipeline.errors import ConfigError
from pipeline.gradient.compiled import in_precision
from pipeline.gradient.sweeps import Executor, FreeValues, forward
from pipeline.gradient.work import Work, prepare_work
from pipeline.templates.axes import Axes
from pipeline.templates.fill import EXACT

NO_EVENTS = -1.0  # purity of a bin without events: it comes first


def signals_of(config: Config) -> set[str]:
    """Return the samples that carry the POI's norm factor, or one that the objective names."""
    wanted = {config.model.poi, *config.objective.parameter_names}
    return {name for own in config.model.may_be_poi if own.name in wanted for name in own.samples}


def purity(config: Config, axes: Axes, templates: Templates, channel: str) -> Float[np.ndarray, " bins"]:
    """Return the share of signal in each bin of a channel; -1 without events."""
    yields = np.asarray(templates.yields[channel])
    each = {name: yields[axes.row(name, NOMINAL)] for name in config.data.samples}
    total = np.sum([*each.values()], axis=0)
    signal = np.sum([np.zeros_like(total), *(each[name] for name in signals_of(config) & set(each))], axis=0)
    return np.where(total > 0, signal / np.where(total > 0, total, 1.0), NO_EVENTS)


def by_purity(config: Config, executor: Executor, training: Work, parameters: FreeValues) -> FreeValues:
    """Return the parameters with all learned bins in order of their purity on training events, with exact cuts.

    Bins of equal purity stay in their order. Without learned bins they are as they were, and no event is looked at.
    """
    learned = analysis_of(config).learned
    if not learned:
        return parameters
    exact = forward(executor, training, parameters, EXACT)
    arrays: Mapping[str, AnyArray] = {name: np.asarray(value) for name, value in parameters.items()}
    for channel, bins in learned.items():
        order = np.argsort(purity(config, training.axes, exact, channel), kind="stable")
        arrays = bins.ordered(arrays, order.tolist())
    return {name: np.asarray(array) for name, array in arrays.items()}


def all_by_purity(
    config: Config, executor: Executor, training: Work, points: Mapping[Point, FreeValues]
) -> dict[Point, FreeValues]:
    """Return each point with its learned bins in order."""
    return {point: by_purity(config, executor, training, own) for point, own in points.items()}


def folds_by_purity(
    config: Config,
    executor: Executor,
    columns: Sequence[tuple[str, Path]],
    optimisations: Sequence[tuple[int | None, FreeValues]],
) -> list[FreeValues]:
    """Return the parameters of several optimisations, each in order on its own training events."""
    if not analysis_of(config).learned:
        return [own for _, own in optimisations]
    return [
        by_purity(config, executor, prepare_work(config, columns, datasets.training(config, fold)), own)
        for fold, own in optimisations
    ]


def exported(config: Config, work: Work, parameters: FreeValues) -> dict[str, dict[str, Any]]:
    """Return the learned bins of each channel as ``pipeline.analysis.assign`` reads them, in the run's precision.

    Raises:
        ConfigError: the analysis has none.
    """
    learned = analysis_of(config).learned
    if not learned:
        raise ConfigError(
            f"{config.analysis.target} has no learned bins; name them by channel in `learned` "
            "(docs/learned_bins.md)"
        )
    arrays = {n: np.asarray(a) for n, a in in_precision(work.problem, dict(parameters)).items()}
    return {channel: {"channel": channel, **own.exported(arrays)} for channel, own in learned.items()}
