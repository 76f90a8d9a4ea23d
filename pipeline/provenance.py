"""What a column file is made from, and whether it still is: the same file, range of entries, analysis and version."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pipeline
from pipeline.config import Config
from pipeline.datasets import LEFT_OUT, SourceFile
from pipeline.normalisation import uses_generator_weights


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
