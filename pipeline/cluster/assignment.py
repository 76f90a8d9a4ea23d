"""Which worker takes which group: about equal numbers of events each, and the groups it has read already."""

from collections.abc import Mapping, Sequence

Owners = dict[int, str]


def assign(sizes: Sequence[int], workers: Sequence[str], before: Mapping[int, str]) -> Owners:
    """Return the worker of every group.

    A group stays where it was, ``before``. Those of workers that are gone go to whoever has least, the largest first,
    and a worker that had none takes groups from those with most. Nothing else moves: what moves is read again.

    Args:
        sizes: events per group.
        workers: names of those that are there.
    """
    owners = {group: owner for group, owner in before.items() if owner in workers}
    load = dict.fromkeys(sorted(workers), 0)
    for own, owner in owners.items():
        load[owner] += sizes[own]
    for own in sorted(set(range(len(sizes))) - set(owners), key=lambda group: (-sizes[group], group)):
        owners[own] = min(load, key=lambda worker: (load[worker], worker))
        load[owners[own]] += sizes[own]
    for worker in sorted(set(workers) - set(before.values())):
        while (group := _worth_taking(sizes, owners, load, worker)) is not None:
            load[owners[group]] -= sizes[group]
            load[worker] += sizes[group]
            owners[group] = worker
    return owners


def _worth_taking(
    sizes: Sequence[int], owners: Mapping[int, str], load: Mapping[str, int], worker: str
) -> int | None:
    """Return the largest group of the busiest worker that leaves ``worker`` with less than that one has now."""
    busiest = max(load, key=lambda other: (load[other], other))
    fitting = [
        g for g, owner in owners.items() if owner == busiest and load[worker] + sizes[g] < load[busiest]
    ]
    return max(fitting, key=lambda group: (sizes[group], -group), default=None) if busiest != worker else None
