"""Workers of a batch system come while a sweep runs, though for Dask it is a single task, and go when none does."""

import time

from distributed import Client, Event, LocalCluster

from pipeline.cluster.batch import IDLE_ROUNDS, WhileThereIsWork


def count_of(client, number, seconds=60):
    """Wait until there are so many workers."""
    for _ in range(10 * seconds):
        if len(client.nthreads()) == number:
            return number
        time.sleep(0.1)
    return len(client.nthreads())


def waits(name):
    return Event(name).wait(timeout=120)


def test_they_grow_while_the_one_task_of_a_sweep_runs_and_shrink_afterwards():
    options = {"n_workers": 0, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with LocalCluster(**options) as made, Client(made) as client:
        made.adapt(Adaptive=WhileThereIsWork, minimum=1, maximum=3, wait_count=IDLE_ROUNDS, interval="100 ms")
        assert count_of(client, 1) == 1
        running = client.submit(waits, "end of the sweep")
        assert count_of(client, 3) == 3
        Event("end of the sweep", client=client).set()
        assert running.result(timeout=60)
        assert count_of(client, 1) == 1
