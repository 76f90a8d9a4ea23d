"""What a column file is made from, and whether it still is: the same file, range of entries, analysis and version."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pipeline
from pipeline.config import Config
from pipeline.data.datasets import LEFT_OUT, SourceFile
from pipeline.data.normalisation import uses_generator_weights
from pipeline.errors import InputError

LARGEST_WEIGHT = "largest_weight"  # entry of a provenance, whatever its sign
ORIGIN = (
    "event_numbers_of"  # entry of a provenance: the file in which its events have the numbers of their column
)
# Of a sample's largest weight: in single precision it is far from the smallest normal number itself, else its square.
SMALLEST_WEIGHT = {"float32": 1e-30, "float64": 1e-146}


def recipe(config: Config, file: SourceFile) -> dict[str, Any]:
    """All that decides the columns of a range; a local file is recognised by size and modification time as well."""
    made_of = {
        "version": pipeline.__version__,
        "analysis": config.analysis.digest,
        "held_out_fraction": config.data.held_out_fraction,
        "sample": file.sample,
        "file": file.path,
        "range": [file.start, file.stop],
        "promised": file.promised,
        "checksum": file.checksum,
        "generator_weight": branch_of_generator_weights(config, file),
    }
    if file.is_remote or not Path(file.path).exists():
        return made_of
    status = Path(file.path).stat()
    return {**made_of, "source_bytes": status.st_size, "source_mtime_ns": status.st_mtime_ns}


def branch_of_generator_weights(config: Config, file: SourceFile) -> str | None:
    """The branch of generator weights to add up, where the file's sample is normalised by them."""
    return config.data.generator_weight if uses_generator_weights(config, file.sample) else None


def outdated(config: Config, file: SourceFile, found: Mapping[str, Any]) -> str | None:
    """Why columns of provenance `found` are not those of this range in this run; None where they are.

    A ROOT file that is gone by now says nothing against columns made of it.
    """
    for key, value in recipe(config, file).items():
        if found.get(key) != value:
            return f"{key} was {found.get(key)!r} and is {value!r}"
    if LEFT_OUT in found and config.data.unreadable_files == "fail":
        return "its file was left out, and data.unreadable_files is 'fail'"
    return None


def require_weights(
    config: Config, provenances: Mapping[str, Sequence[Mapping[str, Any]]], scales: Mapping[str, float]
) -> None:
    """Raise where the weights of a sample, or the sum of their squares, would vanish or be infinite."""
    precision = config.cluster.precision
    least = SMALLEST_WEIGHT[precision]
    for sample, files in provenances.items():
        largest = max(file.get(LARGEST_WEIGHT, 1.0) for file in files) * abs(scales[sample])
        if 0 < largest < least or largest > 1 / least:
            raise InputError(
                f"sample {sample!r}: the largest weight is {largest:.3g} after normalisation; allowed: {least:g} to "
                f"{1 / least:g} with cluster.precision {precision}; "
                + ("use float64, or " if precision == "float32" else "")
                + "give the weights in another unit in columns()"
            )
