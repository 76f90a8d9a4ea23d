"""What every worker process is, wherever it was started; and those of this machine."""

import contextlib
import hashlib
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import jax
from distributed import Client, Nanny, Scheduler, SpecCluster, WorkerPlugin
from distributed.comm.core import CommClosedError
from distributed.system import MEMORY_LIMIT

from pipeline import chunks
from pipeline.config import Cluster
from pipeline.errors import ClusterError, ConfigError
from pipeline.runtime import environment

# Dask makes its workers return freed memory at once. A sweep's arrays would then be mapped anew, and zeroed by the
# kernel, at every call, and sweeps take twice as long (docs/benchmarks.md). This much is kept.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "1073741824", "MALLOC_MMAP_THRESHOLD_": "1073741824"}
DASK = {
    "distributed.nanny.pre-spawn-environ": KEEP_MEMORY,  # the C library reads it when a process starts
    "distributed.scheduler.allowed-failures": 10,  # workers that may die under one task before it is given up
    "distributed.scheduler.worker-ttl": None,  # compiling may keep a worker from its heartbeat for minutes
    # What Dask remembers of the past, for dashboards, grows with the epochs.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.low-level-log-length": 100,
    "distributed.admin.system-monitor.log-length": 100,
}
BATCH_MEMORY_MB = 4000
EVENTS_SHARE = (
    0.5  # of a worker's memory; the other half is for compiling, compiled programs, and their arrays
)
GPU_MEMORY_FRACTION = "0.75"
WORTH_KEEPING = 0.3  # seconds of compilation
SET_UP_AGAIN = 5  # times, a second apart


class Worker(WorkerPlugin):
    """Sets up every worker, also those that join later: float64, programs that are kept, a limit on events kept."""

    name = "thalweg"

    def __init__(self, budget: float, scratch: Path | None, programs: Path) -> None:
        self._budget, self._scratch, self._programs = budget, scratch, programs

    def setup(self, worker: Any) -> None:
        """Called by Dask in the worker's process."""
        del worker
        jax.config.update("jax_enable_x64", True)
        keep_programs(self._programs)
        chunks.keep(min(self._budget, _on_device()), self._scratch)


def set_up(client: Client, plugin: Worker) -> None:
    """Set up all workers, and those to come; once more where one is lost in that very moment, which Dask takes ill."""
    for _ in range(SET_UP_AGAIN):
        with contextlib.suppress(CommClosedError):
            client.register_plugin(plugin)
            return
        time.sleep(1.0)
    client.register_plugin(plugin)


def keep_programs(folder: Path) -> None:
    """Let JAX keep compiled programs in a folder, unless the user has chosen one: every process and job needs the same.

    Those of one kind of processor, by its name and instruction sets, do not mix with those of another.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        kind = hashlib.sha256("".join(_processor()).encode()).hexdigest()[:12]
        jax.config.update("jax_compilation_cache_dir", str(folder.absolute() / kind))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)


def _processor() -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return [platform.machine(), platform.processor()]
    return sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})


def _on_device() -> float:
    """Bytes of events that fit on a GPU; no limit of its own for a processor."""
    statistics = jax.devices()[0].memory_stats() if jax.default_backend() == "gpu" else None
    return EVENTS_SHARE * statistics["bytes_limit"] if statistics else math.inf


def memory_mb(cluster: Cluster) -> int:
    """Memory that a batch worker asks for."""
    return cluster.memory_mb or BATCH_MEMORY_MB


def budget(cluster: Cluster, workers: int, given_mb: int | None) -> float:
    """Bytes of events that a worker keeps in memory.

    Arguments:
        workers: those that share this machine, or the `given_mb` of it.
    """
    if cluster.memory_mb is None and cluster.executor in ("in_process", "local"):
        return EVENTS_SHARE * min(MEMORY_LIMIT, (given_mb or math.inf) * 2**20) / workers
    return EVENTS_SHARE * memory_mb(cluster) * 2**20


def worker_environment(cluster: Cluster) -> dict[str, str]:
    """Environment variables of a worker process."""
    found = {**environment(), **KEEP_MEMORY}
    if cluster.device == "gpu":
        deterministic = f"{found.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
        found |= {"XLA_FLAGS": deterministic, "XLA_PYTHON_CLIENT_MEM_FRACTION": GPU_MEMORY_FRACTION}
    return found


def local(cluster: Cluster, workers: int) -> SpecCluster:
    """Processes of this machine: `workers` of them, or one per GPU. Lost ones are started again.

    Everything listens on the loopback interface alone.
    """
    devices: list[dict[str, str]] = [{}] * workers
    if cluster.device == "gpu":
        devices = [{"CUDA_VISIBLE_DEVICES": device} for device in _devices()]
    spec = {
        number: {"cls": Nanny, "options": _options({**worker_environment(cluster), **device})}
        for number, device in enumerate(devices)
    }
    options = {"host": "127.0.0.1", "port": cluster.port, "dashboard_address": "127.0.0.1:0"}
    try:
        made = SpecCluster(
            workers=spec,
            worker=spec[0],  # what `adapt` would add
            scheduler={"cls": Scheduler, "options": options},
            silence_logs="ERROR",
        )
    except (OSError, RuntimeError) as error:
        raise ClusterError(
            f"no scheduler can be started at port {cluster.port} of 127.0.0.1: {error}; is the port taken? "
            "cluster.port=0 takes any free one"
        ) from error
    made.adapt(minimum=len(spec), maximum=len(spec))
    return made


def _options(variables: dict[str, str]) -> dict[str, Any]:
    return {"nthreads": 1, "memory_limit": 0, "host": "127.0.0.1", "env": variables, "silence_logs": "ERROR"}


def _devices() -> list[str]:
    """The GPUs this process may use: those the batch system gave it, else all of the machine."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        found = [device for device in given.split(",") if device]
    else:
        found = [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
    if not found:
        raise ConfigError(
            "cluster.device is 'gpu' but there is none: CUDA_VISIBLE_DEVICES is empty or there is no /dev/nvidia0; ask "
            "the batch system for one, or set cluster.device to 'cpu'"
        )
    return found
