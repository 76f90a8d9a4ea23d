"""Files that are far away, in pieces, or bad: the same columns, or an error, or a loss that is recorded."""

import dataclasses
import json

import numpy as np
import pytest
import rootfiles
import servers
from columnfiles import alone, columns_of, source_files, write_columns
from messages import heard

from pipeline import config
from pipeline.cluster import InProcess
from pipeline.columns import rootfile
from pipeline.columns.make import make_columns
from pipeline.columns.rootfile import UnreadableFile
from pipeline.data import column_file, datasets, store
from pipeline.data.provenance import outdated
from pipeline.data.run_files import provenances
from pipeline.errors import InputError
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.templates.fill import EXACT

EVENTS = 200


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(rootfile, "FIRST_PAUSE", 0.01)


@pytest.fixture
def run(tmp_path):
    """The tiny run, with overrides."""
    path = rootfiles.write_run(tmp_path)
    return lambda *overrides: config.load(path, overrides)


def made(settings):
    """Columns of each range of the signal, in order."""
    files = [file for file in source_files(settings) if file.sample == "signal"]
    return [columns_of(settings, file) for file in files]


def whole(parts):
    """All events of all parts, both folds, in the order of their first column."""
    found = {
        n: np.concatenate([part[fold][n] for part, _ in parts for fold in part]) for n in ("x", "weight")
    }
    return np.sort(found["x"]), np.sort(found["weight"])


@pytest.fixture
def local(run):
    return whole(made(run()))


