# What every Snakefile here needs, whatever it runs: its own place, the Python of its jobs, errors in one sentence.
import hashlib
import json
import sys
from pathlib import Path

from snakemake.settings.types import DeploymentMethod

from pipeline import config as configuration
from pipeline.errors import ThalwegError

# The clone, as seen from the folder where Snakemake runs and results go; other folders than the clone will do, and so
# does a Snakefile elsewhere that takes this one as a module.
CLONE = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
if CLONE.resolve() == Path.cwd().resolve():
    CLONE = Path()
DEPLOYED = set(workflow.deployment_settings.deployment_method)
# Snakemake's own, or that of its conda environment, or of the image that jobs run in.
PYTHON = (
    "python"
    if DEPLOYED & {DeploymentMethod.CONDA, DeploymentMethod.APPTAINER}
    else sys.executable
)


def explained(function, *arguments):
    """The function's result; what it explains to the user becomes Snakemake's error, without a traceback."""
    try:
        return function(*arguments)
    except ThalwegError as error:
        raise WorkflowError(str(error)) from None


def fingerprint(content):
    """A short name for a part of the configuration: a rule runs again when it changes."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
