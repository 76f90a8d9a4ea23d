"""What thousands of small ROOT files cost before an event is looked at: `snakemake -n`, and the jobs that read them.

From the repository: `.venv/bin/python tests/benchmarks/many_files.py`; by `--nanoaod FILE` with copies of a file of
NanoAOD, of 200 events, and the selection of `agc_ttbar`. All jobs of a sample but the last are alike, so one is run.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]
import rootfiles

from pipeline import config
from pipeline.data import datasets

EVENTS = 200  # of a file
PROMISED = 10_000  # files: what all costs is given for so many


def run_of(folder: Path, number: int, nanoaod: Path | None) -> Path:
    """The configuration of a run on so many files of signal, copies of one."""
    path = rootfiles.write_run(folder)
    original = nanoaod or rootfiles.write(folder / "original.root", events=EVENTS)
    content = original.read_bytes()
    files = []
    for index in range(number):
        copy = folder / f"copy_{index:05d}.root"
        copy.write_bytes(content)
        files.append({"path": str(copy), "nevts": EVENTS})
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "signal": {"nominal": {"files": files}}}))
    if nanoaod:
        settings = yaml.safe_load(path.read_text())
        settings["analysis"] = {"target": "pipeline.analyses.agc_ttbar:AgcTtbar"}
        settings["channels"] = {"4j1b": {}}
        settings["widths"], settings["model"]["systematics"] = {}, []
        path.write_text(yaml.safe_dump(settings))
    return path


def timed(folder: Path, *command: str) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(number: int, overrides: list[str], nanoaod: Path | None) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = run_of(folder, number, nanoaod)
        jobs = [j for j in datasets.columns_jobs(config.load(path, overrides)) if j.sample == "signal"]
        snakemake = [str(Path(sys.executable).parent / "snakemake"), "--snakefile", str(ROOT / "Snakefile")]
        given = ["--config", f"set={json.dumps(overrides)}"] if overrides else []
        dry, _ = timed(folder, *snakemake, "-n", "--quiet", "--cores", "1", "--configfile", str(path), *given)
        sets = [word for override in overrides for word in ("--set", override)]
        _, job = timed(
            folder, sys.executable, "-m", "pipeline", "columns", str(path), *sets,
            "--sample", "signal", "--index", "0", "--output", "columns.parquet",
        )  # fmt: skip
    hours = job / len(jobs[0].files) * PROMISED / 3600
    return f"{number:6d} {len(jobs):6d} {len(jobs[0].files):10d} {dry:16.1f} {job:13.1f} {hours:24.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, nargs="+", default=[200, 2000, 10_000])
    parser.add_argument("--alone", action="store_true", help="every file in a job of its own")
    parser.add_argument(
        "--nanoaod", type=Path, help="a file of NanoAOD to copy, in place of a flat one of 4 branches"
    )
    options = parser.parse_args()
    overrides = [f"data.max_events_per_job={EVENTS}"] if options.alone else []
    print(" files   jobs  in a job  snakemake -n [s]  job [CPU s]  10 000 files [CPU hours]")
    for number in options.files:
        print(measure(number, overrides, options.nanoaod), flush=True)


if __name__ == "__main__":
    main()
