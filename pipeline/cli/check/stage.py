"""A configuration -> all that is wrong with its run, and can be known in seconds."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline import config as configuration
from pipeline.analysis import analysis_of
from pipeline.cli.check.declared import check_declarations, check_files, jobs_by_sample
from pipeline.cli.check.events import sampled
from pipeline.cli.check.findings import Findings
from pipeline.cli.check.folds import thin_parts
from pipeline.cli.check.observed import check_observed, compiled_quickly
from pipeline.config import Config
from pipeline.data.names import ALL
from pipeline.data.run_files import notes
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters


def check(path: Path, overrides: Sequence[str], found: Findings) -> None:
    """Go through a run's first steps as it does, on a few events of each sample, and tell what stops or misleads it.

    What one step cannot do the steps that need it leave out; all others are done. Nothing is written but to a folder of
    its own, which is removed.
    """
    config = found.tried(lambda: configuration.load(path, overrides))
    if config is None or found.tried(lambda: analysis_of(config)) is None:
        return
    check_declarations(config, found)
    jobs = jobs_by_sample(config, found)
    check_files(config, jobs, found)
    declared_well = found.errors == 0
    with tempfile.TemporaryDirectory() as scratch, compiled_quickly():
        files = sampled(config, jobs, Path(scratch), found)
        if not declared_well:
            found.note(
                "observe, its widths and the objective come after the errors above: correct them, check again"
            )
        elif files:
            for note in thin_parts(config, jobs, files):
                found.note(note)
            _check_work(config, files, found)


def _check_work(config: Config, files: list[tuple[str, Path]], found: Findings) -> None:
    work = found.tried(lambda: prepare_work(config, files, ALL))
    for note in found.tried(lambda: notes(config, files)) or ():
        found.note(note)
    if work is not None:
        check_observed(config, work, initial_parameters(config), found)
