"""Run docs/tutorial.ipynb in an empty folder, and store what its cells show: `python tests/support/notebook.py`.

IPython runs the cells one after the other, as a kernel does, in a process of their own; no server is needed.
"""

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from IPython.core.displayhook import CapturingDisplayHook
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from nbformat.v4 import new_output

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorial.ipynb"
SHOWN = ("text/plain", "image/png")  # of what a cell displays; markup of other kinds is left out


class CellFailed(Exception):
    """A cell of a notebook raised an exception, or a command in it ended with an error."""


class Shell(InteractiveShell):
    """IPython without a terminal and without windows."""

    def enable_gui(self, gui=None):
        """Figures are shown inline; there is no loop of a window to begin."""


def executed(notebook):
    """The notebook with the outputs of its code cells, run in the working directory."""
    shell, stream = Shell.instance(), io.StringIO()
    with contextlib.redirect_stdout(stream):  # one for all cells: a library may have taken it at its import
        for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
            cell.execution_count, cell.outputs = number, outputs_of(shell, stream, cell.source, number)
    return notebook


def outputs_of(shell, stream, source, number):
    """Text and figures of one cell."""
    shell.display_pub = CapturingDisplayPublisher()
    shown = shell.display_pub.outputs
    shell.display_trap.hook = CapturingDisplayHook(shell=shell, outputs=shown)
    begin = stream.tell()
    ended = shell.run_cell(source, store_history=True)
    printed = plain(stream.getvalue()[begin:])
    if not ended.success or shell.user_ns.get("_exit_code"):
        raise CellFailed(f"cell {number}:\n{source}\n{printed}") from ended.error_in_exec
    streams = [new_output("stream", name="stdout", text=printed)] if printed else []
    return streams + [new_output("display_data", data=data) for data in last_of_each(shown)]


def plain(text):
    """What a terminal shows of a text, without the folder that it was run in."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r\n", "\n")
    return lines.replace(f"{Path.cwd()}/", "")


def last_of_each(shown):
    """What is displayed, the latest state of each figure that was updated."""
    found = {}
    for place, output in enumerate(shown):
        name = (output.get("transient") or {}).get("display_id", place)
        found[name] = {kind: content for kind, content in output["data"].items() if kind in SHOWN}
    return [data for data in found.values() if data]


def run(page=PAGE):
    """Run a notebook in a folder and a process of their own; the notebook with its outputs."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    known = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": known, "MPLBACKEND": "agg"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "executed.ipynb"
        environment["IPYTHONDIR"] = f"{folder}/ipython"
        command = [sys.executable, str(Path(__file__)), str(page), str(out)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise CellFailed(done.stdout + done.stderr)
        return nbformat.read(out, as_version=4)


if __name__ == "__main__":
    if sys.argv[1:]:
        source, target = sys.argv[1:]
        nbformat.write(executed(nbformat.read(source, as_version=4)), target)
    else:
        nbformat.write(run(), PAGE)
