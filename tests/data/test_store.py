"""Files come back as they were written, or not at all."""

import contextlib
import os
import random
import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.data import store
from pipeline.errors import InputError, OutputError

FLOATS = st.floats(width=32, allow_nan=False)


@st.composite
def folds(draw):
    """Columns of two folds: [events] and [events, objects], events from none on."""
    names = draw(st.sampled_from([[], ["jet"], ["jet", "Élan 2"], ["x", "jet", "y"]]))
    objects = {"weight": (), **{name: draw(st.sampled_from([(), (1,), (4,)])) for name in names}}
    return {
        fold: {
            name: draw(hnp.arrays(np.float32, (events, *shape), elements=FLOATS, fill=FLOATS))
            for name, shape in objects.items()
        }
        for fold, events in (("train", draw(st.integers(0, 6))), ("held_out", draw(st.integers(0, 6))))
    }


def columns(events=300):
    rng = np.random.default_rng(1)
    return {
        fold: {"weight": rng.random(events).astype("f4"), "jet": rng.random((events, 3)).astype("f4")}
        for fold in ("train", "held_out")
    }


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@contextlib.contextmanager
def file_size_limit(size):
    """Writing beyond fails as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITERS = {
    "columns": lambda path: store.write_columns(path, columns(), {"sample": "a"}),
    "state": lambda path: store.write_state(path, {"leaf": np.arange(1000.0)}, {"epoch": 1}),
    "json": lambda path: store.write_json(path, list(range(1000))),
}
READERS = {
    "columns": lambda path: (store.read_provenance(path), *(store.read_columns(path, f) for f in columns())),
    "state": store.read_state,
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@settings(max_examples=30, deadline=None)
@given(written=folds())
def test_columns_come_back(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("columns") / "a.parquet"
    store.write_columns(path, written, {"sample": "a", "sum": 0.1})
    for fold, expected in written.items():
        found = store.read_columns(path, fold)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, strict=True)
    assert store.read_provenance(path)["sum"] == 0.1
    with pytest.raises(InputError, match=r"no fold 'test'; there are: train, held_out"):
        store.read_columns(path, "test")


@settings(max_examples=30, deadline=None)
@given(
    leaves=st.dictionaries(
        st.from_regex(r"leaf_\d{2}", fullmatch=True),
        hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4)),
    )
)
def test_states_come_back(tmp_path_factory, leaves):
    path = tmp_path_factory.mktemp("state") / "a.npz"
    store.write_state(path, leaves, {"epoch": 3, "records": [{"objective": 0.1}]})
    found, header = store.read_state(path)
    assert header == {"epoch": 3, "records": [{"objective": 0.1}]}
    assert found.keys() == leaves.keys()
    for name, array in leaves.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_digest_sees_names_types_shapes_and_bytes():
    one = np.arange(6, dtype=np.float32)
    others = [
        {"b": one},
        {"a": one.astype("f8")},
        {"a": one.reshape(2, 3)},
        {"a": one + 1},
        {"a": one, "b": one},
    ]
    assert len({store.digest(arrays) for arrays in ({"a": one}, *others)}) == 6
    assert store.digest({"a": one, "b": one + 1}) == store.digest({"b": one + 1, "a": one})


@pytest.mark.parametrize("kind", READERS)
def test_every_damage_is_found(kind, tmp_path):
    """Cut anywhere, or any one bit flipped: an explained error, or exactly what was written."""
    whole = tmp_path / "whole"
    WRITERS[kind](whole)
    data, expected = whole.read_bytes(), READERS[kind](whole)
    rng = random.Random(1)
    damaged = [data[: len(data) * i // 60] for i in range(60)] + [data[:-1], b"", b"no such format\n" * 100]
    for _ in range(300):
        place = rng.randrange(len(data))
        damaged.append(data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :])
    messages = []
    for content in damaged:
        path = tmp_path / "damaged"
        path.write_bytes(content)
        try:
            read = READERS[kind](path)
        except InputError as error:
            messages.append(str(error))
        else:
            np.testing.assert_equal(read, expected)
    assert len(messages) > 250
    assert all(str(path) in text and "delete it and run again" in text for text in messages)


@pytest.mark.parametrize("read", [store.read_provenance, store.read_state, store.read_json])
def test_missing_file(read, tmp_path):
    with pytest.raises(InputError, match=r"nowhere.*(does not exist|No such file)"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_no_json(content, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json is (not JSON|no text file in UTF-8)"):
        store.read_json(path)


@writers
def test_full_disk_leaves_the_old_file_and_nothing_else(write, tmp_path):
    path = tmp_path / "out"
    path.write_text("old")
    with file_size_limit(1000), pytest.raises(OutputError, match=r"cannot write .*out: .*has space"):
        write(path)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["out"]


@writers
def test_impossible_folder(write, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "out", tmp_path / "file" / "deeper" / "out"):
        with pytest.raises(OutputError, match=r"cannot write .*out: (Not a directory|File exists)"):
            write(place)
    assert names(tmp_path) == ["file"]


@writers
def test_only_files_are_replaced(write, tmp_path):
    """A folder or device of that name stays what it is: `--output /dev/null` by root must not destroy it."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(OutputError, match=rf"{name}: it is there and no ordinary file"):
            write(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["folder", "pipe"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_interrupted_writing_leaves_nothing(error, tmp_path):
    def write():
        with store.replacing(tmp_path / "out") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_not_json(value, tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json(tmp_path / "a.json", {"objective": value})
    assert names(tmp_path) == []
