"""A run from Python: the stages of the workflow, with its files and its bits, so that it can go on from here.

Each stage is a process of its own, as in the workflow: nothing of JAX is set in this one, and a notebook that dies
loses no epoch.
"""

import concurrent.futures
import contextlib
import functools
import inspect
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import hist
import numpy as np
from jax.typing import ArrayLike

from pipeline import config as configuration
from pipeline.analysis import Analysis
from pipeline.config import written
from pipeline.config.targets import require_no_import
from pipeline.data import datasets, store
from pipeline.data.fingerprint import fingerprint_of, of_optimisation
from pipeline.data.names import INITIAL, OPTIMISED, Point
from pipeline.data.record import EpochRecord
from pipeline.data.run_files import block_of, column_files, folder_of, is_current, records_of_all
from pipeline.data.written import parsed
from pipeline.errors import ConfigError, InputError, RunError
from pipeline.evaluate.hist_objects import as_hist
from pipeline.evaluate.summary import Summary
from pipeline.gradient.sweeps import FreeValues
from pipeline.optimise.blocks import optimised
from pipeline.optimise.checkpoints import RECORDS
from pipeline.optimise.own_loop import Loss
from pipeline.simulate.generate import TREE
from pipeline.simulate.in_memory import as_files

POLLED = 0.3  # seconds between two looks at the records of a run
Callback = Callable[[EpochRecord], object]


class Optimised(NamedTuple):
    """What the epochs came to: the free parameters of the kept epoch, NumPy arrays, and a record of every epoch.

    With ``data.folds`` they are those of the first optimisation; ``Run.evaluate`` has all.
    """

    parameters: Mapping[str, np.ndarray]
    records: list[EpochRecord]


