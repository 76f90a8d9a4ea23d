"""The workflow for real: snakemake on the miniature, in a copy of the repository."""

import json
import os
import shutil
import subprocess
import sys

import jsonschema
import pyhf
import pytest
from clones import clone

from pipeline import config
from pipeline.data import datasets

pytestmark = [pytest.mark.workflow, pytest.mark.simulate, pytest.mark.dask]

CONFIG = "config/miniature.yaml"


def snakemake(folder, *arguments, configfile=CONFIG):
    """Run snakemake in a copy; standard output and error together."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--configfile", configfile]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A copy of the repository in which the miniature has run."""
    folder = clone(tmp_path_factory.mktemp("workflow"))
    path = folder / CONFIG
    text = path.read_text()
    assert "\ncluster:\n" in text
    path.write_text(
        text.replace("\ncluster:\n", "\ncluster:\n  executor: in_process\n")
    )  # each worker would compile
    result = snakemake(folder)
    assert result.returncode == 0, result.stdout
    return folder


def planned(result):
    """Rules that a dry run would execute, with the number of jobs."""
    lines = result.stdout.splitlines()
    if not any(line.startswith("job  ") for line in lines):
        return {}
    start = next(i for i, line in enumerate(lines) if line.startswith("job  ")) + 2
    rows = [line.split() for line in lines[start:]]
    jobs = {}
    for row in rows:
        if len(row) != 2 or row[0] == "total":
            break
        jobs[row[0]] = int(row[1])
    return jobs


def test_everything_is_there(finished):
    results = finished / "results" / "miniature"
    page = (results / "report.html").read_text()
    assert "miniature of the ttbar analysis" in page
    assert {p.name for p in (results / "figures").iterdir()} >= {
        "objective.svg",
        "parameters.svg",
        "pulls.svg",
    }
    assert len(list((results / "checkpoints").glob("epoch_*.npz"))) == 2
    assert len(list((results / "optimise").glob("block_*.npz"))) == 2
    evaluation = json.loads((results / "evaluation.json").read_text())
    assert [(row["point"], row["fold"]) for row in evaluation["rows"]] == [
        ("initial", "train"),
        ("optimised", "train"),
        ("initial", "held_out"),
        ("optimised", "held_out"),
    ]
    summary = json.loads((results / "summary.json").read_text())
    jsonschema.validate(summary, json.loads((finished / "config/summary.schema.json").read_text()))
    assert summary["change"]["by"] == "pyhf"
    assert summary["values"]["optimised"]["held_out"]["pyhf"]["value"] == evaluation["rows"][3]["pyhf"]
    for workspace in (results / "workspaces").glob("*.json"):
        pyhf.Workspace(json.loads(workspace.read_text())).model()
    log = (results / "logs" / "optimise" / "block_1.log").read_text()
    assert log.count("epoch ") == 2
    assert "events/s" in log
    assert not list(results.rglob("*.tmp"))


def test_a_second_run_does_nothing(finished):
    result = snakemake(finished)
    assert result.returncode == 0
    assert "Nothing to be done" in result.stdout


def test_a_changed_root_file_runs_only_what_depends_on_it(finished):
    simulated = sorted((finished / "results" / "simulated" / "seed7").glob("ttbar*.root"))
    content = simulated[0].read_bytes()
    shutil.copy(simulated[1], simulated[0])
    try:
        assert planned(snakemake(finished, "-n")) == {
            "columns": 1,
            "optimise": 2,
            "evaluate": 1,
            "histograms": 2,
            "report": 1,
            "all": 1,
        }
    finally:
        simulated[0].write_bytes(content)


def test_a_changed_learning_rate_reads_no_file_again(finished):
    jobs = planned(snakemake(finished, "-n", "--config", "set=optimise.learning_rate=0.01"))
    assert jobs == {"optimise": 2, "evaluate": 1, "histograms": 2, "report": 1, "all": 1}


@pytest.mark.parametrize("setting", ["set=title=other", "set=[title=other,cluster.executor=in_process]"])
def test_a_changed_title_redraws_the_report_only(finished, setting):
    assert planned(snakemake(finished, "-n", "--config", setting)) == {"report": 1, "all": 1}


