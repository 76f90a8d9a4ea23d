"""What decides the parameters of a run at every epoch, in one text: two runs that differ in it share no state."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from pipeline.config import Config
from pipeline.data import column_file, datasets, normalisation
from pipeline.data.column_file import Provenance


def fingerprint_of(config: Config, columns: Iterable[tuple[str, Path]]) -> str:
    """Return the digest of configuration, analysis, events with their normalisation, and version.

    Args:
        columns: (sample, column file).

    Raises:
        InputError: there is nothing to normalise a sample by, see ``normalisation.scales``.
    """
    found = [(sample, source) for sample, path in columns for source in column_file.read(path).sources]
    samples: dict[str, list[Provenance]] = {}
    for sample, provenance in found:
        samples.setdefault(sample, []).append(provenance)
    content = {
        "physics": config.physics(),
        "columns": [(provenance.digest, provenance.version) for _, provenance in found],
        "scales": {fold: normalisation.scales(config, samples, fold) for fold in datasets.normalised(config)},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def of_optimisation(fingerprint: str, fold: int | None) -> str:
    """Return the digest of the optimisation that never sees a fold; None: of the run's only one."""
    return fingerprint if fold is None else hashlib.sha256(f"{fingerprint} {fold}".encode()).hexdigest()
