"""The workflow as snakedeploy puts it in a folder of the user's, from a clone and from a git repository."""

import subprocess

import pytest
import rootfiles
import yaml
from clones import ROOT, clone
from test_elsewhere import snakemake

pytestmark = pytest.mark.workflow

# As snakedeploy 0.17.1 writes it.
DEPLOYED = """
from snakemake.utils import min_version


min_version("6.10.0")


configfile: "config/config.yml"


# declare https://example.org/thalweg as a module
module thalweg:
    snakefile:
        {snakefile}
    config:
        config


# use all rules from https://example.org/thalweg
use rule * from thalweg
"""


@pytest.fixture
def deployed(tmp_path):
    """A run, the workflow's configuration naming it; what writes the Snakefile."""
    rootfiles.write_run(tmp_path, optimise={"epochs": 1})
    (tmp_path / "config").mkdir()
    content = yaml.safe_load((ROOT / "config/config.yml").read_text())
    (tmp_path / "config/config.yml").write_text(yaml.safe_dump({**content, "configfile": "tiny.yaml"}))
    (tmp_path / "workflow").mkdir()

    def write(snakefile):
        (tmp_path / "workflow/Snakefile").write_text(DEPLOYED.format(snakefile=snakefile))
        return tmp_path

    return write


def repository(folder):
    """A git repository of the project with one commit."""
    folder.mkdir()
    clone(folder)
    me = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    for command in (("init", "--quiet"), ("add", "--all"), (*me, "commit", "--quiet", "-m", "all")):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return folder


def test_from_a_repository_it_plans_the_run(deployed, tmp_path_factory):
    """Snakemake reads all files of the workflow from the commit, none from a folder."""
    source = repository(tmp_path_factory.mktemp("source") / "thalweg")
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=source, capture_output=True, text=True
    ).stdout.strip()
    folder = deployed(f'"git+file://{source}/workflow/Snakefile@{commit}"')
    planned = snakemake(folder, "--dry-run")
    assert planned.returncode == 0, planned.stdout
    assert "results/tiny/report.html" in planned.stdout


@pytest.mark.slow
@pytest.mark.long
def test_from_a_clone_it_runs(deployed):
    folder = deployed(f'"{ROOT}/workflow/Snakefile"')
    result = snakemake(folder, "results/tiny/optimise/block_1.npz")
    assert result.returncode == 0, result.stdout
    assert (folder / "results/tiny/optimise/block_1.npz").exists()
    (folder / "config/config.yml").write_text("configfile: tiny.yaml\nset: [run=other]\n")
    planned = snakemake(folder, "--dry-run")
    assert "results/other/report.html" in planned.stdout, planned.stdout


def test_the_defaults_of_the_configuration_are_a_run(tmp_path):
    """What snakedeploy copies names a run that it copies as well."""
    content = yaml.safe_load((ROOT / "config/config.yml").read_text())
    assert (ROOT / content["configfile"]).exists()
    assert set(content) == {"configfile", "set"}


def test_the_snakefile_of_either_place_is_the_same():
    texts = [(ROOT / place).read_text() for place in ("Snakefile", "workflow/Snakefile")]
    above, below = (text[text.index("from snakemake.utils") :] for text in texts)
    assert above.replace('"workflow/', '"') == below
