"""What a process holds: every event once, in memory as far as the budget goes, and the same events elsewhere."""

from pathlib import Path

import numpy as np
import pytest
from columnfiles import write_columns
from rootfiles import write_run

from pipeline import config
from pipeline.data import datasets
from pipeline.gradient.chunks import cut
from pipeline.gradient.resident import Resident, in_order
from pipeline.gradient.scratch import Scratch
from pipeline.gradient.work import prepare_work


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Some groups of few chunks."""
    folder = tmp_path_factory.mktemp("tiny")
    found = config.load(write_run(folder, files=5), ["cluster.chunk_events=16", "cluster.group_events=60"])
    return prepare_work(found, write_columns(found, folder / "columns"), datasets.TRAIN)


def same(chunks, expected):
    for chunk, arrays in zip(chunks, expected, strict=True):
        assert set(chunk.arrays) == set(arrays) - {"event_number"}
        for name, array in chunk.arrays.items():
            np.testing.assert_array_equal(np.asarray(array), arrays[name], strict=True)


@pytest.mark.parametrize("budget", [float("inf"), 0.0])
def test_chunks_of_a_group_are_those_that_it_is_cut_into(work, tmp_path, budget):
    resident = Resident(budget, tmp_path)
    shares = list(resident.shares(work.groups, work.problem))
    assert sum(len(share.places) for share in shares) > len(shares)
    for group in work.groups:
        same(in_order(resident.shares([group], work.problem)), list(cut(group, work.problem.layout)))
    assert resident.used == (0 if budget == 0 else pytest.approx(resident.used))
    assert not list(tmp_path.iterdir())


def test_groups_that_come_later_are_beside_those_that_are_there(work):
    resident = Resident()
    first, *others = work.groups
    list(resident.shares([first], work.problem))
    before = resident.used
    shares = list(resident.shares([*others, first], work.problem))
    assert resident.used > before
    owners = [owner for share in shares for owner in share.owners]
    assert {owner.group for owner in owners} == set(work.groups)
    assert len(owners) == len(set(owners))


def test_what_is_made_is_made_once_a_version(work, tmp_path):
    calls = []

    def twice(owner, chunk):
        calls.append(owner)
        return {"made": 2 * np.asarray(chunk.arrays["weight"])}

    resident = Resident(0.0, tmp_path)
    for version in ("a", "a", "b"):
        for share in resident.completed(work.groups, work.problem, version, twice):
            for place in share.places:
                chunk = share.chunk(place)
                np.testing.assert_array_equal(chunk.arrays["made"], 2 * np.asarray(chunk.arrays["weight"]))
    assert len(calls) == 2 * len(set(calls))


def test_room_on_disk_is_used_again(tmp_path):
    scratch, rng = Scratch(tmp_path), np.random.default_rng(9)
    arrays = {"a": rng.normal(size=(3, 5)), "b": np.arange(7, dtype=np.uint8)}
    first = scratch.write(arrays)
    second = scratch.write({"a": arrays["a"] + 1, "b": arrays["b"]})
    scratch.release(first)
    assert scratch.write({"a": arrays["a"] + 2, "b": arrays["b"]}).begin == first.begin
    np.testing.assert_array_equal(scratch.read(second)["a"], arrays["a"] + 1)
    np.testing.assert_array_equal(scratch.read(first)["a"], arrays["a"] + 2)
    np.testing.assert_array_equal(scratch.read(first)["b"], arrays["b"], strict=True)
    assert scratch.read(second)["a"].ctypes.data % 64 == 0
    assert isinstance(tmp_path, Path)
