"""The workflow on a real Slurm: the same bits as on one machine, also after a cancelled job and a wall time hit."""

import os
import shutil
import subprocess
import sys
import time

import clones
import pytest
from rootfiles import write_run

import slurm
from pipeline.data import store

pytestmark = [pytest.mark.workflow, pytest.mark.dask, pytest.mark.slurm, pytest.mark.slow]

MANY = 300  # epochs: a job is disturbed after 100 of them
LONG = (f"optimise.epochs={MANY}", f"optimise.epochs_per_job={MANY}")


@pytest.fixture(scope="module")
def pool():
    """A Slurm of our own."""
    if reason := slurm.missing():
        pytest.skip(reason)
    with slurm.running() as logs:
        yield logs


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The repository as a user has it, with a tiny run in it."""
    folder = clones.clone(tmp_path_factory.mktemp("slurm"))
    write_run(folder, files=3, optimise={"epochs": 6, "epochs_per_job": 6, "learning_rate": 0.02})
    return folder


def snakemake(folder, *arguments, config="tiny.yaml", settings=(), profile="slurm"):
    """Start snakemake; its output goes to a file that `finished` shows where it fails."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--configfile", config]
    command += [
        "--config",
        f"set=[{','.join(['cluster.group_events=50', 'cluster.wait_minutes=2', *settings])}]",
    ]
    where = ["--profile", "slurm", "--slurm-init-seconds-before-status-checks", "1"]
    command += where if profile else ["--cores", "1"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    with (folder / "snakemake.log").open("w") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)


def finished(process, folder):
    """The output of a run that must end well."""
    code = process.wait(timeout=900)
    output = (folder / "snakemake.log").read_text()
    logs = "".join(f"\n{p}:\n{p.read_text()[-3000:]}" for p in (folder / "results").rglob("*.log"))
    assert code == 0, output + logs
    return output


BLOCK = "results/tiny/optimise/block_1.npz"


def optimised(folder, *arguments, settings=(), meanwhile=None, profile="slurm"):
    """Run the epochs anew: final state and records, and what the job's log says."""
    for name in ("optimise", "checkpoints", "logs/optimise"):
        shutil.rmtree(folder / "results" / "tiny" / name, ignore_errors=True)
    process = snakemake(folder, BLOCK, *arguments, settings=settings, profile=profile)
    if meanwhile is not None:
        meanwhile()
    finished(process, folder)
    leaves, header = store.read_state(folder / BLOCK)
    return (
        {name: a.tobytes() for name, a in leaves.items()},
        header["records"],
        (folder / "results/tiny/logs/optimise/block_1.log").read_text(),
    )


@pytest.fixture(scope="module")
def expected(clone):
    """The state on this machine alone, everything in one process."""
    return optimised(clone, profile=None)[0]


def running_job(rule):
    """The number of the running job of a rule."""
    for _ in range(600):
        found = [
            n for n, state, comment, _ in slurm.jobs() if state == "RUNNING" and comment.startswith(rule)
        ]
        if found:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"no job of rule {rule} has started: {slurm.jobs()}")


def running_epochs(folder, seconds=120):
    """The number of the job of the epochs, once it has written a checkpoint."""
    checkpoints = folder / "results/tiny/checkpoints"
    for _ in range(10 * seconds):
        if any(path.stem >= "epoch_000100" for path in checkpoints.glob("epoch_*.npz")):
            return running_job("rule_optimise")
        time.sleep(0.1)
    raise AssertionError(f"no checkpoint of epoch 100 in {checkpoints} after {seconds} s")


@pytest.mark.parametrize("number", ["cluster.workers=2", "cluster.workers=1 cluster.max_workers=2"])
def test_workers_that_are_jobs(clone, expected, pool, number):
    """As many as are asked for from the beginning; or one, and another one as soon as there is work."""
    before = {number for number, *_ in slurm.jobs()}
    settings = [
        "cluster.executor=slurm",
        *number.split(),
        "cluster.interface=lo",
        "cluster.memory_mb=2000",
    ]
    state, *_ = optimised(clone, settings=settings)
    assert state == expected
    names = [name for number, *_, name in slurm.jobs() if number not in before]
    assert names.count("dask-worker") >= 2
    assert not list((clone / "results/tiny/certificates").iterdir())


def test_workers_that_are_tasks_of_one_job(clone, expected, pool):
    settings = ["cluster.executor=slurm_allocation", "cluster.workers=2", "cluster.interface=lo"]
    state, _, log = optimised(clone, settings=[*settings, "cluster.memory_mb=1500"])
    assert state == expected
    assert "on 2 workers" in log
    assert log.count("epoch ") == 6  # one task speaks
    assert not list((clone / "results/tiny").glob(".*_*.json"))


def test_gpus_arrive(clone, expected, pool):
    """Pretended ones: Slurm gives two, each gets a worker, which computes on the processor here."""
    state, *_, log = optimised(
        clone,
        *("--set-resources", "optimise:gpu=2", "--max-threads", "1"),
        settings=["cluster.executor=local", "cluster.device=gpu"],
    )
    assert "on 2 workers" in log
    assert state == expected


@pytest.fixture(scope="module")
def undisturbed(clone):
    """The state after many epochs in one process."""
    return optimised(clone, settings=["cluster.executor=in_process", *LONG], profile=None)[0]


def test_a_cancelled_job_is_tried_again_from_its_last_epoch(clone, undisturbed, pool):
    def cancel():
        subprocess.run(["scancel", running_epochs(clone)], check=True)

    settings = ["cluster.executor=local", *LONG]
    state, records, log = optimised(clone, "--max-threads", "1", settings=settings, meanwhile=cancel)
    assert [record["epoch"] for record in records] == list(range(MANY))
    assert "epoch     0 " not in log
    assert state == undisturbed


def test_a_job_that_hangs_until_its_wall_time_is_tried_again(clone, undisturbed, pool):
    def hang():
        slurm.stop_processes(running_epochs(clone))

    settings = ["cluster.executor=local", *LONG]
    limit = "optimise:runtime=1 if attempt == 1 else 60"
    arguments = ["--max-threads", "1", "--set-resources", limit, "--retries", "1"]
    state, _, log = optimised(clone, *arguments, settings=settings, meanwhile=hang)
    assert "epoch     0 " not in log
    assert state == undisturbed
    assert "TIMEOUT" in [how for _, how, comment, _ in slurm.jobs() if comment.startswith("rule_optimise")]


def test_a_run_from_beginning_to_end(clone, pool):
    """Every rule as a job."""
    settings = ["cluster.executor=in_process"]  # workers are the business of the tests above
    shutil.rmtree(clone / "results")
    finished(snakemake(clone, settings=settings), clone)
    results = clone / "results" / "tiny"
    assert "asimov" in (results / "report.html").read_text().lower()
    assert len(list((results / "checkpoints").glob("epoch_*.npz"))) == 2
    assert not list(results.rglob("*.tmp"))
