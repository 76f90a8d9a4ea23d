"""Worker processes: how each is set up, wherever it runs, and those of this machine."""

import contextlib
import errno
import hashlib
import math
import os
import platform
import signal
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
import jax
from distributed import Client, Nanny, Scheduler, SpecCluster, WorkerPlugin
from distributed import Worker as DaskWorker
from distributed.comm.core import CommClosedError
from distributed.system import MEMORY_LIMIT
from distributed.utils import LoopRunner
from tornado.ioloop import IOLoop

from pipeline.cluster.security import given_or_made
from pipeline.cluster.settings import EXTENSIONS, KEEP_MEMORY, quiet
from pipeline.cluster.tree import Member
from pipeline.config import Cluster
from pipeline.errors import ClusterError, ConfigError
from pipeline.gradient.resident import Resident
from pipeline.runtime import environment

BATCH_MEMORY_MB = 4000
# Python's helper process tidies up after one that was killed, and would say so.
NO_WARNING = "ignore::UserWarning:multiprocessing.resource_tracker"
EVENTS_SHARE = (
    0.5  # of a worker's memory; the other half is for compiling, compiled programs, and their arrays
)
GPU_MEMORY_FRACTION = "0.75"
WORTH_KEEPING = 0.3  # seconds of compilation
SET_UP_AGAIN = 5  # times, a second apart


class Worker(WorkerPlugin):
    """Sets up every worker, also those that join later: float64, programs that are kept, a limit on events kept."""

    name = "thalweg"

    def __init__(self, budget: float, scratch: Path | None, programs: Path, *, of_run: bool = True) -> None:
        """Note what each worker is set up with, and whose workers they are.

        With ``of_run`` they are the run's own, whose web pages and reports nobody else wants.
        """
        self._budget, self._scratch, self._programs, self._of_run = budget, scratch, programs, of_run

    def setup(self, worker: DaskWorker) -> None:
        """Set up the worker's process; Dask calls this there."""
        if self._of_run:
            worker.http_server.stop()
            quiet()
        jax.config.update("jax_enable_x64", True)
        keep_programs(self._programs)
        self.resident = Resident(min(self._budget, _on_device()), self._scratch)
        self.member = Member(worker, self.resident)


def resident_of(worker: Any) -> Resident:
    """Return the events that a worker's process holds."""
    resident: Resident = worker.plugins[Worker.name].resident
    return resident


def member_of(worker: Any) -> Member:
    """Return a worker as part of the trees of sums."""
    member: Member = worker.plugins[Worker.name].member
    return member


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
    """Return bytes of events that fit on a GPU; no limit of its own for a processor."""
    statistics = jax.devices()[0].memory_stats() if jax.default_backend() == "gpu" else None
    return EVENTS_SHARE * statistics["bytes_limit"] if statistics else math.inf


def memory_mb(cluster: Cluster) -> int:
    """Return memory that a batch worker asks for."""
    return cluster.memory_mb or BATCH_MEMORY_MB


def budget(cluster: Cluster, workers: int, given_mb: int | None) -> float:
    """Return bytes of events that a worker keeps in memory.

    Args:
        workers: those that share this machine, or the ``given_mb`` of it.
    """
    if cluster.memory_mb is None and cluster.executor in ("in_process", "local"):
        return EVENTS_SHARE * min(MEMORY_LIMIT, (given_mb or math.inf) * 2**20) / workers
    return EVENTS_SHARE * memory_mb(cluster) * 2**20


def worker_environment(cluster: Cluster) -> dict[str, str]:
    """Return environment variables of a worker process."""
    found = {**environment(), **KEEP_MEMORY}
    if cluster.device == "gpu":
        return found | {"XLA_PYTHON_CLIENT_MEM_FRACTION": GPU_MEMORY_FRACTION}
    return found | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def device_of_sweeps(cluster: Cluster) -> jax.Device:
    """Return what sweeps of this very process run on; all else that it computes goes to the processor.

    Raises:
        ConfigError: it is to be a GPU, and JAX has none.
    """
    processor: jax.Device = jax.local_devices(backend="cpu")[0]
    jax.config.update("jax_default_device", processor)
    if cluster.executor != "in_process" or cluster.device == "cpu":
        return processor
    try:
        found: jax.Device = jax.local_devices(backend="gpu")[0]
    except RuntimeError as error:
        raise ConfigError(
            f"cluster.device is 'gpu' but JAX finds none ({error}); install envs/requirements-gpu.txt, or set "
            "cluster.device to 'cpu'"
        ) from error
    return found


