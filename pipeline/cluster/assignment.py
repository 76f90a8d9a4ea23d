"""Which worker takes which group: about equal numbers of events each, and the groups it has read already."""

import bisect
import heapq
from collections.abc import Iterable, Mapping, Sequence

Owners = dict[int, str]


def assign(sizes: Sequence[int], workers: Sequence[str], before: Mapping[int, str]) -> Owners:
    """Return the worker of every group.

    A group stays where it was, ``before``. Those of workers that are gone go to whoever has least, the largest first,
    and a worker that had none takes groups from those with most. Nothing else moves: what moves is read again. Time
    goes with groups times the logarithm of their number.

    Args:
        sizes: events per group.
        workers: names of those that are there.
    """
    there = set(workers)
    owners = {group: owner for group, owner in before.items() if owner in there}
    load = dict.fromkeys(sorted(there), 0)
    for own, owner in owners.items():
        load[owner] += sizes[own]
    lightest = [(events, worker) for worker, events in load.items()]
    heapq.heapify(lightest)
    for own in sorted(set(range(len(sizes))) - owners.keys(), key=lambda group: (-sizes[group], group)):
        events, owners[own] = lightest[0]
        heapq.heapreplace(lightest, (events + sizes[own], owners[own]))
    newcomers = there - set(before.values())
    if newcomers:
        _taken(sizes, owners, {worker: events for events, worker in lightest}, sorted(newcomers))
    return owners


def _taken(sizes: Sequence[int], owners: Owners, load: dict[str, int], newcomers: Iterable[str]) -> None:
    """Let newcomers take, one after the other, the largest groups of the busiest that do not make them as busy."""
    # The largest is the last; of equals, that of the lowest number.
    held: dict[str, list[tuple[int, int]]] = {worker: [] for worker in load}
    for group, owner in owners.items():
        held[owner].append((sizes[group], -group))
    for groups in held.values():
        groups.sort()
    ranks = {worker: rank for rank, worker in enumerate(sorted(load))}
    busiest = [(-events, -ranks[worker], worker) for worker, events in load.items()]
    heapq.heapify(busiest)
    for worker in newcomers:
        while True:
            while -busiest[0][0] != load[busiest[0][2]]:  # of before it gave or took
                heapq.heappop(busiest)
            giver = busiest[0][2]
            fitting = bisect.bisect_left(held[giver], (load[giver] - load[worker], -len(sizes)))
            if giver == worker or not fitting:
                break
            size, minus_group = held[giver].pop(fitting - 1)
            bisect.insort(held[worker], (size, minus_group))
            owners[-minus_group] = worker
            load[giver] -= size
            load[worker] += size
            for changed in (giver, worker):
                heapq.heappush(busiest, (-load[changed], -ranks[changed], changed))
