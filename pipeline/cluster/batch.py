"""Workers on a batch system: jobs of their own (Slurm, HTCondor), or the tasks of the Slurm job this runs in.

Connections are encrypted: a batch system's machines are shared with others.
"""

import contextlib
import importlib
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from distributed import Client, SpecCluster
from distributed.deploy.adaptive import Adaptive

from pipeline.cluster.security import given_or_made, private_folder, shared
from pipeline.cluster.settings import EXTENSIONS
from pipeline.cluster.workers import memory_mb, worker_environment
from pipeline.config import Cluster
from pipeline.errors import ClusterError, ConfigError

SERVING_TASKS = 2  # of an allocation: the scheduler, and the process that goes on
UNSEEN = {"dashboard_address": "127.0.0.1:0"}  # Dask's web pages know no encryption
IDLE_ROUNDS = 60  # seconds without work before a worker beyond the minimum is given back


class WhileThereIsWork(Adaptive):
    """As many workers as may be while a sweep runs: for Dask it is one task, which it would give to one worker."""

    async def target(self) -> int:
        """Return how many workers there should be; Dask asks every second."""
        made: Any = self.cluster
        states = made.scheduler.workers.values()
        busy = made.scheduler.unrunnable or any(state.processing for state in states)
        return int(self.maximum if busy else self.minimum)


def slurm(cluster: Cluster, folder: Path) -> SpecCluster:
    """Return workers that are Slurm jobs, in partition and account of the job this runs in unless told otherwise."""
    job, inherited = cluster.job, os.environ
    gpu = ["--gres=gpu:1"] if cluster.device == "gpu" else []
    return _started(
        cluster,
        _jobqueue("slurm").SLURMCluster,
        folder,
        queue=job.partition or inherited.get("SLURM_JOB_PARTITION"),
        account=job.account or inherited.get("SLURM_JOB_ACCOUNT"),
        walltime=f"{job.walltime_minutes // 60:02d}:{job.walltime_minutes % 60:02d}:00",
        job_extra_directives=[*gpu, *job.options],
    )


def htcondor(cluster: Cluster, folder: Path) -> SpecCluster:
    """Return workers that are HTCondor jobs."""
    job = cluster.job
    account = {"accounting_group": job.account} if job.account else {}
    gpu = {"request_gpus": "1"} if cluster.device == "gpu" else {}
    lines = {name.strip(): text.strip() for name, _, text in (line.partition("=") for line in job.options)}
    return _started(
        cluster,
        _jobqueue("htcondor").HTCondorCluster,
        folder,
        disk=f"{job.disk_mb} MB",
        job_extra_directives={
            "getenv": "true",
            "allowed_job_duration": str(60 * job.walltime_minutes),
            **account,
            **gpu,
            **lines,
        },
    )


def _started(
    cluster: Cluster, start: Callable[..., SpecCluster], folder: Path, **options: object
) -> SpecCluster:
    """Return a cluster of jobs; as many as asked for, lost ones replaced."""
    logs, certificates = folder / "logs" / "workers", folder / "certificates"
    logs.mkdir(parents=True, exist_ok=True)
    private_folder(certificates)
    exports = [f"export {name}={shlex.quote(text)}" for name, text in worker_environment(cluster).items()]
    try:
        made = start(
            cores=1,
            processes=1,
            memory=f"{memory_mb(cluster)} MiB",
            worker_extra_args=["--memory-limit", "0", "--dashboard-address", UNSEEN["dashboard_address"]],
            job_script_prologue=exports,
            log_directory=str(logs.absolute()),
            shared_temp_directory=str(certificates.absolute()),
            security=given_or_made(cluster.tls),
            protocol="tls://",
            interface=cluster.interface,
            scheduler_options={"port": cluster.port, "extensions": EXTENSIONS, **UNSEEN},
            **options,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"cluster.executor {cluster.executor!r}: {error}") from error
    made.adapt(
        Adaptive=WhileThereIsWork,
        minimum=cluster.workers,
        maximum=cluster.max_workers or cluster.workers,
        wait_count=IDLE_ROUNDS,
    )
    return made


@contextlib.contextmanager
def allocation(cluster: Cluster, folder: Path) -> Iterator[Client]:
    """Connect to the workers, which are the other tasks of this job step; only one task comes back.

    The first task becomes the scheduler, the second goes on, the others are workers until it is done.
    """
    tasks, place = _tasks(cluster)
    folder.mkdir(parents=True, exist_ok=True)
    security = shared(cluster.tls, folder / f".tls_{place}.json", make=os.environ["SLURM_PROCID"] == "0")
    network = {"interface": cluster.interface, "security": security, "protocol": "tls://", **UNSEEN}
    files = [folder / f".tls_{place}.json", folder / f".scheduler_{place}.json"]
    logging.getLogger("distributed").setLevel(logging.ERROR)
    start = _jobqueue("slurm").SLURMRunner
    # The runner ends the processes that do not come back from here by SIGINT.
    interrupt = signal.signal(signal.SIGINT, lambda number, frame: sys.exit(0))
    runner = start(
        scheduler_file=str(files[1].absolute()),
        scheduler_options={**network, "port": cluster.port, "extensions": EXTENSIONS},
        worker_class="distributed.Nanny",
        worker_options={**network, "nthreads": 1, "memory_limit": 0, "env": worker_environment(cluster)},
    )
    signal.signal(signal.SIGINT, interrupt)
    # It would end the scheduler without certificates; the client does so with them.
    runner.scheduler_comm = None
    with Client(runner.scheduler_address, security=security) as client:
        try:
            client.wait_for_workers(tasks - SERVING_TASKS, timeout=60 * cluster.wait_minutes)
            yield client
        finally:
            for path in files:
                path.unlink(missing_ok=True)
            client.shutdown()


def _tasks(cluster: Cluster) -> tuple[int, str]:
    """Return the number of tasks of this job step, and a name for it."""
    try:
        tasks = int(os.environ["SLURM_NTASKS"])
        place = f"{os.environ['SLURM_JOB_ID']}_{os.environ['SLURM_STEP_ID']}"
    except KeyError as error:
        raise ConfigError(
            f"cluster.executor {cluster.executor!r} runs inside a Slurm job step ({error.args[0]} is not set): "
            "`snakemake --profile slurm` starts one, or `srun --ntasks=N`; elsewhere choose another executor"
        ) from None
    if tasks <= SERVING_TASKS:
        raise ConfigError(
            f"cluster.executor {cluster.executor!r} needs {SERVING_TASKS} tasks and one for each worker, this job step "
            f"has {tasks}; raise cluster.workers, or srun's --ntasks"
        )
    return tasks, place


def _jobqueue(extra: str) -> ModuleType:
    """Return dask-jobqueue, which only these executors need, and which takes over Ctrl-C when it is imported."""
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        return importlib.import_module(f"dask_jobqueue.{extra}")
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; pip install thalweg[{extra}]") from error
    finally:
        signal.signal(signal.SIGINT, interrupt)
