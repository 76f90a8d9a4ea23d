"""The templates of all events from those of the training and of the held-out ones, without another pass.

Each fold is normalised to the whole luminosity by itself: its weights carry the factor s_fold, those of all events
s_all (``normalisation.scales``). So with T_fold the templates of a fold, per sample,

    T_all = sum over folds of (s_all / s_fold) T_fold.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.data import column_file, normalisation
from pipeline.data.column_file import Provenance
from pipeline.data.datasets import NOMINAL
from pipeline.data.names import ALL, FOLDS, Fold, Point
from pipeline.evaluate.evaluation import YieldTables
from pipeline.gradient.pieces import scaled, sum_of_templates
from pipeline.templates.axes import Axes

ColumnsOfSamples = Sequence[tuple[str, Path]]


def of_all_events(
    config: Config, columns: ColumnsOfSamples, axes: Axes, exact: Mapping[tuple[Point, Fold], Templates]
) -> dict[Point, YieldTables]:
    """Return the nominal templates of all events at each point; nothing where no events are held out."""
    if {fold for _, fold in exact} != set(FOLDS):
        return {}
    factors = {fold: ratios(config, columns, axes.samples, ALL, fold) for fold in FOLDS}
    found = {}
    for point in dict.fromkeys(point for point, _ in exact):
        parts = [scaled(exact[point, fold], factors[fold]) for fold in FOLDS]
        found[point] = nominal_tables(sum_of_templates(parts), axes)
    return found


def ratios(
    config: Config, columns: ColumnsOfSamples, samples: Sequence[str], wanted: str, had: str
) -> Float[np.ndarray, " samples"]:
    """Return how much more an event weighs among some events, of that name, than among others."""
    provenances: dict[str, list[Provenance]] = {}
    for sample, path in columns:
        provenances.setdefault(sample, []).extend(column_file.read(path).sources)
    one, other = (normalisation.scales(config, provenances, events) for events in (wanted, had))
    return np.array([one[sample] / other[sample] for sample in samples])


def nominal_tables(templates: Templates, axes: Axes) -> YieldTables:
    """Return the nominal templates of the processes, and their sums of squared weights."""
    return YieldTables.of(templates, axes, dict.fromkeys(axes.processes, (NOMINAL,)))
