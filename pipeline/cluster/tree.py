"""Sums over workers, which ask one another: a worker adds up its own groups, and what a few others below it answer.

A *plan* is a list of portions: worker, groups. Its first worker, the head, takes its own portion, cuts the others into
at most ``FAN_IN`` plans, and asks the head of each. So a sweep of any number of workers is one task of Dask's, and no
process talks to more than ``FAN_IN`` others at once.

Each group counts once, because a sum holds only what was answered. Where a worker does not answer any more, those below
it that are there take its groups, or who asked it, where none is.
"""

import asyncio
import functools
import itertools
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from distributed import Reschedule, Status
from distributed import Worker as DaskWorker
from distributed.core import clean_exception, error_message, send_recv
from distributed.protocol.serialize import to_serialize

from pipeline.errors import ClusterError
from pipeline.gradient.accumulator import arrays_of, union
from pipeline.gradient.resident import Resident
from pipeline.gradient.sweeps import NamedSums
from pipeline.gradient.work import Work

FAN_IN = 16  # workers that one asks
OPERATION = "thalweg_sums"  # the name of the call
CONNECT = (
    10.0  # seconds for a new connection, which Dask tries again and again also where nobody listens any more
)
WORKS_KEPT = 2  # of a worker: that of the training events and that of the others


class Portion(NamedTuple):
    """The groups of a worker, and the largest number of workers that have died of some of them."""

    address: str
    groups: tuple[int, ...]
    deaths: int = 0

    def with_those_of(self, other: "Portion") -> "Portion":
        """Return this worker's portion with another's groups."""
        return self._replace(groups=self.groups + other.groups, deaths=max(self.deaths, other.deaths))


Portions = list[Portion]


class Order:
    """What all workers of a sweep add up; Dask does not look into it.

    Args:
        work: name of the work, which travels to a worker once.
        deaths: of workers by one portion that are forgiven.
    """

    def __init__(
        self,
        function: Callable[..., NamedSums],
        work: str,
        broadcast: tuple[object, ...],
        deaths: int,
        fan_in: int = FAN_IN,
    ) -> None:
        self.function, self.work, self.broadcast = function, work, broadcast
        self.deaths, self.fan_in = deaths, fan_in


class Sealed:
    """Something that Dask carries without a look into it, which would take longer than all else."""

    def __init__(self, value: Any) -> None:
        self.value = value


def plan_of(shares: Iterable[tuple[str, Sequence[int]]]) -> Portions:
    """Return a plan in an order that spreads the workers of a machine: if it is lost, their groups have many heirs."""
    return sorted(
        (Portion(address, tuple(groups)) for address, groups in shares),
        key=lambda portion: (zlib.crc32(portion.address.encode()), portion.address),
    )


