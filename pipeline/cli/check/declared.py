"""What can be wrong before any event is read: parameters, variations, collections, the files of the samples."""

import functools
from pathlib import Path

from pipeline.analysis import analysis_of
from pipeline.cli.check.findings import Findings
from pipeline.columns import rootfile
from pipeline.config import Config, Sample
from pipeline.data import datasets
from pipeline.data.jobs import ColumnsJob, SourceFile
from pipeline.gradient.work import check_surrogate, collection_sizes
from pipeline.optimise.parameters import initial_parameters
from pipeline.templates.axes import variations_of, with_all_variations
from pipeline.templates.variations import check_variations

SHOWN = 3  # missing files of a sample


def check_declarations(config: Config, found: Findings) -> None:
    """Tell what the configuration and the analysis say differently, all of it and not the first alone."""
    analysis, everything = analysis_of(config), with_all_variations(config)
    found.tried(lambda: initial_parameters(config))
    found.tried(lambda: check_surrogate(config))
    found.tried(lambda: collection_sizes(config))
    for sample in config.data.samples:
        for name in variations_of(everything, sample):
            found.tried(functools.partial(check_variations, analysis, sample, (name,)))


def jobs_by_sample(config: Config, found: Findings) -> dict[str, list[ColumnsJob]]:
    """Return the jobs of each sample that has files; tell of each sample that has none."""
    errors, jobs = found.errors, list[ColumnsJob]()
    for sample, section in config.data.samples.items():
        apart = [(), *((name,) for name in section.variations)]
        for variations in apart:  # of each sample by itself, so that the others do not hide its fault
            alone = section.model_copy(update={"variations": variations})
            jobs += found.tried(functools.partial(_jobs, config, {sample: alone})) or []
    if found.errors == errors:
        jobs = found.tried(lambda: datasets.columns_jobs(config)) or jobs  # one file in two samples
    by_sample: dict[str, list[ColumnsJob]] = {}
    for job in jobs:
        by_sample.setdefault(job.sample, [])
        if job not in by_sample[job.sample]:
            by_sample[job.sample].append(job)
    return {name: by_sample[name] for name in datasets.sample_names(config) if name in by_sample}


def _jobs(config: Config, samples: dict[str, Sample]) -> list[ColumnsJob]:
    data = config.data.model_copy(update={"samples": samples})
    return datasets.columns_jobs(config.model_copy(update={"data": data}))


def check_files(config: Config, jobs: dict[str, list[ColumnsJob]], found: Findings) -> None:
    """Tell which local files of a manifest are not there; the first of each sample is opened later."""
    if config.simulate is not None:
        return
    for sample, own in jobs.items():
        files = {file.path: file for job in own for file in job.files}
        missing = [file for file in files.values() if not file.is_remote and not Path(file.path).is_file()]
        for file in missing[:SHOWN]:
            _tell_missing(config, file, found)
        if len(missing) > SHOWN:
            _tell(config, found, f"sample {sample!r}: {len(missing) - SHOWN} more files do not exist")


def _tell_missing(config: Config, file: SourceFile, found: Findings) -> None:
    try:
        rootfile.require_there(file)
    except rootfile.UnreadableFile as error:
        _tell(config, found, str(error))


def _tell(config: Config, found: Findings, text: str) -> None:
    if config.data.unreadable_files == "leave_out":
        found.note(f"left out: {text}")
    else:
        found.error(text)
