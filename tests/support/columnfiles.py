"""The columns stage of a whole run, as the workflow does it file by file."""

from pathlib import Path

from pipeline.columns.make import make_columns
from pipeline.config import Config
from pipeline.data import column_file, datasets


def write_columns(run: Config, folder: Path) -> list[tuple[str, Path]]:
    """Column files of all ranges of a run, [(sample, path)]."""
    found = []
    for file in datasets.source_files(run):
        path = folder / f"{file.name}.parquet"
        column_file.write(path, *make_columns(run, file))
        found.append((file.sample, path))
    return found
