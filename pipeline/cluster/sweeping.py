"""Sweeps in this process, or on the workers of a Dask scheduler: one task per worker, which takes all its groups."""

import contextlib
import functools
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any, TypeVar

import jax
import numpy as np
from dask.utils import key_split
from distributed import Client, KilledWorker, get_worker
from distributed.client import Future
from distributed.exceptions import WorkerStartTimeoutError

from pipeline.cluster.assignment import Owners, assign
from pipeline.cluster.workers import resident_of
from pipeline.errors import ClusterError
from pipeline.gradient.accumulator import arrays_of, union
from pipeline.gradient.resident import Resident
from pipeline.gradient.sweeps import NamedSums
from pipeline.gradient.work import Work

Found = TypeVar("Found")
FAN_IN = 16  # sums that one task adds up


class InProcess:
    """Everything in this process, one group after the other."""

    workers = 1  # this process

    def __init__(self, resident: Resident | None = None, device: jax.Device | None = None) -> None:
        """Hold events; by default as many as it is asked for, in memory. Sweeps run on the device, or JAX's own."""
        self._resident, self._device = resident or Resident(), device

    def sweep(self, function: Callable[..., Found], work: Work, *broadcast: object) -> list[Found]:
        """Return ``[function(resident, group, work, *broadcast) for group in work.groups]``."""
        with jax.default_device(self._device):
            return [function(self._resident, group, work, *broadcast) for group in work.groups]

    def total(
        self, function: Callable[..., NamedSums], work: Work, *broadcast: object, precision: str = "float64"
    ) -> dict[Any, np.ndarray]:
        """Return the arrays of ``function(resident, work.groups, work, *broadcast)``, sums by name."""
        with jax.default_device(self._device):
            return arrays_of(function(self._resident, work.groups, work, *broadcast), precision)


