"""The page that follows a run says what the records say, changes while the run goes on, and ends with it."""

import contextlib
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser

import contracts
import pytest
import rootfiles
from columnfiles import write_columns

from pipeline import Run
from pipeline import config as configuration
from pipeline.data.fingerprint import fingerprint_of
from pipeline.data.run_files import folder_of
from pipeline.gradient.loss import described
from pipeline.optimise.checkpoints import Checkpoints
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.update import initial_state
from pipeline.report.watch import Followed, drawn, look, page_of, write

WATCH = [sys.executable, "-m", "pipeline", "watch"]
REFRESH = '<meta http-equiv="refresh"'


class _Tags(HTMLParser):
    """Attributes of the tags of a page, by name."""

    def __init__(self, page):
        super().__init__()
        self.found = {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.setdefault(tag, []).append(dict(attrs))


@pytest.fixture
def tiny(tmp_path):
    """A run of a few epochs in a folder of its own; nothing of it is there yet."""
    path = rootfiles.write_run(
        tmp_path, optimise={"epochs": 4, "epochs_per_job": 2, "learning_rate": 0.02, "check_every": 2}
    )
    with contextlib.chdir(tmp_path):
        yield Run(path, folder=tmp_path)


@pytest.mark.slow
def test_the_page_follows_a_run_to_its_end(tiny):
    """A browser that has it open loads it again, until the run has ended."""
    with subprocess.Popen(
        [*WATCH, str(tiny.path), "--every", "1"],
        cwd=tiny.folder,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        try:
            page = page_of(tiny.config)
            _wait(lambda: page.exists() and "No epoch yet." in page.read_text(), process)
            assert REFRESH in page.read_text()
            tiny.columns()
            records = tiny.optimise().records
            said = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert said.splitlines()[0].endswith("watch.html: 0 epochs")
    assert said.splitlines()[-1].endswith("watch.html: 4 epochs, the optimisation has ended")
    text = page.read_text()
    assert REFRESH not in text
    assert "The optimisation has ended." in text
    assert f"{records[-1].objective:.6g} at the last" in text
    images = _Tags(text).found["img"]
    assert len(images) == 1
    assert f"cut {records[-1].parameters['cut']:.4g}" in images[0]["alt"]
    assert "<script" not in text


def _wait(there, process, seconds=60):
    """Wait for something, as long as a process runs."""
    end = time.monotonic() + seconds
    while not there():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.1)


def test_ctrl_c_leaves_a_page_that_stays_as_it_is(tiny):
    with subprocess.Popen(
        [*WATCH, str(tiny.path)], cwd=tiny.folder, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        try:
            page = page_of(tiny.config)
            _wait(page.exists, process)
            assert REFRESH in page.read_text()
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert REFRESH not in page.read_text()
    assert "No longer watched" in page.read_text()


def test_half_a_run_is_seen_and_another_ones_records_are_not(tiny):
    config = tiny.config
    files = write_columns(config, folder_of(config).root / "columns")
    kept = Checkpoints(folder_of(config).checkpoints, fingerprint_of(config, files))
    records = [contracts.record(i, objective=0.5 - 0.1 * i, parameters={"cut": 0.1 * i}) for i in range(2)]
    for record in records:
        kept.keep(initial_state(config, initial_parameters(config))._replace(epoch=record.epoch + 1), record)
    seen = look(config)
    assert seen == Followed([records], ended=False)
    other = configuration.load(tiny.path, ["optimise.learning_rate=0.03"])
    assert look(other) == Followed([[]], ended=False, others=True)
    write(other, look(other), every=3)
    assert "No epoch yet of this configuration" in page_of(other).read_text()
    assert look(configuration.load(tiny.path, ["run=new"])) == Followed([[]], ended=False)
    write(config, seen, every=3)
    text = page_of(config).read_text()
    assert "2 of at most 4 epochs" in " ".join(text.split())
    assert f'{REFRESH} content="3">' in text


def test_the_lines_are_the_records(tiny):
    records = [contracts.record(i, objective=0.5 - 0.1 * i, parameters={"cut": 0.1 * i}) for i in range(3)]
    found = drawn(records, described(tiny.config), {})
    lines = [axes.lines[0] for axes in found.figure.axes]
    assert [[*line.get_ydata()] for line in lines] == [[0.5, 0.4, 0.3], [0.0, 0.1, 0.2]]
    assert [[*line.get_xdata()] for line in lines] == [[0, 1, 2]] * 2
    assert re.search(r"from 0.5 to 0.3; parameters now: cut 0.2", found.alt)