@contextlib.contextmanager
def local(cluster: Cluster, workers: int) -> Iterator[SpecCluster]:
    """Start ``workers`` processes on this machine, or one per GPU. Lost ones are started again.

    Everything listens on the loopback interface alone, and talks to who has the key made for this run: other users of
    the machine reach the interface as well. Ctrl-C reaches this process alone, which ends the others.
    """
    devices: list[dict[str, str]] = [{}] * workers
    if cluster.device == "gpu":
        devices = [{"CUDA_VISIBLE_DEVICES": device} for device in _devices()]
    _require_temporary_folder()
    here = {"host": "127.0.0.1", "protocol": "tls://", "security": given_or_made(cluster.tls)}
    spec = {
        number: {"cls": Nanny, "options": _options({**worker_environment(cluster), **device}) | here}
        for number, device in enumerate(devices)
    }
    options = {
        **here,
        "extensions": EXTENSIONS,
        "port": cluster.port,
        "dashboard": False,
        "dashboard_address": "127.0.0.1:0",
    }
    with _loop_without_ctrl_c() as loop:
        try:
            made = SpecCluster(
                workers=spec,
                worker=spec[0],  # what `adapt` would add
                scheduler={"cls": Scheduler, "options": options},
                security=here["security"],
                loop=loop,
            )
        except (OSError, RuntimeError) as error:
            raise _not_started(cluster.port, error) from error
        with made:
            loop.add_callback(_without_web_pages, made)
            made.adapt(minimum=len(spec), maximum=len(spec))
            yield made


def _without_web_pages(made: Any) -> None:
    made.scheduler.http_server.stop()


def _not_started(port: int, error: BaseException) -> ClusterError:
    """Return the error that names the system's reason, as Dask wraps it; another port cures just a taken port."""
    reasons: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        reasons.append(cause)
        cause = cause.__cause__ or cause.__context__
    refused = next((e for e in reversed(reasons) if isinstance(e, OSError) and e.errno is not None), None)
    if refused is not None and refused.errno == errno.EADDRINUSE:
        return ClusterError(
            f"no scheduler can be started at port {port} of 127.0.0.1: {refused.strerror}; the port is taken, "
            "cluster.port=0 takes any free one"
        )
    if refused is not None:
        place = "" if refused.filename is None else f" ({refused.filename})"
        why = f"{refused.strerror}{place}"
    else:
        why = str(error)
    return ClusterError(
        f"no workers can be started on this machine: {why}; cluster.executor=in_process does without them"
    )


def _require_temporary_folder() -> None:
    """Require a folder for Dask's workers and the keys of the run, whose own errors would not name it.

    Raises:
        ClusterError: nothing can be written there.
    """
    folder = dask.config.get("temporary-directory", None)
    try:
        folder = folder or tempfile.gettempdir()
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        raise ClusterError(
            f"the temporary folder {folder or 'of this machine'} cannot be written: {error.strerror}; free space "
            "there, or name another one by TMPDIR (or DASK_TEMPORARY_DIRECTORY, where that is set)"
        ) from error


@contextlib.contextmanager
def _loop_without_ctrl_c() -> Iterator[IOLoop]:
    """Run Dask's event loop in a thread: neither it nor the workers that it starts see a terminal's signals.

    A thread or process begins with the mask of who began it.
    """
    runner = LoopRunner()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        # Begun by the loop, Python 3.11 would unmask the loop's signals for good.
        with _environment(PYTHONWARNINGS=NO_WARNING):
            resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        runner.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield runner.loop
    finally:
        runner.stop()


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set variables for processes that begin meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, text in before.items():
            if text is None:
                del os.environ[name]
            else:
                os.environ[name] = text


def _options(variables: dict[str, str]) -> dict[str, object]:
    return {"nthreads": 1, "memory_limit": 0, "env": variables, "silence_logs": "CRITICAL"}


def _devices() -> list[str]:
    """Return the GPUs this process may use: those the batch system gave it, else all of the machine."""
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
