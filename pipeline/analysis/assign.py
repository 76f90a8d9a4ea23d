"""Bins that were learned, outside of any run: a file of numbers, and the bin of each event. It needs NumPy alone.

The verb ``bins`` and ``Run.bins`` write the file. This module imports nothing else of the package, so a copy of it and
the file are all that another framework needs:

    bins = load("bins.json")
    number = assign(bins, features)      # features [events, features], in the order of bins["features"]
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

GAUSSIAN, NETWORK = "gaussian", "network"
LearnedFile = Mapping[str, Any]


def load(path: str | Path) -> dict[str, Any]:
    """Return the bins of a file.

    Raises:
        ValueError: it holds none; the message has its path.
    """
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    kind = found.get("kind") if isinstance(found, dict) else None
    if kind not in (GAUSSIAN, NETWORK):
        raise ValueError(
            f"{path}: kind {kind!r}; allowed: {GAUSSIAN!r} or {NETWORK!r}; write it by `thalweg bins`"
        )
    return dict(found)


def scores(bins: LearnedFile, features: Any) -> np.ndarray:
    """Return the score of each event in each bin, [events, bins], in double precision.

    Gaussians: ``ln w_k - sum_j (ln s_kj + (d_kj / s_kj)^2 / 2)``, ``d_kj = x_j - m_kj + sum_(i<j) t_kji (x_i - m_ki)``;
    a network: its outputs, ReLU between layers.

    Raises:
        ValueError: the events have another number of features.
    """
    values = np.asarray(features, dtype=np.float64)
    wanted = len(bins["features"])
    if values.ndim != 2 or values.shape[1] != wanted:
        raise ValueError(
            f"features of shape {values.shape}; allowed: [events, {wanted}], the columns {list(bins['features'])}"
        )
    if bins["kind"] == GAUSSIAN:
        means, log_scales = (np.asarray(bins[name], dtype=np.float64) for name in ("means", "log_scales"))
        straight = values[:, None, :] - means
        away = straight.copy()
        entries = zip(*below(wanted), strict=True) if "tilts" in bins else ()
        for number, (row, column) in enumerate(entries):
            away[:, :, row] += np.asarray(bins["tilts"])[:, number] * straight[:, :, column]
        pulls = away * np.exp(-log_scales)
        logits = np.asarray(bins["logits"], dtype=np.float64)
        return np.asarray(logits - np.sum(log_scales + pulls**2 / 2, axis=2))
    for number, (weights, biases) in enumerate(zip(bins["weights"], bins["biases"], strict=True)):
        values = (np.maximum(values, 0.0) if number else values) @ np.asarray(weights) + np.asarray(biases)
    return values


def below(features: int) -> tuple[list[int], list[int]]:
    """Return rows and columns of the entries below the diagonal of a matrix, row by row: the order of tilts."""
    rows, columns = np.tril_indices(features, -1)
    return rows.tolist(), columns.tolist()


def assign(bins: LearnedFile, features: Any) -> np.ndarray:
    """Return the number of each event's bin, from 0: that of its largest score, the first of equal ones."""
    return np.asarray(np.argmax(scores(bins, features), axis=1))
