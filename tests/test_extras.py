"""What a plain `pip install thalweg` brings is enough for what it is for; all else says which extra it needs."""

import functools
import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from workspaces import counting

from pipeline.errors import EXTRAS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE = ("pipeline.relax", "pipeline.likelihood", "pipeline.fit", "pipeline.fit.impacts", "pipeline.fit.hypotest",
        "pipeline.objective", "pipeline.config", "pipeline.containers", "pipeline.cli.command",
        "pipeline.evaluate.workspaces.fits")  # fmt: skip
MOST_SECONDS = 1.0  # of importing a base module, beside JAX
MOST_PACKAGES = 25  # that the base brings, itself among them
NEEDING = {
    "pipeline.columns": ("awkward", "io"),
    "pipeline.analysis": ("awkward", "io"),
    "pipeline.data.store": ("pyarrow", "io"),
    "pipeline.cluster": ("dask", "workflow"),
    "pipeline.report.figures": ("jinja2", "workflow"),
    "pipeline.evaluate.by_pyhf.state": ("iminuit", "stats"),
    "pipeline.evaluate.workspaces.beside": ("pyhf", "stats"),
}


def closure(requirements):
    """Distributions that these requirements bring on this machine, by their normalised names."""
    found, waiting = set(), [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in found:
            continue
        found.add(name)
        for text in importlib.metadata.requires(name) or ():
            inner = Requirement(text)
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in ("", *wanted.extras)):
                waiting.append(inner)
    return found


@functools.cache
def beyond_the_base():
    """Top-level modules of this environment that a plain install does not bring."""
    base = closure(PROJECT["dependencies"])
    return sorted(
        module
        for module, distributions in importlib.metadata.packages_distributions().items()
        if not base & {canonicalize_name(name) for name in distributions} and module != "pipeline"
    )


def python(code, without, cwd=ROOT):
    """Run code in a Python without some packages."""
    return subprocess.run(
        [sys.executable, str(ROOT / "tests/support/without.py"), ",".join(without), code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_a_plain_install_brings_few_packages():
    assert len(closure(PROJECT["dependencies"])) < MOST_PACKAGES


def test_what_the_base_is_for_imports_with_the_packages_of_the_base_alone():
    blocked = beyond_the_base()
    assert {"pyhf", "uproot", "awkward", "dask", "matplotlib", "snakemake", "pyarrow"} <= set(blocked)
    done = python(f"import {', '.join(BASE)}", blocked)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["pipeline.relax", "pipeline.likelihood"])
def test_what_the_base_is_for_imports_fast(module):
    """In the time of the processor, which other programs do not take."""
    code = f"""
import time, jax, jax.numpy
before = time.process_time()
import {module}
print(time.process_time() - before)
"""
    done = python(code, beyond_the_base())
    assert float(done.stdout) < MOST_SECONDS, done.stderr


@pytest.mark.parametrize("module", sorted(NEEDING))
def test_what_lacks_its_extra_says_which(module):
    package, extra = NEEDING[module]
    code = f"""
try:
    import {module}
except ImportError as error:
    print(error.name, "|", error)
"""
    done = python(code, EXTRAS[extra])
    assert done.returncode == 0, done.stderr
    name, _, said = done.stdout.strip().partition(" | ")
    assert name == package
    assert said.startswith("pipeline.")
    assert said.endswith(
        f"needs the package '{package}', which is not installed; it comes with the extra '{extra}': "
        f'pip install "thalweg[{extra}]", or "thalweg[all]" for whole runs'
    )


def test_the_command_line_fits_a_workspace_without_extras_and_says_what_a_run_lacks(tmp_path):
    (tmp_path / "counting.json").write_text(json.dumps(counting()))
    line = "from pipeline.cli.main import main; main({})"
    fitted = python(line.format(["fit", "counting.json"]), beyond_the_base(), tmp_path)
    assert fitted.returncode == 0, fitted.stderr
    assert "mu" in fitted.stdout
    compared = python(line.format(["fit", "counting.json", "--compare"]), beyond_the_base(), tmp_path)
    assert compared.returncode == 1
    assert compared.stderr.count("\n") == 1
    assert 'pip install "thalweg[stats]"' in compared.stderr
    config = str(ROOT / "config/one_cut.yaml")
    reading = ["columns", config, "--sample", "signal", "--index", "0", "--output", "made.parquet"]
    lacking = python(line.format(reading), beyond_the_base(), tmp_path)
    assert lacking.returncode == 1
    assert lacking.stderr.count("\n") == 1, lacking.stderr
    assert lacking.stderr.startswith("error: pipeline.")
    assert 'pip install "thalweg[io]"' in lacking.stderr


def test_others_may_do_without():
    """Who asks whether a package is there, or tries to import it, gets Python's own answer."""
    code = """
import importlib.util, pipeline
assert importlib.util.find_spec("uproot") is None
try:
    import uproot
except ModuleNotFoundError as error:
    assert "thalweg" not in str(error)
"""
    done = python(code, EXTRAS["io"])
    assert done.returncode == 0, done.stderr


def test_the_table_of_extras_is_that_of_the_project():
    declared = PROJECT["optional-dependencies"]
    assert declared["all"] == [f"thalweg[{','.join(EXTRAS)}]"]
    for extra, packages in EXTRAS.items():
        names = {Requirement(text).name for text in declared[extra]}
        assert names <= set(packages)
        assert set(packages) - names <= {"markupsafe", "tornado"}
