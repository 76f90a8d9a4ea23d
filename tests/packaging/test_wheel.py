"""A wheel in an environment of its own does all without a clone: verbs, and a whole run of the workflow."""

import json

import pytest
import rootfiles
import wheels
from workspaces import counting

pytestmark = [pytest.mark.slow, pytest.mark.workflow]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return wheels.installed(tmp_path_factory.mktemp("wheel"), "all")


def test_the_command_line(programs, tmp_path):
    helped = wheels.run(programs / "thalweg", "--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert "snakefile" in helped.stdout
    (tmp_path / "counting.json").write_text(json.dumps(counting()))
    fitted = wheels.run(programs / "thalweg", "fit", "counting.json", "--compare", cwd=tmp_path)
    assert fitted.returncode == 0, fitted.stdout
    assert "converged" in fitted.stdout


def test_a_whole_run_from_an_empty_folder(programs, tmp_path):
    rootfiles.write_run(tmp_path, optimise={"epochs": 1})
    asked = wheels.run(programs / "thalweg", "snakefile", cwd=tmp_path)
    snakefile = asked.stdout.splitlines()[-1]
    assert "site-packages" in snakefile, "not the clone's"
    given = ("--snakefile", snakefile, "--configfile", "tiny.yaml", "--cores", 2)
    done = wheels.run(programs / "snakemake", *given, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "Using profile" in done.stdout or "profiles/default" in done.stdout, done.stdout
    summary = json.loads((tmp_path / "results/tiny/summary.json").read_text())
    assert summary["values"]
    assert (tmp_path / "results/tiny/report.html").exists()
    again = wheels.run(programs / "snakemake", *given, cwd=tmp_path)
    assert "Nothing to be done" in again.stdout


def test_profiles_are_found_by_name(programs, tmp_path):
    for name in ("slurm", "htcondor"):
        asked = wheels.run(programs / "thalweg", "snakefile", "--profile", name, cwd=tmp_path)
        assert asked.returncode == 0, asked.stdout
        assert asked.stdout.splitlines()[-1].endswith(f"workflow/profiles/{name}")
    wrong = wheels.run(programs / "thalweg", "snakefile", "--profile", "slrum", cwd=tmp_path)
    assert wrong.returncode == 1
    assert "nearest: 'slurm'" in wrong.stdout
