"""What Dask is told: how to treat memory, what to forget, when to be quiet."""

import contextlib
import logging

from distributed.scheduler import DEFAULT_EXTENSIONS

# Dask makes its workers return freed memory at once. A sweep's arrays would then be mapped anew, and zeroed by the
# kernel, at every call, and sweeps take twice as long (docs/benchmarks.md). This much is kept.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "1073741824", "MALLOC_MMAP_THRESHOLD_": "1073741824"}
DASK = {
    "distributed.nanny.pre-spawn-environ": KEEP_MEMORY,  # the C library reads it when a process starts
    "distributed.scheduler.http.routes": [],  # web pages know no password
    "distributed.worker.http.routes": [],
    "distributed.scheduler.allowed-failures": 10,  # workers that may die under one task before it is given up
    "distributed.scheduler.worker-ttl": None,  # compiling may keep a worker from its heartbeat for minutes
    # What Dask remembers of the past, for dashboards, grows with the epochs.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.low-level-log-length": 100,
    "distributed.admin.system-monitor.log-length": 100,
}


class NoSpans:
    """In place of Dask's record of spans of time: it begins one with every sweep, and counts each for ever."""

    def __init__(self, scheduler: object) -> None:
        del scheduler

    def observe_tasks(self, tasks: object, code: object, span_metadata: object) -> dict[str, object]:
        """Return no span for new tasks; Dask's scheduler calls this."""
        del tasks, code, span_metadata
        return {}

    def heartbeat(self, worker: object, seconds: object) -> None:
        """Ignore the report of a worker; Dask's scheduler calls this."""
        del worker, seconds


EXTENSIONS = {**DEFAULT_EXTENSIONS, "spans": NoSpans}  # of a scheduler in this process


def quiet() -> contextlib.ExitStack:
    """Silence Dask's own reports, with their tracebacks, of what is lost or closed.

    The run learns of it by an error instead. As a context, the silence lasts until its end; else for good.
    """
    back = contextlib.ExitStack()
    for name in ("distributed", "tornado.application", "tornado.general", "asyncio"):
        logger = logging.getLogger(name)
        back.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)
    return back
