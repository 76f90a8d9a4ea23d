"""The environments agree: conda's pins are those of the lock, and no file names an index."""

import re
from pathlib import Path

import pytest
import yaml

ENVIRONMENTS = Path(__file__).parents[2] / "envs"


def locked(name):
    """Packages of a requirements file with their versions."""
    found = re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", (ENVIRONMENTS / name).read_text(), re.MULTILINE)
    return dict(found)


def test_conda_pins_are_the_locked_versions():
    content = yaml.safe_load((ENVIRONMENTS / "thalweg.yaml").read_text())
    pins = dict(line.split("==") for line in content["dependencies"][-1]["pip"])
    lock = locked("requirements-cpu.txt")
    assert pins == {name: lock[name] for name in pins}
    assert {"jax", "coffea", "pyhf", "pythia8mc"} <= set(pins)


@pytest.mark.parametrize(
    "name",
    [
        *("requirements-cpu.txt", "requirements-gpu.txt", "requirements-htcondor.txt"),
        *("requirements-build.txt", "requirements-docs.txt"),
    ],
)
def test_locked_requirements_have_hashes_and_name_no_index(name):
    text = (ENVIRONMENTS / name).read_text()
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
    assert (
        text.count("--hash=sha256:")
        >= len(locked(name))
        > (2 if "build" in name else 50 if "docs" in name else 100)
    )
