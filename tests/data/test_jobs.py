"""Files of a sample become jobs: ranges of large ones, several small ones in one, in whatever order they are listed."""

import itertools
import json

import pytest
import rootfiles
from columnfiles import source_files
from hypothesis import given
from hypothesis import strategies as st

from pipeline import config
from pipeline.data import datasets
from pipeline.data.jobs import jobs_of
from pipeline.data.manifest import Listed

SIZES = st.lists(st.none() | st.integers(0, 3000), min_size=1, max_size=40)


def listed(sizes):
    return [Listed(f"{number:04d}.root", size) for number, size in enumerate(sizes)]


@given(sizes=SIZES, most=st.integers(1, 2000))
def test_every_entry_is_read_once_and_no_job_has_too_many(sizes, most):
    jobs = jobs_of("a", listed(sizes), most=most, simulated=False)
    assert [job.index for job in jobs] == list(range(len(jobs)))
    assert len({job.name for job in jobs}) == len(jobs)
    read = [file for job in jobs for file in job.files]
    for file in listed(sizes):
        ranges = [r for r in read if r.path == file.path]
        assert ranges[0].start == 0
        assert ranges[-1].stop is None
        assert all(before.stop == after.start for before, after in itertools.pairwise(ranges))
        assert sum(r.entries or 0 for r in ranges) == (file.entries or 0)
        assert {r.promised for r in ranges} == {file.entries}
    assert all(sum(file.entries or 0 for file in job.files) <= most for job in jobs)


@given(sizes=SIZES, most=st.integers(1, 2000))
def test_small_files_fill_a_job(sizes, most):
    """A file of unknown length and a range of a large one are alone; neighbours that would fit are together."""
    jobs = jobs_of("a", listed(sizes), most=most, simulated=False)
    for job in jobs:
        if len(job.files) > 1:
            assert all(f.entries and (f.start, f.stop) == (0, None) for f in job.files)
    for before, after in itertools.pairwise(jobs):
        both = [*before.files, after.files[0]]
        if all(f.entries and f.promised == f.entries for f in both):
            assert sum(f.entries for f in both) > most


@pytest.mark.parametrize(
    ("files", "events", "jobs"), [(10_000, 200, 10), (10_000, 1, 10), (4, 8000, 1), (5, 100_000, 3)]
)
def test_numbers_of_jobs(files, events, jobs):
    """Thousands of small files are tens of jobs, at the default of ``data.max_events_per_job``."""
    assert len(jobs_of("a", listed([events] * files), most=200_000, simulated=False)) == jobs


@pytest.fixture
def run(tmp_path):
    """A run of four files of each sample, and a function that lists them in another order."""
    path = rootfiles.write_run(tmp_path, files=4, events=20)
    manifest = tmp_path / "manifest.json"
    content = json.loads(manifest.read_text())

    def load(order, *overrides):
        for process in content:
            files = content[process]["nominal"]["files"]
            files.sort(key=lambda file: file["path"])
            content[process]["nominal"]["files"] = [files[number] for number in order]
        manifest.write_text(json.dumps(content))
        return config.load(path, overrides)

    return load


@pytest.mark.parametrize("most", [200_000, 40, 15])
def test_the_order_of_the_manifest_decides_nothing(run, most):
    jobs = datasets.columns_jobs(run([0, 1, 2, 3], f"data.max_events_per_job={most}"))
    for order in ([3, 2, 1, 0], [2, 0, 3, 1]):
        assert datasets.columns_jobs(run(order, f"data.max_events_per_job={most}")) == jobs


def test_the_first_files_are_those_of_the_manifest(run):
    chosen = source_files(run([2, 1, 3, 0], "data.max_files_per_process=2"))
    assert [f.path.rpartition("/")[2] for f in chosen if f.sample == "signal"] == [
        "signal1.root",
        "signal2.root",
    ]


def test_another_place_of_the_data_gives_the_same_jobs(run, tmp_path):
    """The order is that of the paths in the manifest, before ``data.prefixes``."""
    jobs = datasets.columns_jobs(run([0, 1, 2, 3]))
    elsewhere = 'data.prefixes={"signal.root": "zz/signal.root", "signal1.root": "aa/signal1.root"}'
    moved = datasets.columns_jobs(run([0, 1, 2, 3], elsewhere))
    assert [[f.path.rpartition("/")[2] for f in job.files] for job in moved] == [
        [f.path.rpartition("/")[2] for f in job.files] for job in jobs
    ]
