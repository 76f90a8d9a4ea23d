"""The workflow and Dask workers on a real HTCondor pool, made in a folder by tests/support/htcondor_pool.py.

Opt-in: `THALWEG_HTCONDOR_POOL=FOLDER .venv/bin/python -m pytest -m htcondor`, as root, with the extra installed.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import clones
import htcondor_pool
import pytest
from rootfiles import write_run

from pipeline.data import store

ROOT = Path(__file__).parents[2]
FOLDER = os.environ.get("THALWEG_HTCONDOR_POOL")
MISSING = (
    "THALWEG_HTCONDOR_POOL names no folder for the pool"
    if not FOLDER
    else "the pool's chroot needs root"
    if os.geteuid() != 0
    else "the extra thalweg[htcondor] is not installed"
    if importlib.util.find_spec("snakemake_executor_plugin_htcondor") is None
    else None
)
pytestmark = [
    pytest.mark.htcondor,
    pytest.mark.workflow,
    pytest.mark.simulate,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]

# One worker a job: the pool has more slots than this machine has cores.
SNAKEMAKE = (
    "--configfile",
    "config/miniature.yaml",
    "--max-threads",
    "1",
    "--seconds-between-status-checks",
    "2",
)
# No Dask workers inside the job, which start as long as the miniature takes; the results are the same bits.
QUICK = ("--config", "set=cluster.executor=in_process")
RESULTS = ("evaluation.json", "histograms_initial.json", "histograms_optimised.json")
WITHIN = 600  # seconds for what takes a few


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A pool, and the folder that it shares with the ordinary user's machine."""
    folder = tmp_path_factory.mktemp("site")
    os.chown(folder, htcondor_pool.ORDINARY, htcondor_pool.ORDINARY)
    with htcondor_pool.running(FOLDER, [folder, ROOT]) as pool:
        yield pool, folder


def checkout(folder):
    """A clone's files, the ordinary user's; nobody else may look inside."""
    folder.mkdir(mode=0o700)
    clones.clone(folder)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, htcondor_pool.ORDINARY, htcondor_pool.ORDINARY, follow_symlinks=False)
    return folder


def results(folder):
    """What a run found, without the times that it took."""
    return [json.loads((folder / "results" / "miniature" / name).read_text()) for name in RESULTS]


def ended(pool):
    """HTCondor's cluster numbers of the jobs that have ended, and the exit code of each."""
    text = pool.output("condor_history", "-af", "ClusterId", "ExitCode")[1]
    return [line.split() for line in text.splitlines()]


@pytest.fixture(scope="module")
def finished(site):
    """A clone in which the miniature has run on the pool, with the profile as it is shipped."""
    pool, folder = site
    clone = checkout(folder / "shared")
    code, text = pool.output("snakemake", "--profile", "htcondor", *SNAKEMAKE, folder=clone)
    assert code == 0, text
    return pool, clone


def test_the_miniature_runs_on_the_pool(finished):
    pool, clone = finished
    assert "miniature of the ttbar analysis" in (clone / "results/miniature/report.html").read_text()
    jobs = ended(pool)
    assert len(jobs) == 16
    assert {code for _, code in jobs} == {"0"}
    code, text = pool.output("snakemake", "-n", "--profile", "htcondor", *SNAKEMAKE, folder=clone)
    assert code == 0, text
    assert "Nothing to be done" in text


def test_a_job_asks_for_what_its_rule_needs(finished):
    pool, _ = finished
    asked = ("RequestMemory", "AllowedJobDuration", "RequestCpus", "JobBatchName")
    text = pool.output("condor_history", "-af", *asked)[1]
    rows = {line.split()[3].rpartition("-")[0]: line.split()[:3] for line in text.splitlines()}
    assert rows["columns"] == ["3000", "3600", "1"]
    assert rows["optimise"] == ["5000", "14400", "1"]


def test_files_are_carried_where_none_are_shared(finished, site):
    """Jobs run as nobody here, who may not enter the clone: what they read and write was carried."""
    pool, folder = site
    clone = checkout(folder / "carried")
    profile = clone / "workflow/profiles/htcondor/transfer/config.yaml"
    text = profile.read_text()
    assert "THALWEG_PYTHON=python3'" in text
    profile.write_text(text.replace("THALWEG_PYTHON=python3'", f"THALWEG_PYTHON={sys.executable}'"))
    command = ("snakemake", "--profile", "htcondor/transfer", *SNAKEMAKE, *QUICK)
    code, text = pool.output(*command, folder=clone)
    assert code == 0, text
    assert results(clone) == results(finished[1])
    assert "epoch " in (clone / "results/miniature/logs/optimise/block_1.log").read_text()
    code, text = pool.output(*command, "-n", folder=clone)
    assert "Nothing to be done" in text


