"""Several ROOT files in one column file are what each is alone: events, types, keys, templates, provenance."""

import json
import re

import numpy as np
import pytest
import rootfiles
from columnfiles import columns_of, source_files, write_columns
from messages import heard

from pipeline import config
from pipeline.analysis import EVENT_NUMBER
from pipeline.cluster import InProcess
from pipeline.data import column_file, datasets, normalisation
from pipeline.data.datasets import ALL, HELD_OUT, TRAIN
from pipeline.data.fingerprint import fingerprint_of
from pipeline.data.provenance import outdated
from pipeline.data.run_files import provenances
from pipeline.errors import InputError
from pipeline.gradient.chunks import cut
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at

FILES, EVENTS = 5, 60


@pytest.fixture
def run(tmp_path):
    """Five small files of each sample, all in one job of a sample, or each in its own."""
    path = rootfiles.write_run(tmp_path, files=FILES, events=EVENTS)
    return lambda *overrides: config.load(path, ["cluster.group_events=50", *overrides])


ALONE = f"data.max_events_per_job={EVENTS}"


def test_a_job_of_several_files_holds_what_each_gives(run, tmp_path):
    files = write_columns(run(), tmp_path / "columns")
    assert [sample for sample, _ in files] == ["background", "signal"]
    expected = [columns_of(run(), file) for file in source_files(run())]
    stored = [column_file.read(path) for _, path in files]
    assert [source.as_json() for own in stored for source in own.sources] == [
        p.as_json() for _, p in expected
    ]
    for (_, path), own, first in zip(files, stored, (0, FILES), strict=True):
        found = list(column_file.read_sources(path, range(FILES), (TRAIN, HELD_OUT), own.content))
        wanted = [
            (p, folds[fold]) for folds, p in expected[first : first + FILES] for fold in (TRAIN, HELD_OUT)
        ]
        for (source, columns), (provenance, arrays) in zip(found, wanted, strict=True):
            assert source == provenance
            assert list(columns) == list(arrays)
            for name, array in arrays.items():
                np.testing.assert_array_equal(columns[name], array, strict=True)


def sums(settings, folder, fold):
    """All that a run sees of its events: keys, relaxed templates, a bootstrap sample, fingerprint, group by group."""
    files = write_columns(settings, folder)
    work = prepare_work(settings, files, fold)
    keys = [[chunk[EVENT_NUMBER] for chunk in cut(group, work.problem.layout)] for group in work.groups]
    start, widths = initial_parameters(settings), widths_at(settings, 1)
    swept = [
        forward(InProcess(), work, start, widths, replica=replica).yields["all"] for replica in (None, 3)
    ]
    return keys, swept, [(group.events, group.scale) for group in work.groups]


def all_keys(groups):
    return [key for chunks in groups for keys in chunks for key in keys.tolist()]


