"""A run in one archive, as the library of RO-Crates reads it and as the profile of workflow runs asks."""

import json
import zipfile

import pytest
import rootfiles

from pipeline import Run
from pipeline.cli.main import main
from pipeline.errors import InputError

rocrate = pytest.importorskip(
    "rocrate.rocrate", reason="rocrate is not installed; it is in the lock: make environment"
)
WORKFLOW_RUN = "https://w3id.org/ro/wfrun/workflow/0.5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that is over but for its page."""
    folder = tmp_path_factory.mktemp("crate")
    rootfiles.write_run(folder, optimise={"epochs": 1}, evaluate={"bootstrap": 0}).rename(
        folder / "base.yaml"
    )
    (folder / "tiny.yaml").write_text("extends: base.yaml\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run = Run("tiny.yaml", "optimise.learning_rate=0.02")
        run.columns()
        run.optimise()
        run.evaluate()
    return folder


def of(folder, *arguments):
    """Pack with the verb; what the archive is read as."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with pytest.raises(SystemExit) as end:
            main(["crate", "tiny.yaml", "--set", "optimise.learning_rate=0.02", *arguments])
    assert end.value.code == 0
    return folder / (arguments[-1] if arguments else "results/tiny/crate.zip")


@pytest.mark.slow
def test_it_says_what_was_run_on_what_and_what_came_out(folder, tmp_path):
    archive = of(folder)
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    crate = rocrate.ROCrate(tmp_path)
    assert WORKFLOW_RUN in {entity.id for entity in crate.root_dataset["conformsTo"]}
    assert crate.version == "1.1"
    assert crate.mainEntity.id == "Snakefile"
    assert "ComputationalWorkflow" in crate.mainEntity.type
    versions = {entity["name"]: entity["version"] for entity in crate.mainEntity["softwareRequirements"]}
    assert crate.get("README.md")["about"] == crate.root_dataset
    summary = json.loads((folder / "results/tiny/summary.json").read_text())
    assert versions == summary["versions"]
    action = crate.root_dataset["mentions"]
    assert action.type == "CreateAction"
    assert action["instrument"] == crate.mainEntity
    named = {entity.id for entity in action["object"]}
    own = {"configuration.yaml", "configuration.json", "inputs.json", "#set-optimise.learning_rate"}
    assert named == own | {"extended/1_base.yaml"}
    made = {entity.id for entity in action["result"]}
    assert {"results/summary.json", "results/workspaces/optimised_held_out.json"} <= made
    for name in made:
        original = folder / "results/tiny" / name.removeprefix("results/")
        assert (tmp_path / name).read_bytes() == original.read_bytes()
    inputs = json.loads((tmp_path / "inputs.json").read_text())
    assert {entry["file"] for entry in inputs} == {"signal.root", "background.root"}
    assert json.loads((tmp_path / "configuration.json").read_text())["optimise"]["learning_rate"] == 0.02


def test_a_run_without_a_result_has_no_crate(tmp_path, monkeypatch):
    from pipeline import config as configuration  # noqa: PLC0415
    from pipeline.report import crate  # noqa: PLC0415, imports rocrate

    rootfiles.write_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = tmp_path / "tiny.yaml"
    with pytest.raises(InputError, match=r"summary.json does not exist; run the `evaluate` stage first"):
        crate.write(configuration.load(given, ()), given, (), given, [], tmp_path / "crate.zip")
    assert not (tmp_path / "crate.zip").exists()
