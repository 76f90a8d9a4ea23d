"""The workflow outside its clone: in another folder, and as a module of a Snakefile of the user's."""

import json
import os
import subprocess
import sys

import jsonschema
import pytest
import rootfiles
from clones import ROOT

from pipeline import __version__

pytestmark = pytest.mark.workflow

SNAKEFILE = f"""
rule mine:
    input:
        one="results/one/optimise/block_1.npz",
        two="results/two/columns/signal/0000.parquet",
    output:
        "mine.txt",
    shell:
        "ls {{input}} >{{output}}"


module one:
    snakefile:
        "{ROOT}/Snakefile"
    config:
        {{"configfile": "tiny.yaml", "set": ["run=one", "title=a {{brace}}"]}}


use rule * from one as one_*


module two:
    snakefile:
        "{ROOT}/Snakefile"
    config:
        {{"configfile": "tiny.yaml", "set": "run=two"}}


use rule * from two as two_*
"""


def snakemake(folder, *arguments):
    """Run snakemake in a folder; standard output and error together."""
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


@pytest.fixture
def folder(tmp_path):
    """A run and nothing else."""
    rootfiles.write_run(tmp_path, optimise={"epochs": 1})
    return tmp_path


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.dask
def test_in_another_folder_a_whole_run(folder):
    for name in ("here", "elsewhere"):
        (folder / name).mkdir()
    given = ("--snakefile", ROOT / "Snakefile", "--configfile", "../tiny.yaml", "--directory", "../elsewhere")
    result = snakemake(folder / "here", *given)
    assert result.returncode == 0, result.stdout
    assert not list((folder / "here").iterdir())
    results = folder / "elsewhere/results/tiny"
    assert f"thalweg {__version__}" in (results / "report.html").read_text()
    assert json.loads((results / "summary.json").read_text())["values"]
    result = snakemake(folder / "here", *given)
    assert "Nothing to be done" in result.stdout, result.stdout


@pytest.mark.long
@pytest.mark.slow
def test_in_folds_a_whole_run(folder):
    """An optimisation for each fold, whose values are the verbs' own, and nothing is called held-out."""
    given = ("--snakefile", ROOT / "Snakefile", "--configfile", "tiny.yaml", "--config")
    setting = "optimise.epochs=2 optimise.epochs_per_job=1"
    result = snakemake(folder, *given, f"set=data.folds=2 {setting}")
    assert result.returncode == 0, result.stdout
    results = folder / "results/tiny"
    assert {path.parts[-3] for path in results.rglob("block_2.npz")} == {"fold_1", "fold_2"}
    assert {path.name for path in (results / "workspaces").iterdir()} == {
        "initial_cross_fitted.json", "optimised_cross_fitted.json",
    }  # fmt: skip
    summary = json.loads((results / "summary.json").read_text())
    jsonschema.validate(summary, json.loads((ROOT / "config/summary.schema.json").read_text()))
    assert summary["change"]["fold"] == "cross_fitted"
    assert summary["events"] == {"train": 200, "cross_fitted": 400}
    assert [own["fold"] for own in summary["folds"]] == ["fold_1", "fold_2"]
    cuts = [own["parameters"]["cut"] for own in summary["folds"]]
    assert summary["parameters"]["cut"]["optimised"] == pytest.approx(sum(cuts) / 2)
    page = (results / "report.html").read_text()
    assert "cross-fitted" in page
    assert "held-out" not in page
    result = snakemake(folder, *given, f"set=data.folds=2 {setting}")
    assert "Nothing to be done" in result.stdout, result.stdout
    result = snakemake(folder, *given, f"set=data.folds=3 {setting}", "--dry-run")
    jobs = dict(line.split() for line in result.stdout.splitlines() if len(line.split()) == 2)
    assert (jobs["columns"], jobs["optimise"]) == ("2", "6"), result.stdout


@pytest.mark.slow
@pytest.mark.long
def test_as_a_module_twice_in_a_workflow_of_the_users(folder):
    """Each has its own run; the default target, and the commands of the user's rules, are the user's."""
    (folder / "Snakefile").write_text(SNAKEFILE)
    result = snakemake(folder, "--printshellcmds")
    assert result.returncode == 0, result.stdout
    assert (folder / "mine.txt").read_text().count("results") == 2
    assert (folder / "results/one/logs/optimise/block_1.log").read_text().count("epoch ") == 1
    assert (folder / "results/two/columns/signal/0000.parquet").exists()
    assert not (folder / "results/two/optimise").exists()
    assert not (folder / "results/tiny").exists()
    assert "one_columns" in result.stdout
    assert "two_columns" in result.stdout
    planned = snakemake(folder, "--dry-run", "one_all")
    assert planned.returncode == 0, planned.stdout
    assert "one_report" in planned.stdout
    assert "two_" not in planned.stdout


def test_as_a_module_without_a_config_it_takes_the_command_lines(folder):
    text = f"""
module thalweg:
    snakefile:
        "{ROOT}/Snakefile"


use rule * from thalweg as thalweg_*
"""
    (folder / "Snakefile").write_text(text)
    result = snakemake(folder, "--dry-run", "--configfile", "tiny.yaml", "--config", "mine=3")
    assert result.returncode == 0, result.stdout
    assert "results/tiny/report.html" in result.stdout


def test_a_wrong_config_of_a_module_is_named(folder):
    (folder / "Snakefile").write_text(SNAKEFILE.replace('"configfile"', '"file"'))
    result = snakemake(folder, "--dry-run")
    assert result.returncode != 0
    assert "the config of this module is {'configfile': a run's YAML file" in result.stdout
    assert "Traceback" not in result.stdout
