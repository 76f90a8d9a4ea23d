"""Column files of the first events of each sample, made as the run makes its own."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.cli.check.findings import Findings
from pipeline.cli.estimate.sample import beginning
from pipeline.columns.make import make_columns
from pipeline.columns.rootfile import UnreadableFile
from pipeline.config import Config
from pipeline.data import column_file, datasets
from pipeline.data.jobs import ColumnsJob, SourceFile
from pipeline.data.run_files import ColumnFiles
from pipeline.simulate.generate import generate

FIRST_ENTRIES = 500  # of the first file of a sample
ENOUGH = 100  # preselected events; where the first entries have fewer, as many again are read as:
MORE_ENTRIES = 10_000


def sampled(
    config: Config, jobs: Mapping[str, Sequence[ColumnsJob]], folder: Path, found: Findings
) -> ColumnFiles:
    """Return (sample, column file) of the samples whose events are there, made in a folder; tell of the others."""
    files = []
    for sample, own in jobs.items():
        path = found.tried(functools.partial(_of_sample, config, own, folder, found))
        if path is not None:
            files.append((sample, path))
    return files


def _of_sample(config: Config, jobs: Sequence[ColumnsJob], folder: Path, found: Findings) -> Path | None:
    """Return the column file of the first events of a sample."""
    first = jobs[0].files[0]
    if first.simulated and not Path(first.path).is_file():
        made = _generated(config, first, folder)
        if made is None:
            found.note(
                f"sample {first.sample!r}: {first.path} is not generated yet, so its events cannot be checked; run "
                "`simulate` first, as the workflow does, then check again"
            )
            return None
        return _columns(config, jobs[0], made, folder, found)
    for job in jobs:
        for file in job.files:
            try:
                return _columns(config, job, file, folder, found)
            except UnreadableFile as error:
                if config.data.unreadable_files == "fail":
                    raise
                found.note(f"left out: {error}")
    return None


def _generated(config: Config, file: SourceFile, folder: Path) -> SourceFile | None:
    """Return a file of as many events as are looked at, by the generator that the configuration names."""
    section = config.simulate
    if section is None or section.generator is None:
        return None
    path = folder / f"{file.sample}.root"
    seed = datasets.file_seed(section.seed, file.sample, 0)
    events = min(FIRST_ENTRIES, section.samples[file.sample].events_per_file)
    generate(section.generator, file.sample, path, events=events, seed=seed)
    return SourceFile(file.sample, str(path), events, simulated=True)


def _columns(config: Config, job: ColumnsJob, file: SourceFile, folder: Path, found: Findings) -> Path | None:
    """Return the column file of the first entries of a file; of more, where few of these pass the preselection."""
    read = kept = 0
    for entries in (FIRST_ENTRIES, MORE_ENTRIES):
        part = ColumnsJob(job.sample, job.index, (beginning(config, file, entries),))
        folds, made_of = make_columns(config, part)
        if made_of[0].left_out is not None:
            raise UnreadableFile(made_of[0].left_out)
        before, read = read, sum(made_of[0].entries_read.values())
        kept = sum(made_of[0].entries_kept.values())
        if kept >= ENOUGH or read == before or read < entries:
            break
    if kept == 0:
        found.note(
            f"sample {job.sample!r}: none of the first {read} entries of {file.path} passes the preselection; loosen "
            "columns(), or is it so small a part of the sample?"
        )
    path = folder / f"{job.sample}.parquet"
    column_file.write(path, folds, made_of)
    return path
