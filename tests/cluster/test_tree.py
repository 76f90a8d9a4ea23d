"""Workers that ask one another for sums: whoever is lost, each group counts once; what cannot go on says why."""

import os
import signal
import time

import numpy as np
import pytest
from columnfiles import write_columns
from distributed import get_worker
from rootfiles import write_run

from pipeline import cluster, config
from pipeline.cluster import sweeping
from pipeline.cluster.tree import Order, Portion, Sealed, divided, handed_on, plan_of
from pipeline.cluster.workers import member_of
from pipeline.data import datasets
from pipeline.errors import ClusterError
from pipeline.gradient.accumulator import added, empty
from pipeline.gradient.work import prepare_work

PLAN = [Portion(name, (number,)) for number, name in enumerate("abcdefg")]


@pytest.mark.parametrize("parts", [1, 2, 3, 16])
def test_a_plan_is_divided_once(parts):
    found = divided(PLAN, parts)
    assert [portion for part in found for portion in part] == PLAN
    assert len(found) == min(parts, len(PLAN))
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert divided([], parts) == []


@pytest.mark.parametrize("there", ["", "a", "ceg", "abcdefg"])
def test_groups_of_the_lost_have_one_heir_each(there):
    plan = [PLAN[0]._replace(deaths=3), *PLAN[1:]]
    found = handed_on(plan, set(there))
    assert [portion.address for portion in found] == list(there)
    if there:
        assert sorted(group for portion in found for group in portion.groups) == list(range(7))
        assert max(portion.deaths for portion in found) == 3
        sizes = [len(portion.groups) for portion in found]
        assert max(sizes) - min(sizes) <= 1


def test_a_plan_knows_no_order():
    shares = [(f"tcp://{number}", [number]) for number in range(9)]
    assert plan_of(shares) == plan_of(reversed(shares))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    found = config.load(write_run(folder, files=6), ["cluster.chunk_events=64", "cluster.group_events=100"])
    return found, prepare_work(found, write_columns(found, folder / "columns"), datasets.TRAIN)


def executor_of(work, workers, folder):
    chosen = work[0].cluster.model_copy(update={"executor": "local", "wait_minutes": 1.0})
    return cluster.executor(chosen, workers, folder)


def counted(resident, groups, work, mark=None, victims=(), message=None, seconds=0.0):
    """Groups, and their events; a process that finds itself among the victims is killed, but once."""
    del resident
    if message and work.groups[-1] in groups:
        raise ValueError(message)
    if mark is not None and os.getpid() in victims:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)
    total = empty((2,))
    for group in groups:
        total = added(total, np.array([1.0, group.events]))
    return {"all": total}


def total(executor, work, *broadcast):
    return executor.total(counted, work, *broadcast)["all"].tolist()


def plan_now(executor, work):
    return plan_of(executor._shares(work))


def pid_of(executor, portion):
    return executor._client.run(os.getpid, workers=[portion.address])[portion.address]


@pytest.mark.dask
@pytest.mark.parametrize("place", [0, 1, 3], ids=["root", "head", "leaf"])
def test_a_worker_killed_during_its_share_changes_nothing(work, tmp_path, monkeypatch, place):
    monkeypatch.setattr(sweeping, "Order", narrow)
    expected = [float(len(work[1].groups)), float(work[1].events)]
    with executor_of(work, 4, tmp_path) as executor:
        assert total(executor, work[1]) == expected
        victim = pid_of(executor, plan_now(executor, work[1])[place])
        assert total(executor, work[1], str(tmp_path), (victim,)) == expected
        assert total(executor, work[1]) == expected


def narrow(*arguments):
    """A plan of four workers is a chain then."""
    return Order(*arguments, fan_in=1)


@pytest.mark.dask
def test_an_error_on_a_leaf_arrives_with_its_message(work, tmp_path, monkeypatch):
    monkeypatch.setattr(sweeping, "Order", narrow)
    with executor_of(work, 3, tmp_path) as executor:
        with pytest.raises(ValueError, match="the last group is bad"):
            total(executor, work[1], None, (), "the last group is bad")
        assert total(executor, work[1])[0] == len(work[1].groups)


class Everybody:
    """Every process is among these."""

    def __contains__(self, process):
        return True


@pytest.mark.slow
@pytest.mark.dask
def test_a_sweep_that_kills_its_workers_is_given_up(work, tmp_path):
    why = "a sweep was given up after 11 workers had died of it"
    with executor_of(work, 2, tmp_path) as executor, pytest.raises(ClusterError, match=why):
        total(executor, work[1], str(tmp_path), Everybody())


async def given_up_at_once(order, work, plan):
    """The sum of a portion of which ten workers have died already."""
    return await member_of(get_worker()).begin(order, work, plan.value, "float64")


@pytest.mark.dask
def test_the_deaths_of_a_portion_are_counted(work, tmp_path):
    with executor_of(work, 2, tmp_path) as executor:
        head, other = plan_now(executor, work[1])
        plan = Sealed([head, other._replace(deaths=10)])
        order = Order(counted, "name", (str(tmp_path), (pid_of(executor, other),)), 10)
        asked = executor._client.submit(
            given_up_at_once, order, work[1], plan, workers=[head.address], pure=False
        )
        with pytest.raises(
            ClusterError, match="given up after 11 workers had died of it, the last at tls://"
        ):
            asked.result()
