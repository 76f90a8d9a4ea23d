"""The verb that says where the workflow is, for installations without a clone."""

from pathlib import Path

import click

import pipeline
from pipeline.cli.options import verb
from pipeline.errors import InputError, nearest

PACKAGE = Path(pipeline.__file__).parent
INSTALLED = (
    PACKAGE / "share"
)  # a wheel has the files of the workflow there; a clone has them above the package


@verb
@click.option("--profile", help="print the folder of this profile, for --profile (default: the Snakefile)")
def snakefile(profile: str | None) -> None:
    """Print where the Snakefile is, as in `snakemake --snakefile "$(thalweg snakefile)"`."""
    from pipeline.cli.progress import to_standard_output

    folder = INSTALLED if INSTALLED.exists() else PACKAGE.parent
    profiles = {path.parent.name: path.parent for path in folder.glob("workflow/profiles/*/config.yaml")}
    if profile is not None and profile not in profiles:
        raise InputError(f"--profile: there is none {profile!r}; {nearest(profile, profiles)}")
    to_standard_output(str(folder / "Snakefile" if profile is None else profiles[profile]))
