"""Where sweeps run: in this process, on a local Dask cluster, or on a scheduler that is running already.

Workers are spawned processes with one JAX runtime and one thread each; NumPy crosses the wire. One task per worker
and sweep. A worker keeps the columns it has read; when it dies another reads them again.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dask
import jax
from distributed import Client, LocalCluster, WorkerPlugin
from distributed.client import Future

from pipeline.config import Cluster
from pipeline.errors import ConfigError
from pipeline.gradient import Executor
from pipeline.runtime import environment

# Dask makes its workers return freed memory at once. A sweep's arrays would then be mapped anew, and zeroed by the
# kernel, at every call: sweeps take more than twice as long (tests/benchmarks/epoch.py). This much is kept.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "1073741824", "MALLOC_MMAP_THRESHOLD_": "1073741824"}
WORKERS_RETURN_WITHIN = 120  # seconds; a nanny restarts a lost worker in a few


class InProcess:
    """Everything in this process, one item after the other."""

    workers = 1  # this process

    def map(self, function: Callable[..., Any], items: Sequence[Any], *broadcast: Any) -> list[Any]:
        """`[function(item, *broadcast) for item in items]`."""
        return [function(item, *broadcast) for item in items]


class Distributed:
    """Workers of a Dask scheduler; consecutive items go to the same worker in every sweep."""

    def __init__(self, client: Client) -> None:
        self._client = client
        client.register_plugin(_Float64())

    @property
    def workers(self) -> int:
        """Workers at this moment."""
        return len(self._addresses())

    def map(self, function: Callable[..., Any], items: Sequence[Any], *broadcast: Any) -> list[Any]:
        """`[function(item, *broadcast) for item in items]`, one task per worker."""
        addresses = self._addresses()
        shared = self._client.scatter(broadcast, broadcast=True, hash=False) if broadcast else ()
        futures = [
            self._submit(function, batch, shared, address)
            for address, batch in zip(addresses, _batches(items, len(addresses)), strict=True)
            if batch
        ]
        return [result for results in self._client.gather(futures) for result in results]

    def _submit(
        self, function: Callable[..., Any], batch: Sequence[Any], shared: Any, address: str
    ) -> Future[list[Any]]:
        return self._client.submit(
            _run, function, batch, *shared, workers=[address], allow_other_workers=True, pure=False
        )

    def _addresses(self) -> list[str]:
        """Workers that are there now, or the first to come back where all were lost.

        Asked of the scheduler directly: `Client.scheduler_info` may return what a periodic callback has just replaced.
        """
        if not self._client.nthreads():
            self._client.wait_for_workers(1, timeout=WORKERS_RETURN_WITHIN)
        return sorted(self._client.nthreads())


class _Float64(WorkerPlugin):
    """Switches float64 on in every worker, also in those that join later."""

    name = "thalweg-float64"

    def setup(self, worker: Any) -> None:
        del worker
        jax.config.update("jax_enable_x64", True)


@contextlib.contextmanager
def executor(cluster: Cluster, workers: int) -> Iterator[Executor]:
    """The executor of a configuration with `workers` processes, shut down at the end."""
    if cluster.executor == "in_process":
        yield InProcess()
    elif cluster.executor == "local":
        with _local(workers) as local, Client(local) as client:
            yield Distributed(client)
    else:
        with _running(cluster.address) as client:
            yield Distributed(client)


def _local(workers: int) -> LocalCluster:
    with dask.config.set(
        {"distributed.nanny.pre-spawn-environ": KEEP_MEMORY}
    ):  # the C library reads it at start
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            env=environment(),
            memory_limit=0,
        )


def _running(address: str | None) -> Client:
    if not address:
        raise ConfigError("cluster.executor is 'address' but cluster.address is empty; give tcp://host:port")
    try:
        client = Client(address, timeout="10s")
    except OSError as error:
        raise ConfigError(f"cluster.address {address}: no scheduler answers ({error})") from error
    client.wait_for_workers(1, timeout=WORKERS_RETURN_WITHIN)
    return client


def _batches(items: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """`items` cut into `count` consecutive pieces of equal length, give or take one."""
    bounds = [len(items) * i // count for i in range(count + 1)]
    return [items[a:b] for a, b in itertools.pairwise(bounds)]


def _run(function: Callable[..., Any], batch: Sequence[Any], *broadcast: Any) -> list[Any]:
    return [function(item, *broadcast) for item in batch]
