"""What REANA is asked for is what the workflow makes; reana-client checks the rest, by hand (docs/anywhere.md)."""

import pytest
import yaml
from clones import ROOT

from pipeline import __version__


@pytest.mark.parametrize("name", ["reana.yaml", "reana-agc.yaml"])
def test_names_are_those_of_the_run(name):
    content = yaml.safe_load((ROOT / name).read_text())
    config = content["inputs"]["parameters"]["config"]
    assert config in content["inputs"]["files"]
    run = yaml.safe_load((ROOT / config).read_text())["run"]
    outputs = [*content["outputs"]["files"], *content["outputs"]["directories"]]
    assert all(path.startswith(f"results/{run}/") for path in outputs)
    (step,) = content["workflow"]["specification"]["steps"]
    assert step["environment"] == f"thalweg:{__version__}"
    assert "$(thalweg snakefile)" in step["commands"][0]