class Distributed:
    """The workers of a Dask scheduler, however many there are at the start of each sweep.

    A group stays with its worker from sweep to sweep. What all workers need is made by tasks, so that the scheduler
    makes it again where every worker that had it is lost.

    Args:
        wait: seconds that a sweep waits for its first worker.
    """

    def __init__(self, client: Client, wait: float) -> None:
        self._client, self._wait = client, wait
        self._work: tuple[Work, Future[Work]] | None = None
        self._owners: Owners = {}
        # When the scheduler has no task of a name any more, it begins a new record of them, and keeps all records.
        self._anchors = [
            client.submit(_as_it_is, None, key=f"{function.__name__}-{uuid.uuid4().hex}")
            for function in (_as_it_is, _each, _part, _together, _arrays)
        ]

    @property
    def workers(self) -> int:
        """Workers at this moment."""
        with explained():
            return len(self._addresses())

    def sweep(self, function: Callable[..., Found], work: Work, *broadcast: object) -> list[Found]:
        """Return ``[function(resident, group, work, *broadcast) for group in work.groups]``, one task per worker."""
        with explained():
            shares, futures = self._begun(_each, function, work, broadcast)
            results: list[list[Found]] = self._client.gather(futures)
        key_split.cache_clear()
        found = {
            group: result
            for groups, own in zip(shares, results, strict=True)
            for group, result in zip(groups, own, strict=True)
        }
        return [found[group] for group in range(len(work.groups))]

    def total(
        self, function: Callable[..., NamedSums], work: Work, *broadcast: object, precision: str = "float64"
    ) -> dict[Any, np.ndarray]:
        """Return the arrays of ``function(resident, work.groups, work, *broadcast)``, sums by name.

        Workers are added up on workers, ``FAN_IN`` at a time; what comes here is as large as one of them.
        """
        with explained():
            _, parts = self._begun(_part, function, work, broadcast)
            while len(parts) > FAN_IN:
                parts = [
                    self._client.submit(_together, parts[first : first + FAN_IN], pure=False)
                    for first in range(0, len(parts), FAN_IN)
                ]
            last = self._client.submit(_arrays, parts, precision, pure=False)
            found: dict[Any, np.ndarray] = last.result()
        key_split.cache_clear()
        return found

    def _begun(
        self,
        task: Callable[..., Found],
        function: Callable[..., object],
        work: Work,
        broadcast: tuple[object, ...],
    ) -> tuple[list[Sequence[int]], list[Future[Found]]]:
        """Begin one task per worker; return the groups of each, and what will come."""
        there, shares = self._there(work), self._shares(work)
        shared = self._client.submit(_as_it_is, broadcast, pure=False)
        futures = [
            self._client.submit(
                task, function, there, groups, shared,
                workers=[address], allow_other_workers=True, pure=False,
            )
            for address, groups in shares
        ]  # fmt: skip
        return [groups for _, groups in shares], futures

    def _there(self, work: Work) -> Future[Work]:
        """Return the work on the workers; it travels once, not with every sweep."""
        if self._work is None or self._work[0] is not work or self._work[1].cancelled():
            self._work = (work, self._client.submit(_as_it_is, work, pure=False))
            self._owners = {}
        return self._work[1]

    def _shares(self, work: Work) -> list[tuple[str, Sequence[int]]]:
        self._owners = assign([group.events for group in work.groups], self._addresses(), self._owners)
        shares: dict[str, list[int]] = defaultdict(list)
        for group, address in sorted(self._owners.items()):
            shares[address].append(group)
        return sorted(shares.items())

    def _addresses(self) -> list[str]:
        """Return workers that are there now, or the first to come back where all were lost.

        Asked of the scheduler directly: ``Client.scheduler_info`` may return what a periodic callback has just
        replaced.
        """
        if not self._client.nthreads():
            self._client.wait_for_workers(1, timeout=self._wait)
        return sorted(self._client.nthreads())


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what Dask raises when workers or the scheduler are lost into a ``ClusterError``."""
    try:
        yield
    except KilledWorker as error:
        raise ClusterError(
            f"a sweep was given up after {error.allowed_failures + 1} workers had died of it, the last at "
            f"{error.last_worker.address}; if they ran out of memory, lower cluster.memory_mb or cluster.chunk_events"
        ) from error
    except WorkerStartTimeoutError as error:
        raise ClusterError(
            f"no worker has come to the scheduler in time ({error}); is the batch system's queue full? "
            "cluster.wait_minutes says how long to wait, results/<run>/logs/workers holds what workers wrote"
        ) from error
    except (CancelledError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's; Dask's own have no number
            raise
        raise ClusterError(
            f"the scheduler does not answer any more ({type(error).__name__}: {error}); run again to go on from the "
            "last finished epoch"
        ) from error


def _as_it_is(value: Found) -> Found:
    return value


def _each(
    function: Callable[..., Found], work: Work, groups: Sequence[int], broadcast: tuple[object, ...]
) -> list[Found]:
    key_split.cache_clear()  # Dask would remember the names of the last 100 000 tasks
    resident = resident_of(get_worker())
    return [function(resident, work.groups[group], work, *broadcast) for group in groups]


def _part(
    function: Callable[..., Found], work: Work, groups: Sequence[int], broadcast: tuple[object, ...]
) -> Found:
    key_split.cache_clear()
    resident = resident_of(get_worker())
    found: Found = jax.device_get(function(resident, [work.groups[g] for g in groups], work, *broadcast))
    return found


def _together(parts: Sequence[NamedSums]) -> NamedSums:
    """Return the sums of several workers as one."""
    found: NamedSums = jax.device_get(_merged(parts))
    return found


def _arrays(parts: Sequence[NamedSums], precision: str) -> dict[Any, np.ndarray]:
    """Return the arrays of sums of several workers."""
    return arrays_of(_merged(parts), precision)


def _merged(parts: Sequence[NamedSums]) -> NamedSums:
    key_split.cache_clear()
    return functools.reduce(union, parts)
