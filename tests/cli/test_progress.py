"""Where messages go: lines on standard error, a file, a bar on a terminal."""

import logging
import os
import re
import subprocess
import sys

import pytest

from pipeline.cli.progress import PACKAGE, bar, logged
from pipeline.errors import OutputError

PROGRAM = """if True:
    import logging
    import sys
    from pathlib import Path
    from pipeline.cli.progress import PACKAGE, bar, logged
    with logged(Path(sys.argv[1]) if sys.argv[1:] else None), bar("optimise", 4, 1) as show:
        logging.getLogger(PACKAGE).info("a line")
        show("epoch 1")
"""


def on_a_terminal(*arguments):
    """What a terminal shows of the program, without its colours."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    subprocess.run(command, stderr=theirs, env=environment, check=True)
    os.close(theirs)
    found = b""
    try:
        while more := os.read(ours, 4096):
            found += more
    except OSError:  # how the end of a terminal is read on Linux
        pass
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", found.decode())


def test_a_bar_moves_on_a_terminal(tmp_path):
    text = on_a_terminal()
    assert "a line" in text
    assert "optimise: epoch 1" in text
    assert "2/4" in text
    text = on_a_terminal(tmp_path / "log")
    assert "optimise: epoch 1" in text
    assert "a line" not in text  # it is in the file
    assert (tmp_path / "log").read_text() == "a line\nepoch 1\n"


def test_without_a_terminal_there_are_lines(tmp_path, capsys):
    with logged(tmp_path / "log"), bar("optimise", 4, 1) as show:
        logging.getLogger(PACKAGE).warning("warning: [bold]x[/bold] " + 40 * "long ")
        show("epoch 1")
    said = capsys.readouterr().err
    assert said == "warning: [bold]x[/bold] " + 40 * "long " + "\nepoch 1\n"
    assert (tmp_path / "log").read_text() == said


def test_what_an_earlier_run_left_goes_with_the_first_line(tmp_path, capsys):
    path = tmp_path / "log"
    path.write_text("earlier\n")
    with logged(path):
        pass
    assert path.read_text() == "earlier\n"
    with logged(path):
        logging.getLogger(PACKAGE).info("now")
        assert path.read_text() == "now\n"
        logging.getLogger(PACKAGE).debug("a traceback")
    assert path.read_text() == "now\na traceback\n"
    assert capsys.readouterr().err == "now\n"


@pytest.mark.parametrize("raises", [False, True])
def test_the_logger_is_left_as_it_was(raises):
    package = logging.getLogger(PACKAGE)
    before = (package.level, package.propagate, [*package.handlers])
    try:
        with logged(None):
            assert not logging.getLogger(PACKAGE).propagate
            if raises:
                raise ValueError
    except ValueError:
        pass
    assert (package.level, package.propagate, package.handlers) == before


def test_a_log_that_is_no_file_is_refused(tmp_path):
    with (
        pytest.raises(OutputError, match=f"cannot write the log {tmp_path}: it is no ordinary file"),
        logged(tmp_path),
    ):
        pass