class Run:
    """A run of a configuration.

    Args:
        config: its YAML file.
        overrides: ``key=value``, as ``--set`` takes them.
        folder: in which ``results/<run>`` lies, as for the workflow the one in which it is called.

    Raises:
        ConfigError: the configuration cannot be; the message names the key.
    """

    def __init__(self, config: str | Path, *overrides: str, folder: str | Path = ".") -> None:
        require_no_import("begins a run")
        self.path, self.overrides, self.folder = Path(config).resolve(), overrides, Path(folder).resolve()
        with contextlib.chdir(self.folder):
            self.config = configuration.load(self.path, [*overrides])

    @classmethod
    def of(
        cls,
        analysis: type[Analysis],
        events: Mapping[str, Mapping[str, Any]],
        settings: Mapping[str, Any],
        folder: str | Path = ".",
    ) -> "Run":
        """Return the run of an analysis on events in memory.

        They are written as ROOT files, beside a manifest and the configuration, into a folder of the run's name.

        Args:
            analysis: a class in a file; what the processes of a run cannot import they cannot run.
            events: branches by sample, ``process`` or ``process__variation``: NumPy arrays, or jagged awkward ones.
            settings: all else of a configuration, see config/README.md, with ``run``, its name.

        Raises:
            ConfigError: there is no such file, or the configuration cannot be, or this is called where the file of the
                analysis is imported.
        """
        require_no_import("begins a run")
        if "run" not in settings:
            raise ConfigError("settings: 'run', the name of the run, is missing; add it")
        place = Path(folder).resolve() / str(settings["run"])
        manifest = {"manifest": str(as_files(events, place, getattr(analysis.reads, "tree", TREE)))}
        content = {
            **settings,
            "analysis": {**settings.get("analysis", {}), "target": _target(analysis)},
            "data": {**settings.get("data", {}), **manifest},
        }
        path = place / f"{settings['run']}.yaml"
        store.write_text(path, written(content))
        return cls(path, folder=folder)

    @functools.cached_property
    def loss(self) -> Loss:
        """What the epochs minimise, in this process; it needs the columns."""
        with contextlib.chdir(self.folder):
            return Loss.of(self.config, column_files(self.config))

    def columns(self, workers: int = 1) -> None:
        """Read the events, simulated before if need be, into rectangular columns; files that are up to date stay."""
        vars(self).pop("loss", None)  # it is of the columns as they were
        self._all_of(self._simulations(), workers)
        with contextlib.chdir(self.folder):
            jobs = [job for job in datasets.columns_jobs(self.config) if not is_current(self.config, job)]
            places = [str(store.Folder(self.config.run).columns(job.name)) for job in jobs]
        each = zip(jobs, places, strict=True)
        self._all_of(
            [
                ("columns", "--sample", job.sample, "--index", str(job.index), "--output", place)
                for job, place in each
            ],
            workers,
        )

    def optimise(self, workers: int = 1, callback: Callback | None = None) -> Optimised:
        """Run all epochs that are left, on columns that are made where they are not up to date.

        Args:
            workers: processes that share the events; the result is the same for any number.
            callback: called with the record of each epoch, soon after it.
        """
        self.columns(workers)
        for fold in datasets.optimisations(self.config):
            of_fold = () if fold is None else ("--fold", str(fold))
            where = folder_of(self.config, fold)
            for number in self._blocks_left(fold):
                command = ("optimise", "--block", str(number), *of_fold, "--output", str(where.block(number)))
                self._verb(*command, "--workers", str(workers), records=where.checkpoints, callback=callback)
        with contextlib.chdir(self.folder):
            files, first = column_files(self.config), datasets.optimisations(self.config)[0]
            found = optimised(self.config, files, first)
            records = records_of_all(self.config, fingerprint_of(self.config, files))[0]
        return Optimised({name: np.asarray(value) for name, value in found.items()}, records)

    def evaluate(self, workers: int = 1) -> Summary:
        """Judge start and result with exact cuts, on all events that are held out too, and fit with pyhf."""
        place = store.Folder(self.config.run)
        self._verb("evaluate", "--output", str(place.evaluation), "--workers", str(workers))
        return parsed(Summary, store.read_json(w := self.folder / place.summary), str(w), "evaluate again")

    def report(self) -> Path:
        """Draw what was evaluated; the path of the page."""
        place = store.Folder(self.config.run).root
        self._verb("report", "--output", str(place / "report.html"), "--figures", str(place / "figures"))
        return self.folder / place / "report.html"

    def histograms(self, point: Point = INITIAL) -> dict[str, "hist.Hist[Any]"]:
        """Return the exact templates of all events by channel: axes ``bin``, ``process``, ``variation``.

        Variances are the sums of squared weights of the nominal templates; those of variations are not known, NaN.
        """
        found = json.loads(self._verb("yields", "--parameters", point))
        return {
            channel: as_hist(found["edges"].get(channel), own, found["sumw2"][channel])
            for channel, own in found["yields"].items()
        }

    def workspace(
        self, point: Point = INITIAL, *, workers: int = 1, pseudodata: bool = False
    ) -> dict[str, Any]:
        """Return the pyhf workspace of the run's model on all events, with exact cuts, not fitted.

        Args:
            workers: processes that share the events.
            pseudodata: observe those of ``model.pseudodata`` in place of the Asimov data.
        """
        observed = ("--pseudodata",) if pseudodata else ()
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "workspace.json"
            command = ("--parameters", point, "--workers", str(workers), *observed, "--output", str(path))
            self._verb("workspace", *command)
            return dict(store.read_json(path))

    def bins(self, channel: str, point: Point = OPTIMISED) -> dict[str, Any]:
        """Return the learned bins of a channel by signal purity, for ``pipeline.analysis.assign``."""
        return dict(json.loads(self._verb("bins", "--channel", channel, "--parameters", point)))

    def _blocks_left(self, fold: int | None) -> list[int]:
        """Return the blocks of an optimisation from the first one on that is not there, counted from 1."""
        left = list(range(1, self.config.optimise.jobs + 1))
        with contextlib.chdir(self.folder), contextlib.suppress(InputError):
            fingerprint = of_optimisation(fingerprint_of(self.config, column_files(self.config)), fold)
            while left:
                block_of(self.config, fingerprint, left[0], fold)
                left.pop(0)
        return left

    def _simulations(self) -> list[tuple[str, ...]]:
        """Return the commands that make events which are not there."""
        section = self.config.simulate
        found: list[tuple[str, ...]] = []
        for sample, plan in section.samples.items() if section else ():
            for index in range(plan.files):
                path = datasets.simulated_path(self.config, sample, index)
                if not (self.folder / path).exists():
                    found.append(
                        ("simulate", "--sample", sample, "--index", str(index), "--output", str(path))
                    )
        return found

    def _all_of(self, commands: list[tuple[str, ...]], workers: int) -> None:
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(self._verb, *command) for command in commands]:
                done.result()

    def _verb(
        self, verb: str, *options: str, records: Path | None = None, callback: Callback | None = None
    ) -> str:
        """Run a verb of the command line; what it prints.

        Raises:
            RunError: it failed; with its message.
        """
        overrides = (part for override in self.overrides for part in ("--set", override))
        command = [sys.executable, "-m", "pipeline", verb, str(self.path), *overrides, *options]
        with (
            subprocess.Popen(
                command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
            ) as process,
            concurrent.futures.ThreadPoolExecutor(1) as reader,
        ):
            said = reader.submit(process.communicate)
            try:
                if callback is not None and records is not None:
                    _follow(self.folder / records, said, callback)
                printed, messages = said.result()
            except BaseException:
                process.terminate()  # or the reader would wait for its end
                raise
        if process.returncode:
            errors = [line for line in messages.splitlines() if line.startswith("error: ")]
            raise RunError(f"{verb}: {(errors or [messages.strip()])[-1].removeprefix('error: ')}")
        return printed