def assert_same(parts, expected):
    for found, wanted in zip(whole(parts), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def remote(url):
    return f'data.prefixes={{"signal": "{url}/signal"}}'


@pytest.mark.parametrize("faults", [[], [503], [429, 500], ["cut"], [503, "cut", 503]])
def test_transient_faults_of_a_web_server_pass(run, tmp_path, local, faults):
    with servers.http(tmp_path) as (url, pending), heard() as lines:
        pending.extend(faults)
        assert_same(made(run(remote(url))), local)
        assert not pending
    assert len(lines) == len(faults)
    assert all("try " in line and "of 4 to read http://127.0.0.1" in line for line in lines)


def test_lasting_faults_of_a_web_server_end_it(run, tmp_path):
    with servers.http(tmp_path) as (url, pending), heard() as lines:
        pending.extend([503] * 50)
        with pytest.raises(UnreadableFile, match=r"sample 'signal': http.*signal\.root cannot be read.*503"):
            made(run(remote(url)))
    assert len(lines) == 3
    with (
        servers.http(tmp_path / "nowhere") as (url, _),
        heard() as lines,
        pytest.raises(UnreadableFile, match="cannot be read"),
    ):
        made(run(remote(url)))
    assert not lines  # that a file is not there is told once


def test_xrootd(run, tmp_path, local):
    with servers.xrootd(tmp_path) as url:
        if url is None:
            pytest.skip("no XRootD server: apt-get install xrootd-server")
        assert_same(made(run(remote(url))), local)
        with heard() as lines, pytest.raises(UnreadableFile, match="no such file"):
            made(run(f'data.prefixes={{"signal": "{url}/no_signal"}}'))
        assert not lines


def test_an_unknown_protocol_is_named(run):
    with pytest.raises(UnreadableFile, match=r"gsiftp://.* cannot be read: .*Protocol not known: gsiftp"):
        made(run('data.prefixes={"signal": "gsiftp://localhost/signal"}'))


@pytest.mark.parametrize(("most", "jobs"), [(200, 1), (199, 2), (70, 3), (1, 200)])
def test_ranges_are_the_whole(run, local, most, jobs):
    parts = made(run(f"data.max_events_per_job={most}"))
    assert len(parts) == jobs
    assert sum(sum(p.entries_read.values()) for _, p in parts) == EVENTS
    assert max(sum(p.entries_read.values()) for _, p in parts) <= most
    if jobs < EVENTS:  # an event alone has columns too, but need not have jets
        assert_same(parts, local)


def promise(tmp_path, events):
    content = json.loads((tmp_path / "manifest.json").read_text())
    content["signal"]["nominal"]["files"][0]["nevts"] = events
    (tmp_path / "manifest.json").write_text(json.dumps(content))


def test_a_file_longer_than_promised_is_read_to_its_end(run, tmp_path, local):
    promise(tmp_path, 90)
    parts = made(run("data.max_events_per_job=50"))
    assert [sum(p.entries_read.values()) for _, p in parts] == [45, 155]
    assert_same(parts, local)


def test_a_file_shorter_than_promised_is_an_error(run, tmp_path):
    promise(tmp_path, 1000)
    with pytest.raises(
        UnreadableFile, match=r"has 200 entries, fewer than the manifest promises; correct its 'nevts'"
    ):
        made(run("data.max_events_per_job=250"))


def test_prefixes_longest_first(run):
    prefixes = 'data.prefixes={"s": "x/", "sig": "y/", "other": "z/"}'
    (signal,) = (f for f in source_files(run(prefixes)) if f.sample == "signal")
    assert signal.path == "y/nal.root"


def three_files(tmp_path):
    """Three files of signal in the manifest, the second of them damaged; total of the weights in the others."""
    paths = [rootfiles.write(tmp_path / f"s{i}.root", seed=10 + i) for i in range(3)]
    paths[1].write_bytes(paths[1].read_bytes()[:1000])
    content = json.loads((tmp_path / "manifest.json").read_text())
    content["signal"]["nominal"]["files"] = [{"path": str(p), "nevts": EVENTS} for p in paths]
    (tmp_path / "manifest.json").write_text(json.dumps(content))


def test_a_bad_file_fails_the_run_or_is_left_out_and_made_up_for(run, tmp_path):
    three_files(tmp_path)
    with pytest.raises(InputError, match=r"s1\.root cannot be read: it is truncated"):
        write_columns(run(), tmp_path / "columns")
    settings = run("data.unreadable_files=leave_out", "data.samples.signal.cross_section_pb=2")
    with heard() as lines:
        files = write_columns(settings, tmp_path / "columns")
    assert any("left out: sample 'signal'" in line for line in lines)
    lost = [source for source in provenances(files) if source.sample == "signal"]
    assert [provenance.left_out is not None for provenance in lost] == [False, True, False]
    assert [sum(p.entries_read.values()) for p in lost] == [EVENTS, 0, EVENTS]
    work = prepare_work(settings, files, datasets.ALL)
    found = forward(InProcess(), work, {"cut": np.float64(0.0)}, EXACT).yields["all"]
    kept = [store.read_columns(path, f) for s, path in files if s == "signal" for f in ("train", "held_out")]
    weights = sum(c["weight"].sum(dtype=float) for c in kept if c)
    expected = weights * 2 * settings.data.luminosity_per_pb / (2 * EVENTS)
    row = work.axes.samples.index("signal")
    np.testing.assert_allclose(found[row, 0, 0], expected, rtol=1e-6)


def test_a_sample_without_any_readable_file_is_an_error(run, tmp_path):
    (tmp_path / "signal.root").write_bytes(b"no ROOT file")
    settings = run("data.unreadable_files=leave_out")
    files = write_columns(settings, tmp_path / "columns")
    with pytest.raises(InputError, match=r"sample 'signal': every file was left out .*cannot be read"):
        prepare_work(settings, files, datasets.ALL)


def test_columns_of_something_else_are_outdated(run, tmp_path):
    first = run("data.max_events_per_job=100")
    file, second = (f for f in source_files(first) if f.sample == "signal")
    path = tmp_path / "columns.parquet"
    column_file.write(path, *make_columns(first, alone(file)))
    made_of = column_file.read(path).sources
    assert outdated(first, alone(file), made_of) is None
    assert outdated(first, alone(second), made_of) == "range was [0, 100] and is [100, None]"
    other = dataclasses.replace(file, path="elsewhere.root")
    assert "elsewhere.root" in outdated(first, alone(other), made_of)
    assert "held_out_fraction was" in outdated(run("data.held_out_fraction=0.2"), alone(file), made_of)
    rootfiles.write(tmp_path / "signal.root", seed=77, events=210)
    assert "source_" in outdated(first, alone(file), made_of)
    (tmp_path / "signal.root").unlink()
    assert outdated(first, alone(file), made_of) is None  # columns outlive the file


def test_a_left_out_file_is_outdated_once_files_must_be_readable(run, tmp_path):
    (tmp_path / "signal.root").write_bytes(b"no ROOT file")
    lenient = run("data.unreadable_files=leave_out")
    (file,) = (f for f in source_files(lenient) if f.sample == "signal")
    path = tmp_path / "columns.parquet"
    column_file.write(path, *make_columns(lenient, alone(file)))
    made_of = column_file.read(path).sources
    assert outdated(lenient, alone(file), made_of) is None
    assert "left out" in outdated(run(), alone(file), made_of)


def test_one_file_by_two_names_is_an_error(run, tmp_path):
    content = json.loads((tmp_path / "manifest.json").read_text())
    content["signal"]["nominal"]["files"] = [{"path": f"{tmp_path}/signal.root"}, {"path": "x://signal.root"}]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"signal/nominal: .*signal\.root is read twice, after data\.prefixes"
    ):
        source_files(run(f'data.prefixes={{"x://": "{tmp_path}/"}}'))