def test_overrides_with_a_colon_are_a_list(finished):
    """Snakemake takes a text with a colon for YAML and hands over a mapping."""
    text = "set=objective.kind=cross_entropy 'objective={kind: discovery}'"
    result = snakemake(finished, "-n", "--config", text)
    assert result.returncode != 0
    assert "are no overrides key=value; where a value has a space or a colon, give a list" in " ".join(
        result.stdout.split()
    )
    jobs = planned(
        snakemake(finished, "-n", "--config", 'set=["objective={kind: discovery}", "title=other"]')
    )
    assert jobs["optimise"] == 2


@pytest.mark.slow
def test_other_ranges_of_entries_read_again_what_they_change(finished):
    """Two jobs for each file of more than 500 events; the file of tW with 400 stays."""
    jobs = planned(snakemake(finished, "-n", "--config", "set=data.max_events_per_job=500"))
    assert jobs["columns"] == 2 * 2 + 2 + 2  # ttbar, its variation, W+jets
    command = [sys.executable, "-m", "pipeline", "evaluate", CONFIG, "--output", "never.json"]
    environment = {**os.environ, "PYTHONPATH": str(finished)}
    result = subprocess.run(
        [*command, "--set", "data.max_events_per_job=500"],
        cwd=finished,
        env=environment,
        text=True,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 1
    assert "is of another run: range was [0, None] and is [0, 500]" in result.stderr.replace("\n", " ")
    assert not (finished / "never.json").exists()


@pytest.mark.slow
def test_a_missing_file_may_be_left_out(finished, tmp_path):
    run = config.load(finished / CONFIG)
    manifest = datasets.planned_manifest(run)
    manifest["ttbar"]["nominal"]["files"][0]["path"] = "nowhere.root"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    target = "results/lost/columns/ttbar/0000.parquet"
    setting = f"set=run=lost simulate=null data.manifest={tmp_path}/manifest.json data.unreadable_files="
    result = snakemake(finished, target, "--config", f"{setting}leave_out")
    assert result.returncode == 0, result.stdout
    assert "left out: sample 'ttbar': file nowhere.root does not exist" in result.stdout.replace("\n", " ")
    result = snakemake(finished, "-n", target, "--config", f"{setting}fail")
    assert result.returncode != 0
    assert "where the data of the shipped runs come from is in docs/data.md" in result.stdout


def test_an_unknown_key_stops_before_anything_runs(finished):
    result = snakemake(finished, "-n", "--config", "set=optimise.epoch=3")
    assert result.returncode != 0
    assert "optimise.epoch: unknown key" in result.stdout
    assert "Traceback" not in result.stdout


def test_a_damaged_root_file_fails_and_leaves_nothing(finished):
    simulated = sorted((finished / "results" / "simulated" / "seed7").glob("wjets*.root"))[0]
    content = simulated.read_bytes()
    simulated.write_bytes(content[: len(content) // 2])
    try:
        target = "results/miniature/columns/wjets/0000.parquet"
        result = snakemake(finished, target)
        assert result.returncode != 0
        assert str(simulated.name) in result.stdout
        assert "Traceback" not in result.stdout
        assert not (finished / target).exists()
        assert not list((finished / target).parent.glob(".*"))
    finally:
        simulated.write_bytes(content)


@pytest.mark.slow
def test_a_run_without_a_model_has_a_report_and_no_workspace(finished):
    events = "simulate.samples.tracks={files: 1, events_per_file: 500}"
    setting = f"set={json.dumps(['optimise.epochs=2', 'cluster.executor=in_process', events])}"
    page = "results/planes/report.html"
    result = snakemake(finished, page, "--config", setting, configfile="config/planes.yaml")
    assert result.returncode == 0, result.stdout
    assert "uncertainty on the slope, exact cuts" in (finished / page).read_text()
    assert not list((finished / "results/planes/workspaces").glob("*"))


@pytest.mark.slow
def test_optimised_yields_from_the_command_line(finished):
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "yields",
        CONFIG,
        "--parameters",
        "optimised",
        "--fold",
        "train",
    ]
    environment = {**os.environ, "PYTHONPATH": str(finished)}
    printed = json.loads(
        subprocess.run(command, cwd=finished, env=environment, capture_output=True, check=True).stdout
    )
    evaluation = json.loads((finished / "results" / "miniature" / "evaluation.json").read_text())
    assert printed["parameters"] == evaluation["points"]["optimised"]["parameters"]
    (row,) = (r for r in evaluation["rows"] if (r["point"], r["fold"]) == ("optimised", "train"))
    assert printed["yields"] == row["templates"]["yields"]
