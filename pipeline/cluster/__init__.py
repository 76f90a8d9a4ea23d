"""Where sweeps run: in this process, on this machine's cores or GPUs, on a batch system, on a running scheduler.

Workers are processes with one JAX runtime and one thread each; NumPy crosses the wire. Whichever workers there are,
and however many come and go, the sums are the same (``pipeline.gradient``).
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import dask
from distributed import Client

from pipeline.cluster.batch import allocation, htcondor, slurm
from pipeline.cluster.security import given, unprotected
from pipeline.cluster.settings import DASK, quiet
from pipeline.cluster.sweeping import Distributed, InProcess, explained
from pipeline.cluster.workers import Worker, budget, device_of_sweeps, keep_programs, local, set_up
from pipeline.config import Cluster
from pipeline.errors import ClusterError, ConfigError
from pipeline.gradient.resident import Resident
from pipeline.gradient.sweeps import Executor

__all__ = ["Distributed", "InProcess", "executor", "quiet", "unprotected"]


@contextlib.contextmanager
def executor(
    cluster: Cluster, workers: int, folder: Path, memory_mb: int | None = None
) -> Iterator[Executor]:
    """Start the executor of a configuration, and shut it down at the end.

    Args:
        workers: processes of this machine, for ``local``.
        memory_mb: of this machine that they may use together; None: all of it.
        folder: for what the run's processes share: compiled programs, logs and certificates of batch workers.
    """
    scratch = Path(cluster.scratch) if cluster.scratch else None
    if scratch and not scratch.is_dir():
        raise ConfigError(f"cluster.scratch {scratch} is no folder; create it, or choose another one")
    programs = folder / "programs"
    keep_programs(programs)
    device, alone = device_of_sweeps(cluster), cluster.executor == "in_process"
    bytes_of_events = budget(cluster, 1 if alone else workers, memory_mb)
    if alone:
        yield InProcess(Resident(bytes_of_events, scratch), device)
        return
    with quiet(), dask.config.set(DASK), _client(cluster, workers, folder) as client:
        with explained():
            own = cluster.executor != "address"
            set_up(client, Worker(bytes_of_events, scratch, programs, of_run=own))
        yield Distributed(client, wait=60.0 * cluster.wait_minutes)


@contextlib.contextmanager
def _client(cluster: Cluster, workers: int, folder: Path) -> Iterator[Client]:
    """Connect to the chosen scheduler."""
    if cluster.executor == "address":
        with _running(cluster) as client:
            yield client
    elif cluster.executor == "slurm_allocation":
        with allocation(cluster, folder) as client:
            yield client
    else:
        batch = {"slurm": slurm, "htcondor": htcondor}.get(cluster.executor)
        with batch(cluster, folder) if batch else local(cluster, workers) as made, Client(made) as client:
            yield client


def _running(cluster: Cluster) -> Client:
    try:
        return Client(cluster.address, security=given(cluster.tls), timeout="10s")
    except (OSError, ValueError, TypeError) as error:
        raise ClusterError(
            f"cluster.address {cluster.address}: no scheduler answers ({error}); start one with `dask scheduler`, and "
            "give cluster.tls where the address begins with tls://"
        ) from error
