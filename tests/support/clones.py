"""The repository as a user has it: what a run reads, without results of our own."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("Snakefile", "workflow", "config", "envs", "pipeline", "slurm", "htcondor", "profiles")


def clone(folder):
    """Copy the repository into an existing folder, links as links; the folder."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name, follow_symlinks=False)
    return folder