def divided(plan: Portions, parts: int) -> list[Portions]:
    """Return at most so many plans, about equally long."""
    count = min(parts, len(plan))
    borders = [number * len(plan) // count for number in range(count + 1)] if count else [0]
    return [plan[start:end] for start, end in itertools.pairwise(borders)]


def handed_on(plan: Portions, there: Collection[str]) -> Portions:
    """Return the plan of those that are there, who take the groups of the others in turn; empty where none is."""
    heirs = [portion for portion in plan if portion.address in there]
    lost = [portion for portion in plan if portion.address not in there]
    for number, portion in enumerate(lost if heirs else ()):
        place = number % len(heirs)
        heirs[place] = heirs[place].with_those_of(portion)
    return heirs


def given_up(deaths: int, address: str) -> ClusterError:
    """Return the error of a sweep that kills its workers."""
    return ClusterError(
        f"a sweep was given up after {deaths} workers had died of it, the last at {address}; if they ran out of "
        "memory, lower cluster.memory_mb or cluster.chunk_events"
    )


class Member:
    """A worker as part of such trees; it is asked by others from its making on."""

    def __init__(self, worker: DaskWorker, resident: Resident) -> None:
        self._worker, self._resident = worker, resident
        self._works: dict[str, Work] = {}
        worker.handlers[OPERATION] = self.answer

    async def begin(self, order: Order, work: Work, plan: Portions, precision: str) -> dict[Any, np.ndarray]:
        """Return the arrays of the sums of all portions, as the root of the tree.

        The root may be another worker than the plan's first, where that was lost.

        Raises:
            ClusterError: too many workers have died of one portion.
            Exception: what the function raises, here or on another worker.
        """
        self._learn(order.work, work)
        here = self._worker.contact_address or self._worker.address
        try:
            if plan[0].address != here:
                others = await self._running() - {here}
                own = next((portion for portion in plan if portion.address == here), Portion(here, ()))
                plan = handed_on([own, *(p for p in plan if p.address != here)], {here, *others})
            sums = await self._sums(order, work, plan)
            arrays: dict[Any, np.ndarray] = await self._in_thread(arrays_of, sums, precision)
        except Exception as error:
            if self._closing:  # not the function's, and another worker can do it
                raise Reschedule from error
            raise
        return arrays

    async def answer(self, order: Order, plan: "Sealed", work: Work | None = None) -> dict[str, Any]:
        """Return a message with the sums of a plan; Dask calls this when another worker asks.

        Without the work, where it is not known: so the message is small, but once.
        """
        if work is not None:
            self._learn(order.work, work)
        if order.work not in self._works:
            return {"status": "unknown"}
        try:
            sums = await self._sums(order, self._works[order.work], plan.value)
        except Exception as error:
            return {"status": "closing"} if self._closing else {**error_message(error)}
        return {"status": "OK", "sums": to_serialize(Sealed(sums))}

    async def _sums(self, order: Order, work: Work, plan: Portions) -> NamedSums:
        """Return the sums of a plan whose head this is."""
        asked = [
            asyncio.ensure_future(self._branch(order, work, branch))
            for branch in divided(plan[1:], order.fan_in)
        ]
        await asyncio.sleep(0)  # what has a connection is on its way before the thread takes the interpreter
        own = [self._own(order, work, plan[0].groups)] if plan[0].groups else []
        mine, branches = await asyncio.gather(asyncio.gather(*own), asyncio.gather(*asked))
        found = [*mine, *(sums for sums, _ in branches if sums is not None)]
        left = [portion for _, portions in branches for portion in portions]
        if left:
            found.append(await self._own(order, work, [g for portion in left for g in portion.groups]))
        return found[0] if len(found) == 1 else await self._in_thread(_merged, found)

    async def _branch(self, order: Order, work: Work, plan: Portions) -> tuple[NamedSums | None, Portions]:
        """Return what the workers of a plan answer, or the portions that are left where none of them is there."""
        while True:
            head = plan[0].address
            sums = await self._asked(head, order, plan, work)
            if sums is not None:
                return sums, []
            deaths = plan[0].deaths + 1
            if deaths > order.deaths:
                raise given_up(deaths, head)
            plan = [plan[0]._replace(deaths=deaths), *plan[1:]]
            heirs = handed_on(plan, await self._running() - {head})
            if not heirs:
                return None, plan
            plan = heirs

    async def _asked(self, address: str, order: Order, plan: Portions, work: Work) -> NamedSums | None:
        """Return the answer of a plan's head; None where it is lost."""
        message = {"order": to_serialize(order), "plan": to_serialize(Sealed(plan))}
        try:
            answer = await self._call(address, **message)
            if answer is not None and answer["status"] == "unknown":
                answer = await self._call(address, **message, work=to_serialize(work))
        except OSError:
            return None
        if answer is None or answer["status"] == "closing":  # not, or no longer, a member
            return None
        if answer["status"] != "OK":
            raise _error_in(answer)
        sums: NamedSums = answer["sums"].value
        return sums

    async def _call(self, address: str, **message: Any) -> Any:
        pool = self._worker.rpc
        comm = await pool.connect(address, timeout=CONNECT)
        try:
            return await send_recv(comm, op=OPERATION, **message)
        finally:
            pool.reuse(address, comm)

    async def _running(self) -> set[str]:
        """Return the workers that the scheduler knows to be there."""
        return set(await self._worker.scheduler.ncores_running())

    def _own(self, order: Order, work: Work, groups: Sequence[int]) -> asyncio.Future[NamedSums]:
        return self._in_thread(_part, self._resident, order, work, groups)

    def _in_thread(self, function: Callable[..., Any], *arguments: object) -> asyncio.Future[Any]:
        """Run something where Dask runs its tasks: the loop goes on answering."""
        thread = self._worker.executors["default"]
        return asyncio.get_running_loop().run_in_executor(thread, functools.partial(function, *arguments))

    def _learn(self, name: str, work: Work) -> None:
        """Keep a work; that which has not been asked for the longest goes."""
        self._works[name] = self._works.pop(name, work)
        while len(self._works) > WORKS_KEPT:
            del self._works[next(iter(self._works))]

    @property
    def _closing(self) -> bool:
        return self._worker.status not in (Status.running, Status.paused)


def _part(resident: Resident, order: Order, work: Work, groups: Sequence[int]) -> NamedSums:
    own = [work.groups[group] for group in groups]
    try:
        found: NamedSums = jax.device_get(order.function(resident, own, work, *order.broadcast))
    except StopIteration as error:  # which no coroutine can pass on
        raise RuntimeError(f"StopIteration: {error}") from error
    return found


def _merged(parts: Sequence[NamedSums]) -> NamedSums:
    """Return the sums of several workers as one."""
    found: NamedSums = jax.device_get(functools.reduce(union, parts))
    return found


def _error_in(message: dict[str, Any]) -> BaseException:
    """Return an error that another worker has answered, as it was raised there."""
    _, error, traceback = clean_exception(**message)
    return error.with_traceback(traceback) if error else RuntimeError(message["exception_text"])
