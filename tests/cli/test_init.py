"""The verb `init`: a folder that runs as it stands, outside of the clone; a name that cannot be gets a sentence."""

import contextlib
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from pipeline import Run
from pipeline.cli import main
from pipeline.cli.starter import folder as starter

ROOT = Path(pipeline.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
FILES = {"README.md", "make_events.py", "run.py", "top_pairs.py", "top_pairs.yaml", "test_top_pairs.py"}


def init(name, *options):
    """Exit code."""
    with pytest.raises(SystemExit) as end:
        main(["init", name, *map(str, options)])
    return end.value.code


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder, with its events."""
    where = tmp_path_factory.mktemp("newcomer")
    assert init("top_pairs", "--folder", where) == 0
    run(where / "top_pairs", "make_events.py")
    return where / "top_pairs"


def run(folder, *command):
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_files_are_of_the_name_and_nothing_else_is_left(tmp_path):
    assert init("top_pairs", "--folder", tmp_path) == 0
    made = tmp_path / "top_pairs"
    assert {path.name for path in made.iterdir()} == FILES
    assert list(tmp_path.iterdir()) == [made]
    for name in FILES:
        text = (made / name).read_text()
        assert not re.search("my_analysis|MyAnalysis", text), name
    assert "class TopPairs(Analysis):" in (made / "top_pairs.py").read_text()


def test_every_key_of_the_configuration_is_explained_where_it_stands(made):
    sections = re.split(r"^(?=[a-z]+:)", (made / "top_pairs.yaml").read_text(), flags=re.MULTILINE)
    for before, section in itertools.pairwise(sections):
        commented = "#" in section or before.rstrip().rpartition("\n")[2].startswith("#")
        assert commented or section.startswith("title:"), section


@pytest.mark.slow
def test_its_own_tests_pass(made):
    said = run(made, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_top_pairs.py")
    assert "10 passed" in said


def test_its_tests_notice_another_selection(made, tmp_path):
    for name in FILES:
        (tmp_path / name).write_text((made / name).read_text())
    source = tmp_path / "top_pairs.py"
    source.write_text(source.read_text().replace("relax.at_least(tags, 1)", "relax.at_least(tags, 2)"))
    command = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-k",
        "exact",
        "test_top_pairs.py",
    ]
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=ENVIRONMENT, capture_output=True)
    assert done.returncode == 1


@pytest.mark.slow
def test_it_has_no_mistake(made):
    said = run(made, "-m", "pipeline", "check", "top_pairs.yaml")
    assert "fine: uncertainty on the parameter of interest at the start" in said
    assert "top_pairs.yaml: no errors, no notes" in said


@pytest.mark.long
@pytest.mark.slow
def test_the_optimisation_improves_the_objective_with_hard_cuts(made):
    """A few epochs of the real run."""
    overrides = ["optimise.epochs=12", "optimise.epochs_per_job=12", "optimise.check_every=6"]
    short = Run(made / "top_pairs.yaml", *overrides, "cluster.executor=in_process", folder=made)
    short.columns()
    checks = [record.check.objective for record in short.optimise().records if record.check]
    assert len(checks) >= 2
    assert min(checks) < 0.85 * checks[0]


@pytest.mark.slow
@pytest.mark.workflow
def test_the_workflow_of_the_readme_is_planned(made):
    text = (made / "README.md").read_text()
    (found,) = re.findall(r'^snakemake --snakefile "\$\(thalweg (snakefile)\)" (.*)$', text, re.MULTILINE)
    place = run(made, "-m", "pipeline", found[0]).strip()
    run(made, "-m", "snakemake", "--snakefile", place, *found[1].split(), "--dry-run")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("two-jets", "'two-jets' is none that Python can import; allowed: letters, digits and _"),
        ("2jets", "is none that Python can import"),
        ("_jets", "a letter first"),
        ("jäts", "is none that Python can import"),
        ("../jets", "is none that Python can import"),
        ("lambda", "is a word of Python's own; choose another one, as in lambda_analysis"),
        ("null", "'null' is no text in YAML; choose another one, as in null_analysis"),
        ("true", "is no text in YAML"),
        ("x" * 200, "has 200 characters; at most 120 are allowed"),
        ("numpy", "would hide the module 'numpy'"),
        ("statistics", "would hide the module 'statistics'"),
        ("pipeline", "would hide the module 'pipeline'"),
        ("make_events", "would hide the module 'make_events'"),
        ("transform", "would hide the class 'Transform'"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path, capsys, name, says):
    assert init(name, "--folder", tmp_path) == 1
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "jets").mkdir()
    assert init("jets", "--folder", tmp_path) == 1
    assert "is there already, and nothing is overwritten" in capsys.readouterr().err
    assert not list((tmp_path / "jets").iterdir())
    assert init("jets", "--folder", tmp_path / "none") == 1
    assert "is no folder; create it" in capsys.readouterr().err


def test_the_present_folder_is_the_default_and_the_placeholder_a_name(tmp_path):
    with contextlib.chdir(tmp_path):
        assert init("my_analysis") == 0
    assert (tmp_path / "my_analysis/my_analysis.py").read_text().count("MyAnalysis") == 1


def test_every_file_is_part_of_the_package():
    """What git ignores is in no wheel."""
    ignored = subprocess.run(
        ["git", "check-ignore", *map(str, starter.FILES.iterdir())], cwd=ROOT, capture_output=True, text=True
    )
    assert not [line for line in ignored.stdout.splitlines() if "__pycache__" not in line]
    assert {path.name for path in starter.FILES.iterdir() if path.suffix in starter.ENDINGS} == {
        name.replace("top_pairs", "my_analysis") for name in FILES
    }
