"""The columns stage of a whole run, as the workflow does it job by job, and of single files."""

from pathlib import Path

from pipeline.columns.make import make_columns
from pipeline.columns.one_file import Folds
from pipeline.config import Config
from pipeline.data import column_file, datasets
from pipeline.data.column_file import Provenance
from pipeline.data.jobs import ColumnsJob, SourceFile


def write_columns(run: Config, folder: Path) -> list[tuple[str, Path]]:
    """Column files of all jobs of a run, [(sample, path)]."""
    found = []
    for job in datasets.columns_jobs(run):
        path = folder / f"{job.name}.parquet"
        column_file.write(path, *make_columns(run, job))
        found.append((job.sample, path))
    return found


def source_files(run: Config) -> list[SourceFile]:
    """All ROOT files of a run, large ones as ranges, in the order of the jobs."""
    return [file for job in datasets.columns_jobs(run) for file in job.files]


def alone(file: SourceFile) -> ColumnsJob:
    """A job that reads one file, or one range of it."""
    return ColumnsJob(file.sample, 0, (file,))


def columns_of(run: Config, file: SourceFile) -> tuple[Folds, Provenance]:
    """Columns and provenance of one file, or one range of it."""
    folds, (provenance,) = make_columns(run, alone(file))
    return folds, provenance
