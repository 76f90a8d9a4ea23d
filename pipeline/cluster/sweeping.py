"""Sweeps in this process, or on the workers of a Dask scheduler, each of which takes all its groups at once."""

import contextlib
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any, TypeVar

import dask
import jax
import numpy as np
from dask.utils import key_split
from distributed import Client, KilledWorker, get_worker
from distributed.client import Future
from distributed.exceptions import WorkerStartTimeoutError

from pipeline.cluster.assignment import Owners, assign
from pipeline.cluster.tree import Order, Sealed, given_up, plan_of
from pipeline.cluster.workers import member_of, resident_of
from pipeline.errors import ClusterError
from pipeline.gradient.accumulator import arrays_of
from pipeline.gradient.resident import Resident
from pipeline.gradient.sweeps import NamedSums
from pipeline.gradient.work import Work

Found = TypeVar("Found")


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
    makes it again where every worker that had it is lost. Each has been set up by ``workers.set_up``.

    Args:
        wait: seconds that a sweep waits for its first worker.
    """

    def __init__(self, client: Client, wait: float) -> None:
        self._client, self._wait = client, wait
        self._work: tuple[Work, Future[Work]] | None = None
        self._name = ""  # of the work
        self._dealt: tuple[list[str], Owners] = [], {}
        # When the scheduler has no task of a name any more, it begins a new record of them, and keeps all records.
        self._anchors = [
            client.submit(_as_it_is, None, key=f"{function.__name__}-{uuid.uuid4().hex}")
            for function in (_as_it_is, _each, _rooted)
        ]

    @property
    def workers(self) -> int:
        """Workers at this moment."""
        with explained():
            return len(self._addresses())

    def sweep(self, function: Callable[..., Found], work: Work, *broadcast: object) -> list[Found]:
        """Return ``[function(resident, group, work, *broadcast) for group in work.groups]``, one task per worker."""
        with explained():
            there, shares = self._there(work), self._shares(work)
            shared = self._client.submit(_as_it_is, broadcast, pure=False)
            futures = [
                self._client.submit(
                    _each, function, there, groups, shared,
                    workers=[address], allow_other_workers=True, pure=False,
                )
                for address, groups in shares
            ]  # fmt: skip
            results: list[list[Found]] = self._client.gather(futures)
        key_split.cache_clear()
        found = {
            group: result
            for (_, groups), own in zip(shares, results, strict=True)
            for group, result in zip(groups, own, strict=True)
        }
        return [found[group] for group in range(len(work.groups))]

    def total(
        self, function: Callable[..., NamedSums], work: Work, *broadcast: object, precision: str = "float64"
    ) -> dict[Any, np.ndarray]:
        """Return the arrays of ``function(resident, work.groups, work, *broadcast)``, sums by name.

        Workers ask one another (``tree``); what comes here is as large as the sums of one of them.
        """
        with explained():
            there, plan = self._there(work), plan_of(self._shares(work))
            deaths = dask.config.get("distributed.scheduler.allowed-failures")
            root: Future[Any] = self._client.submit(
                _rooted, Order(function, self._name, broadcast, deaths), there, Sealed(plan), precision,
                workers=[plan[0].address], allow_other_workers=True, pure=False,
            )  # fmt: skip
            found: dict[Any, np.ndarray] = root.result()
        key_split.cache_clear()
        return found

    def _there(self, work: Work) -> Future[Work]:
        """Return the work on the workers; it travels once, not with every sweep."""
        if self._work is None or self._work[0] is not work or self._work[1].cancelled():
            self._work = (work, self._client.submit(_as_it_is, work, pure=False))
            self._name, self._dealt = uuid.uuid4().hex, ([], {})
        return self._work[1]

    def _shares(self, work: Work) -> list[tuple[str, Sequence[int]]]:
        addresses, (former, owners) = self._addresses(), self._dealt
        if addresses != former:
            owners = assign([group.events for group in work.groups], addresses, owners)
            self._dealt = addresses, owners
        shares: dict[str, list[int]] = defaultdict(list)
        for group, address in sorted(owners.items()):
            shares[address].append(group)
        return sorted(shares.items())

    def _addresses(self) -> list[str]:
        """Return workers that are set up now, or the first to come back where all were lost.

        Asked of the scheduler directly: ``Client.scheduler_info`` may return what a periodic callback has just
        replaced.
        """
        scheduler: Any = self._client.scheduler
        while not (found := self._client.sync(scheduler.ncores_running)):
            self._client.wait_for_workers(1, timeout=self._wait)
        return sorted(found)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what Dask raises when workers or the scheduler are lost into a ``ClusterError``."""
    try:
        yield
    except KilledWorker as error:
        raise given_up(error.allowed_failures + 1, error.last_worker.address) from error
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


async def _rooted(order: Order, work: Work, plan: Sealed, precision: str) -> dict[Any, np.ndarray]:
    key_split.cache_clear()
    return await member_of(get_worker()).begin(order, work, plan.value, precision)
