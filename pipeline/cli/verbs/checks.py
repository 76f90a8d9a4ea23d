"""The verb that looks for mistakes before anything runs."""

import time
from pathlib import Path

from pipeline.cli.options import of_a_run, verb
from pipeline.errors import ConfigError


@verb
@of_a_run
def check(config: Path, overrides: tuple[str, ...]) -> None:
    """Look for mistakes in a configuration, its analysis and its files, in seconds, by the first few hundred events."""
    from pipeline.cli.check.findings import Findings
    from pipeline.cli.check.stage import check
    from pipeline.cli.progress import to_standard_output
    from pipeline.columns.rootfile import decompress_faster

    decompress_faster()
    started, found = time.perf_counter(), Findings(to_standard_output)
    check(config, overrides, found)
    counted = f"{_number(found.errors, 'error')}, {_number(found.notes, 'note')}"
    if found.errors:
        raise ConfigError(f"{config}: {counted}; correct what is said above, then check again")
    to_standard_output(f"{config}: {counted}, in {time.perf_counter() - started:.0f} s")


def _number(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