def value_and_grad(
    run: Run, parameters: Mapping[str, ArrayLike], epoch: int | None = None
) -> tuple[float, FreeValues]:
    """Return what a run minimises at some parameters and its derivatives, over all training events, for your own loop.

    It is computed in this process, in float64 whatever JAX is set to. See ``Loss.value_and_grad``; ``run.loss.initial``
    are the start values, and ``run.loss.exact`` is the same with hard cuts.
    """
    return run.loss.value_and_grad(parameters, epoch)


def _follow(folder: Path, end: "concurrent.futures.Future[Any]", callback: Callback) -> None:
    """Hand the records of new epochs to a callback until a run ends."""
    path, seen = folder / RECORDS, 0
    known = {record.epoch for record in _records_in(path)}
    while True:
        ended = end.done()
        changed = path.stat().st_mtime_ns if path.exists() else 0
        if changed != seen:
            seen = changed
            for record in _records_in(path):
                if record.epoch not in known:
                    known.add(record.epoch)
                    callback(record)
        if ended:
            return
        time.sleep(POLLED)


def _records_in(path: Path) -> list[EpochRecord]:
    """Return the whole lines of a file of records."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    contents = [json.loads(line) for line in lines if line.endswith("\n")]
    return [parsed(EpochRecord, c["record"], str(path), "run again") for c in contents if "record" in c]


def _target(analysis: type[Analysis]) -> str:
    """Return how a configuration names a class: the file that its methods are in, and its name."""
    methods = [member for member in vars(analysis).values() if inspect.isfunction(member)]
    files = {Path(method.__code__.co_filename) for method in methods}
    source = files.pop() if len(files) == 1 else None
    if source is None or not source.is_file():
        raise ConfigError(
            f"{analysis.__name__} is in no file, and the processes of a run import it from there; write it to one "
            "(in a notebook begin the cell with %%writefile my_analysis.py) and import it"
        )
    return f"{source.resolve()}:{analysis.__qualname__}"