def test_a_removed_job_is_run_again(finished, site):
    pool, folder = site
    clone = folder / "removed"
    shutil.copytree(finished[1], clone, symlinks=True, ignore=shutil.ignore_patterns(".snakemake"))
    for path in (clone, *clone.rglob("*")):
        os.chown(path, htcondor_pool.ORDINARY, htcondor_pool.ORDINARY, follow_symlinks=False)
    shutil.rmtree(clone / "results/miniature/optimise")
    shutil.rmtree(clone / "results/miniature/checkpoints")
    target = ("results/miniature/evaluation.json", "--rerun-triggers", "mtime", "--forcerun", "optimise")
    command = ("snakemake", *target, "--profile", "htcondor", *SNAKEMAKE, *QUICK)
    with subprocess.Popen(
        pool.command(*command, folder=clone), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        removed = running_job(pool, "optimise", run)
        assert pool.output("condor_rm", removed)[0] == 0
        text = run.communicate(timeout=WITHIN)[0]
    assert run.returncode == 0, text
    assert f"HTCondor Cluster ID {removed} was removed/aborted" in text
    assert "Trying to restart job" in text
    assert results(clone) == results(finished[1])
    again = pool.output("condor_history", "-af", "RequestMemory", "JobBatchName")[1].splitlines()
    assert any(line.startswith("10000 optimise-") for line in again)  # twice the memory of the first try


def running_job(pool, rule, run):
    """The cluster number of a rule's job, once it runs, while snakemake does."""
    for _ in range(WITHIN):
        assert run.poll() is None, run.stdout.read()
        text = pool.output("condor_q", "-af", "ClusterId", "JobStatus", "JobBatchName")[1]
        for line in text.splitlines():
            number, status, name = line.split()
            if status == "2" and name.startswith(f"{rule}-"):
                return number
        time.sleep(1)
    raise AssertionError(f"no job of rule {rule} ran within {WITHIN} s: {text}")


DASK = """
import subprocess, sys
from dask_jobqueue import HTCondorCluster
from distributed import Client
from distributed.security import Security

if __name__ == "__main__":
    cluster = HTCondorCluster(
        cores=1, processes=1, memory="1 GiB", disk="1 GiB", interface="lo", python=sys.executable,
        job_extra_directives={"getenv": "True"}, security=Security.temporary(), shared_temp_directory=".",
        scheduler_options={"host": "127.0.0.1", "dashboard_address": None},
    )
    with cluster, Client(cluster) as client:
        cluster.adapt(minimum=2, maximum=2)
        client.wait_for_workers(2, timeout=300)
        before = set(client.nthreads())
        numbers = client.map(pow, range(1000), [2] * 1000)
        job = subprocess.check_output(["condor_q", "-af", "ClusterId"], text=True).split()[0]
        subprocess.run(["condor_rm", job], check=True)
        while before <= set(client.nthreads()):
            pass
        client.wait_for_workers(2, timeout=300)
        assert sum(client.gather(numbers)) == sum(n**2 for n in range(1000))
        assert all(address.startswith("tls://") for address in client.nthreads())
        print("came back:", len(set(client.nthreads()) - before), flush=True)
"""


def test_a_lost_worker_comes_back(site):
    pool, folder = site
    place = folder / "dask"
    place.mkdir()
    (place / "lost.py").write_text(DASK)
    os.chown(place, htcondor_pool.ORDINARY, htcondor_pool.ORDINARY)
    code, text = pool.output("timeout", str(WITHIN), sys.executable, "lost.py", folder=place)
    assert code == 0, text
    assert "came back: 1" in text
    assert pool.output("condor_q", "-af", "ClusterId")[1].strip() == ""


def test_epochs_on_workers_that_are_jobs(site):
    """The state after six epochs, on workers of the pool and in one process."""
    pool, folder = site
    clone = checkout(folder / "epochs")
    write_run(clone, files=3, optimise={"epochs": 6, "epochs_per_job": 6, "learning_rate": 0.02})
    for path in clone.iterdir():
        os.chown(path, htcondor_pool.ORDINARY, htcondor_pool.ORDINARY, follow_symlinks=False)
    block = "results/tiny/optimise/block_1.npz"
    states = []
    for settings in ("in_process", "htcondor,cluster.workers=2,cluster.interface=lo,cluster.memory_mb=1500"):
        shutil.rmtree(clone / "results/tiny/optimise", ignore_errors=True)
        shutil.rmtree(clone / "results/tiny/checkpoints", ignore_errors=True)
        command = (sys.executable, "-m", "snakemake", block, "--cores", "1", "--configfile", "tiny.yaml")
        overrides = f"set=[cluster.group_events=50,cluster.executor={settings}]"
        code, text = pool.output(*command, "--config", overrides, folder=clone)
        assert code == 0, text
        leaves, header = store.read_state(clone / block)
        assert len(header["records"]) == 6
        states.append({name: array.tobytes() for name, array in leaves.items()})
    assert states[0] == states[1]
    assert "660 events in 6 groups on " in (clone / "results/tiny/logs/optimise/block_1.log").read_text()
    assert not list((clone / "results/tiny/certificates").iterdir())
    assert pool.output("condor_q", "-af", "ClusterId")[1].strip() == ""
