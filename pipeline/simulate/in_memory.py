"""Events in memory -> ROOT files and their manifest, as a run reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data import store
from pipeline.data.datasets import NOMINAL
from pipeline.errors import ConfigError
from pipeline.simulate.generate import write

EVENT = "event"  # the branch of their numbers


def as_files(events: Mapping[str, Mapping[str, Any]], folder: Path, tree: str) -> Path:
    """Write a ROOT file of each sample, and the manifest; its path.

    Args:
        events: branches by sample, ``process`` or ``process__variation``: NumPy arrays, or jagged awkward ones. Those
            without a branch ``event`` are numbered in their order.
        tree: its name, which the analysis reads.

    Raises:
        ConfigError: there is no branch, or they are of different lengths.
    """
    manifest: dict[str, dict[str, Any]] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for sample, branches in events.items():
        lengths = {name: len(array) for name, array in branches.items()}
        if len(set(lengths.values())) != 1:
            raise ConfigError(
                f"events of sample {sample!r}: branches of lengths {lengths}; give arrays of one length"
            )
        (number,) = set(lengths.values())
        path = folder / f"{sample}.root"
        write({EVENT: np.arange(number, dtype=np.int64), **branches}, path, tree)
        process, _, variation = sample.partition("__")
        entry = {"nevts_total": number, "files": [{"path": str(path), "nevts": number}]}
        manifest.setdefault(process, {})[variation or NOMINAL] = entry
    store.write_json(folder / "manifest.json", manifest)
    return folder / "manifest.json"
