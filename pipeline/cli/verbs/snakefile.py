"""The verb that says where the workflow is, for installations without a clone."""

from pathlib import Path

import click

import pipeline
from pipeline.cli.options import verb
from pipeline.errors import InputError, nearest

PACKAGE = Path(pipeline.__file__).parent
# A wheel has the files of the workflow in the package; a clone has them above it.
INSTALLED = PACKAGE / "share"
FOLDER = INSTALLED if INSTALLED.exists() else PACKAGE.parent


@verb
@click.option("--profile", help="print the folder of this profile, for --profile (default: the Snakefile)")
def snakefile(profile: str | None) -> None:
    """Print where the Snakefile is, as in `snakemake --snakefile "$(thalweg snakefile)"`."""
    from pipeline.cli.progress import to_standard_output

    profiles = {path.parent.name: path.parent for path in FOLDER.glob("workflow/profiles/*/config.yaml")}
    if profile is not None and profile not in profiles:
        raise InputError(f"--profile: there is none {profile!r}; {nearest(profile, profiles)}")
    to_standard_output(str(FOLDER / "Snakefile" if profile is None else profiles[profile]))