@pytest.mark.parametrize("fold", [TRAIN, ALL])
def test_packing_changes_no_bit(run, tmp_path, fold):
    packed, alone = (
        sums(run(*own), tmp_path / name, fold) for name, own in {"packed": (), "alone": (ALONE,)}.items()
    )
    assert packed[2] == alone[2]
    assert len(packed[2]) > 2 * 2  # groups are parts of column files
    for found, expected in zip(packed[0], alone[0], strict=True):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(packed[1], alone[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_order_of_the_manifest_makes_the_same_column_files(run, tmp_path):
    first = write_columns(run(), tmp_path / "first")
    manifest = tmp_path / "manifest.json"
    content = json.loads(manifest.read_text())
    for process in content.values():
        process["nominal"]["files"].reverse()
    manifest.write_text(json.dumps(content))
    second = write_columns(run(), tmp_path / "second")
    assert [path.read_bytes() for _, path in first] == [path.read_bytes() for _, path in second]
    assert fingerprint_of(run(), first) == fingerprint_of(run(), second)


def rewrite(tmp_path, index, **changes):
    rootfiles.write(tmp_path / f"signal{index}.root", seed=index, events=EVENTS, **changes)


def test_types_of_each_file_come_back(run, tmp_path):
    """Single and double precision, whole numbers of either kind: held together without rounding, given back as made."""
    rewrite(tmp_path, 1, x=np.random.default_rng(1).random(EVENTS))
    rewrite(tmp_path, 2, number=np.arange(EVENTS, dtype=np.uint64) + np.uint64(2**63))
    settings = run()
    (_, path) = write_columns(settings, tmp_path / "columns")[1]
    stored = column_file.read(path)
    alone = [columns_of(settings, file)[0] for file in source_files(settings) if file.sample == "signal"]
    found = [c for _, c in column_file.read_sources(path, range(FILES), [TRAIN], stored.content)]
    assert [columns["x"].dtype for columns in found] == [np.float32, np.float64, *[np.float32] * 3]
    for columns, folds in zip(found, alone, strict=True):
        for name, array in folds[TRAIN].items():
            np.testing.assert_array_equal(columns[name], array, strict=True)
    packed, apart = sums(settings, tmp_path / "a", ALL), sums(run(ALONE), tmp_path / "b", ALL)
    np.testing.assert_array_equal(packed[1], apart[1])
    for one, other in zip(all_keys(packed[0]), all_keys(apart[0]), strict=True):
        assert one == other


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ('"y" if events.x.type.content.primitive == "float64" else "x": events.x', r"\{'y': 'float64'\} for"),
        (
            '"x": pad(events.jets, 4 if events.x.type.content.primitive == "float64" else 3)',
            r"\{'x': 'float32\[4\]'\}",
        ),
        (
            '"x": events.number + 2**60 if events.x.type.content.primitive == "float64" else events.x',
            r"\{'x': 'float32'\} for .*signal\.root|\{'x': 'int64'\}",
        ),
    ],
)
def test_files_that_do_not_fit_together_are_named(run, tmp_path, columns, says):
    """Other names, numbers of objects, or numbers that no type holds both of; nothing is rounded in silence."""
    rewrite(tmp_path, 3, x=np.random.default_rng(1).random(EVENTS))
    body = f'return {{"weight": events.w, {columns}}}'
    target = rootfiles.write_analysis(tmp_path, "own.py", columns=body)
    with pytest.raises(InputError, match=says) as caught:
        write_columns(run(f"analysis.target={target}", "channels={all: {}}"), tmp_path / "columns")
    assert re.search(
        r"sample 'signal': columns\(\) returns .*signal3?\.root and .*signal3?\.root", str(caught.value)
    )
    assert "which one job reads" in str(caught.value)


def test_a_damaged_file_of_several_is_named_or_left_out_alone(run, tmp_path):
    bad = tmp_path / "signal2.root"
    bad.write_bytes(bad.read_bytes()[:500])
    with pytest.raises(InputError, match=r"sample 'signal': .*signal2\.root cannot be read"):
        write_columns(run(), tmp_path / "columns")
    lenient = run("data.unreadable_files=leave_out")
    with heard() as lines:
        files = write_columns(lenient, tmp_path / "columns")
    assert sum("left out: sample 'signal'" in line for line in lines) == 1
    made_of = [source for source in provenances(files) if source.sample == "signal"]
    assert [source.left_out is not None for source in made_of] == [False, False, True, False, False]
    found = normalisation.scales(lenient, {"signal": made_of}, ALL)["signal"]
    np.testing.assert_allclose(found, FILES / (FILES - 1), rtol=1e-12)
    alone = run("data.unreadable_files=leave_out", ALONE)
    packed, apart = sums(lenient, tmp_path / "a", TRAIN), sums(alone, tmp_path / "b", TRAIN)
    np.testing.assert_array_equal(packed[1], apart[1])


def test_every_file_of_several_may_be_left_out(run, tmp_path):
    for number in ("", *range(1, FILES)):
        (tmp_path / f"signal{number}.root").write_bytes(b"no ROOT file")
    lenient = run("data.unreadable_files=leave_out")
    files = write_columns(lenient, tmp_path / "columns")
    with pytest.raises(InputError, match=r"sample 'signal': every file was left out"):
        prepare_work(lenient, files, ALL)


def test_a_copy_of_a_file_in_the_same_job_is_found(run, tmp_path):
    (tmp_path / "signal4.root").write_bytes((tmp_path / "signal1.root").read_bytes())
    with pytest.raises(InputError, match=r"signal1\.root and .*signal4\.root hold the same 60 events"):
        prepare_work(run(), write_columns(run(), tmp_path / "columns"), ALL)


def test_a_changed_file_or_another_packing_is_outdated(run, tmp_path):
    settings = run()
    _, job = datasets.columns_jobs(settings)
    made_of = column_file.read(write_columns(settings, tmp_path / "columns")[1][1]).sources
    assert outdated(settings, job, made_of) is None
    fewer = run("data.max_events_per_job=120")
    first = next(own for own in datasets.columns_jobs(fewer) if own.sample == "signal")
    assert outdated(fewer, first, made_of) == "its files were 5 and are 2"
    assert "file was" in outdated(settings, datasets.columns_jobs(fewer)[-1], made_of)
    rewrite(tmp_path, 3, x=np.ones(EVENTS, np.float32))
    assert "source_" in outdated(settings, job, made_of)
