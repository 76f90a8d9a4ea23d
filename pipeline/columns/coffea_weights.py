"""coffea's ``Weights`` -> columns: the weight of the kept events, and that of each of its variations."""

from typing import Any

import awkward as ak
import numpy as np

from pipeline.analysis.declarations import WEIGHT
from pipeline.analysis.weights import column_of
from pipeline.columns.padding import UnsuitableArray


def coffea_weights(weights: Any, kept: object = None) -> dict[str, np.ndarray]:
    """Return the column ``weight``, and ``weight_<variation>`` for every variation of a ``Weights`` of coffea's.

    ``pipeline.analysis.coffea_variations`` makes templates of the latter. Their order is that of their names; coffea
    has them in a set, whose order is another one in every process.

    Args:
        weights: a ``coffea.analysis_tools.Weights`` of all events.
        kept: true for the events to keep, as ``PackedSelection.all(...)`` is; None for all.

    Raises:
        UnsuitableArray: the weights are delayed, or of other events than ``kept`` is.
    """
    nominal = weights.weight()
    if not isinstance(nominal, np.ndarray):
        raise UnsuitableArray(
            f"coffea_weights: the weights are delayed, {type(nominal).__name__}; make them by Weights(len(events))"
        )
    chosen = _mask(kept, len(nominal))
    found = {WEIGHT: nominal[chosen]}
    for variation in sorted(weights.variations):
        found[column_of(variation)] = weights.weight(variation)[chosen]
    return found


def _mask(kept: object, events: int) -> np.ndarray:
    """Return which of the events are kept."""
    if kept is None:
        return np.ones(events, dtype=bool)
    try:
        found = np.asarray(ak.to_numpy(kept, allow_missing=False))
    except (TypeError, ValueError):
        found = np.empty((), dtype=object)
    if found.dtype != bool or found.shape != (events,):
        kind = getattr(kept, "type", None) or f"{found.dtype}{list(found.shape)}"
        raise UnsuitableArray(
            f"coffea_weights: kept is {kind} for the weights of {events} events; give true or false for each of them"
        )
    return found
