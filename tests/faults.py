"""Kills a run again and again, with SIGKILL at random moments, and compares what comes out with an undisturbed run.

Victims: a worker, a nanny, the scheduler, the job of the epochs, Snakemake. After each kill the same command is given
again, as a user would. Prints a table. From the repository: `.venv/bin/python tests/faults.py --kills 50`.

Nannies and schedulers of their own are those of `cluster.executor: address`; with `local` they live in the job.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

SUPPORT = Path(__file__).parent / "support"
sys.path.insert(0, str(SUPPORT))

from clones import clone
from rootfiles import write_run

from pipeline.data import store

ROOT = Path(__file__).parent.parent
EPOCHS, BLOCKS = 300, 3
VICTIMS = ("worker", "nanny", "scheduler", "job", "snakemake")
ENVIRONMENT = {"PYTHONPATH": str(SUPPORT)}


class Daemons:
    """A Dask scheduler on a port of its own and two nannies with a worker each, started again when they are gone."""

    def __init__(self, folder):
        self.folder = folder
        self.running = {}

    def ensure(self):
        """Start what is not there; the address."""
        place = self.folder / "scheduler.json"
        if not self._alive("scheduler"):
            place.unlink(missing_ok=True)
            for name in ("nanny 0", "nanny 1"):
                self._stop(name)
            command = ["dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(place)]
            self._start("scheduler", command)
        while not place.exists():
            time.sleep(0.1)
        for name in ("nanny 0", "nanny 1"):
            if not self._alive(name):
                command = [
                    "dask_worker",
                    "--host",
                    "127.0.0.1",
                    "--nthreads",
                    "1",
                    "--scheduler-file",
                    str(place),
                ]
                self._start(name, command)
        return json.loads(place.read_text())["address"]

    def close(self):
        """Stop everything."""
        for name in list(self.running):
            self._stop(name)

    def processes(self, kind):
        """Processes of one kind: 'scheduler', 'nanny' or 'worker'."""
        if kind == "worker":
            return [c for n in self.processes("nanny") for c in n.children() if is_worker(c)]
        return [
            psutil.Process(p.pid)
            for name, p in self.running.items()
            if name.startswith(kind) and p.poll() is None
        ]

    def _alive(self, name):
        return name in self.running and self.running[name].poll() is None

    def _start(self, name, command):
        log = (self.folder / f"{name}.log").open("a")
        self.running[name] = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:], "--no-dashboard"],
            cwd=self.folder, env={**os.environ, **ENVIRONMENT, "NPROC": "1"}, stdout=log, stderr=log,
        )  # fmt: skip

    def _stop(self, name):
        if self._alive(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in psutil.Process(self.running[name].pid).children(recursive=True):
                    process.kill()
            self.running[name].kill()
            self.running[name].wait()


def is_worker(process):
    """A worker process was spawned by a nanny."""
    with contextlib.suppress(psutil.Error):
        return any("spawn_main" in part for part in process.cmdline())
    return False


def is_job(process):
    """The process that runs the epochs."""
    with contextlib.suppress(psutil.Error):
        return "optimise" in process.cmdline() and "pipeline" in process.cmdline()
    return False


class Run:
    """A copy of the repository with a tiny run in it, and the one command that runs it."""

    def __init__(self, folder, executor):
        self.folder = clone(folder)
        self.config = write_run(
            folder, files=3,
            optimise={"epochs": EPOCHS, "epochs_per_job": EPOCHS // BLOCKS, "learning_rate": 0.02},
            cluster={"executor": executor, "group_events": 50, "chunk_events": 64, "address": "tcp://nowhere"},
        )  # fmt: skip

    def command(self, address, *more):
        """Snakemake for the epochs of all blocks."""
        settings = f"set=cluster.address={address}" if address else "set="
        target = f"results/tiny/optimise/block_{BLOCKS}.npz"
        flags = ["--cores", "2", "--rerun-triggers", "mtime"]
        return [
            *(sys.executable, "-m", "snakemake", target, "--configfile", self.config.name, *flags),
            *("--config", settings, *more),
        ]

    def start(self, address, *more):
        """The command as a process of its own session."""
        return subprocess.Popen(
            self.command(address, *more), cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONPATH": f"{self.folder}:{SUPPORT}"}, start_new_session=True,
        )  # fmt: skip

    def clear(self):
        """Forget the epochs, keep the columns."""
        for name in ("optimise", "checkpoints"):
            shutil.rmtree(self.folder / "results" / "tiny" / name, ignore_errors=True)

    def result(self):
        """Final state, bytes by name."""
        path = self.folder / f"results/tiny/optimise/block_{BLOCKS}.npz"
        return {name: array.tobytes() for name, array in store.read_state(path)[0].items()}

    def logs(self):
        """What the jobs have written, by file."""
        return {path: path.read_text() for path in (self.folder / "results" / "tiny").rglob("*.log")}

    def damaged(self):
        """State files that cannot be read."""
        bad = []
        for path in (self.folder / "results" / "tiny").rglob("*.npz"):
            if path.name.startswith("."):
                continue
            try:
                store.read_state(path)
            except Exception as error:
                bad.append(f"{path}: {error}")
        return bad


def find(kind, process, daemons):
    """Processes that can be killed now."""
    if kind == "snakemake":
        return [psutil.Process(process.pid)]
    if daemons is not None and kind in ("worker", "nanny", "scheduler"):
        return daemons.processes(kind)
    with contextlib.suppress(psutil.NoSuchProcess):
        below = psutil.Process(process.pid).children(recursive=True)
        return [p for p in below if (is_job(p) if kind == "job" else kind == "worker" and is_worker(p))]
    return []


def disturbed(run, daemons, rng, kills, counts, messages):
    """Run to the end with `kills` kills on the way."""
    while True:
        address = daemons.ensure() if daemons else None
        process = run.start(address)
        while kills and process.poll() is None:
            kind = rng.choice([k for k in VICTIMS if daemons or k not in ("nanny", "scheduler")])
            while process.poll() is None and not find(kind, process, daemons):
                time.sleep(0.1)  # a worker is there only after a while
            time.sleep(rng.uniform(0.3, 6))
            victims = find(kind, process, daemons)
            if process.poll() is not None or not victims:
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(victims).send_signal(signal.SIGKILL)
                counts[kind] += 1
                kills -= 1
            if kind in ("nanny", "scheduler"):
                daemons.ensure()
        output = process.communicate()[0]
        stop_orphans(run.folder)
        for place, text in {"output": output, **run.logs()}.items():
            assert "Traceback" not in text, f"{place}:\n{text}"
        if process.returncode == 0:
            return
        reasons = [line for line in output.splitlines() if "error:" in line or "Lock" in line]
        messages.update(line.strip()[:100] for line in reasons)
        if "--unlock" in output or process.returncode == -signal.SIGKILL:
            run.start(address, "--unlock").communicate()


def stop_orphans(folder):
    """What a killed Snakemake left running; on a batch system such a job would be cancelled, or just end."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if process.info["cwd"] == str(folder) and any(
            "pipeline" in part for part in process.info["cmdline"] or ()
        ):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--kills-per-run", type=int, default=9)
    parser.add_argument("--executors", nargs="+", default=["local", "address"])
    parser.add_argument("--seed", type=int, default=6)
    options = parser.parse_args()
    rng, counts, messages = random.Random(options.seed), collections.Counter(), collections.Counter()
    runs, started = 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        for executor in options.executors:
            folder = Path(scratch) / executor
            folder.mkdir()
            run = Run(folder, executor)
            daemons = Daemons(folder) if executor == "address" else None
            try:
                output, _ = (process := run.start(daemons.ensure() if daemons else None)).communicate()
                assert process.returncode == 0, output
                expected = run.result()
                share = options.kills // len(options.executors)
                for number in range(0, share, options.kills_per_run):
                    run.clear()
                    kills = min(options.kills_per_run, share - number)
                    disturbed(run, daemons, rng, kills, counts, messages)
                    runs += 1
                    assert run.result() == expected, (
                        f"{executor}: other parameters than those of an undisturbed run"
                    )
                    assert not run.damaged(), run.damaged()
            finally:
                if daemons:
                    daemons.close()
            left = [p.name for p in folder.rglob("*.tmp")]
            print(
                f"{executor:8} the same bits after every run; {len(left)} temporary files left by killed writers"
            )
    print(
        f"{sum(counts.values())} kills in {runs} runs of {EPOCHS} epochs, {time.perf_counter() - started:.0f} s"
    )
    print("   ".join(f"{kind} {counts[kind]}" for kind in VICTIMS))
    for message, number in messages.most_common():
        print(f"{number:4} x  {message}")


if __name__ == "__main__":
    main()
