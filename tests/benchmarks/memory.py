"""Resident memory of the process of the epochs and of its worker, per 100 epochs of a tiny run.

From the repository: `.venv/bin/python tests/benchmarks/memory.py --epochs 3000`.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]
from columnfiles import write_columns
from rootfiles import write_run

from pipeline import config
from pipeline.data import store

SETTLED = 200  # epochs after which everything is compiled and every buffer has its size


def megabytes(process):
    """Resident memory of a process."""
    return process.memory_info().rss / 2**20


def worker_of(process):
    """The worker process: what a nanny spawned."""
    found = [p for p in process.children(recursive=True) if any("spawn_main" in part for part in p.cmdline())]
    return max(found, key=megabytes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3000)
    parser.add_argument("--executor", default="local", choices=("local", "in_process"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settings = {"epochs": options.epochs, "epochs_per_job": options.epochs, "learning_rate": 0.001}
        path = write_run(folder, optimise=settings, cluster={"executor": options.executor})
        os.chdir(folder)
        found = config.load(path)
        write_columns(found, store.Folder(found.run).root / "columns")
        command = [sys.executable, "-m", "pipeline", "optimise", str(path), "--output", "block.npz"]
        table = measured([*command, "--workers", "1"], options.executor == "local")
    print("epoch   epochs' process   worker [MB]")
    for epoch, *sizes in table:
        print(f"{epoch:5d}   " + "   ".join(f"{size:8.2f}" for size in sizes))
    start = next(row for row in table if row[0] >= SETTLED)
    grown = [last - first for first, last in zip(start[1:], table[-1][1:], strict=True)]
    print(f"growth after epoch {SETTLED}: " + ", ".join(f"{size:+.2f} MB" for size in grown))


def measured(command, with_worker):
    """(epoch, MB of the epochs' process, MB of its worker) per 100 epochs."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    table = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as run:
        process, worker = psutil.Process(run.pid), None
        for line in run.stderr:
            epoch = re.match(r"epoch +(\d+) ", line)
            if epoch is None:
                print(line, end="")
            elif int(epoch[1]) % 100 == 0:
                worker = worker or (worker_of(process) if with_worker else None)
                own = [process, worker] if worker else [process]
                table.append((int(epoch[1]), *map(megabytes, own)))
    assert run.returncode == 0
    return table


if __name__ == "__main__":
    main()
