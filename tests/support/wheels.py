"""An environment with nothing but a wheel of this project and what one of its extras brings."""

import os
import shutil
import subprocess
import sys

import pytest
from clones import ROOT

# What uv says where it cannot reach an index.
UNREACHABLE = ("error sending request", "dns error", "Failed to fetch", "Network connectivity is disabled")
# A user's shell has none of these.
OURS = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")  # bytecode is written once for all jobs


def environment_without_ours():
    return {name: value for name, value in os.environ.items() if name not in OURS}


def run(*command, cwd):
    """Run a command; both outputs together."""
    return subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=environment_without_ours(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def uv(*arguments, cwd):
    """Run uv; skip the test where there is none, or no network."""
    own = ROOT / ".uv/bin/uv"
    program = str(own) if own.exists() else shutil.which("uv")
    if program is None:
        pytest.skip("uv, which builds the wheel, is neither in .uv (make environment) nor on the PATH")
    done = run(program, *arguments, cwd=cwd)
    if done.returncode and any(sign in done.stdout for sign in UNREACHABLE):
        pytest.skip(f"no network: {done.stdout.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout
    return done.stdout


def installed(folder, extra):
    """Build the wheel, install it with an extra at the locked versions; the folder of the programs."""
    uv("build", "--quiet", "--wheel", "--out-dir", folder / "wheel", ROOT, cwd=folder)
    (wheel,) = (folder / "wheel").glob("*.whl")
    made = folder / "environment"
    uv("venv", "--quiet", "--python", sys.executable, made, cwd=folder)
    locked = ROOT / "envs/requirements-cpu.txt"
    target = ("--python", made / "bin/python")
    uv("pip", "install", "--quiet", *target, f"{wheel}[{extra}]", "--constraints", locked, cwd=folder)
    return made / "bin"
