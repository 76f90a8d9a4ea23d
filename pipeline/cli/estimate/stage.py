"""The estimate of a run: a look at its files, a short measurement on some of their events, and the arithmetic."""

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from jax.experimental.compilation_cache import compilation_cache

from pipeline.analysis import analysis_of
from pipeline.cli.estimate import words
from pipeline.cli.estimate.numbers import Disk, Estimate, Sources
from pipeline.cli.estimate.pool import OF_COLUMNS, OF_SWEEPS, cores, process_start, together
from pipeline.cli.estimate.prediction import Machine, Measured, predicted
from pipeline.cli.estimate.programs import chunk_seconds, of_model, own_memory
from pipeline.cli.estimate.sample import PlannedFile, Sampled, files_of, reading_of, samples_of
from pipeline.cli.estimate.shapes import planned, seen, small_work
from pipeline.cluster.workers import budget, keep_programs
from pipeline.config import Config
from pipeline.data import datasets
from pipeline.data.datasets import ALL, TRAIN
from pipeline.data.names import CROSS_FITTED
from pipeline.errors import ConfigError
from pipeline.gradient.resident import Resident
from pipeline.gradient.work import Work, check_surrogate, check_variations_used
from pipeline.optimise.automatic_widths import with_all_widths
from pipeline.optimise.checkpoints import KEPT
from pipeline.optimise.parameters import initial_parameters

logger = logging.getLogger(__name__)
LOCAL = ("in_process", "local")  # executors whose workers share the cores of this machine


class Plan(NamedTuple):
    """What a run reads, what is known of each sample, and the work that this makes, by fold."""

    files: Sequence[PlannedFile]
    samples: Mapping[str, Sampled]
    works: Mapping[str, Work]


def estimate(
    config: Config, workers: Sequence[int], *, seconds: float, memory_mb: int | None = None
) -> Estimate:
    """Return what a run costs for some numbers of workers.

    Args:
        seconds: for the measurement, about, besides compiling and the start of workers.
        memory_mb: of this machine that workers may use together; None: all of it.

    Raises:
        ConfigError: a run of one process with several workers, or a stage without a derivative.
        InputError: a sample of which no file can be read here.
    """
    _check(config, workers)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        plan = plan_of(config, folder, seconds / 3)
        first = small_work(config, plan.samples, plan.works[TRAIN], first_training(config))
        config = with_all_widths(config, first, initial_parameters(config))
        with _programs_in(folder / "programs"):
            measured = _measured(config, plan, first, folder, workers, seconds / 3)
        programs = sum(path.stat().st_size for path in (folder / "programs").rglob("*") if path.is_file())
        return _assembled(config, plan, measured, workers, memory_mb, programs)


def plan_of(config: Config, folder: Path, seconds: float) -> Plan:
    """Return what a run reads and does; column files that it has not got for a sample are made in a folder."""
    samples = samples_of(config, folder, seconds)
    files = files_of(config, samples)
    events = {fold: fold for fold in [*datasets.folds(config), ALL]}
    if config.data.folds is not None:
        events |= {TRAIN: first_training(config), CROSS_FITTED: ALL}
    works = {fold: planned(config, files, samples, own) for fold, own in events.items()}
    return Plan(files, samples, works)


def first_training(config: Config) -> str:
    """Return the events of the first optimisation; those of others are about as many."""
    return datasets.training(config, datasets.optimisations(config)[0])


def _check(config: Config, workers: Sequence[int]) -> None:
    check_surrogate(config)
    check_variations_used(config)
    if analysis_of(config).simulated is not None:
        raise ConfigError(
            f"{config.analysis.target} has a stage without a derivative, and what its calls cost is not known before "
            "a run; run one epoch with --set optimise.epochs=1 and look at its seconds"
        )
    if config.cluster.executor == "in_process" and max(workers) > 1:
        raise ConfigError(
            f"cluster.executor is in_process, which is one process; {max(workers)} workers need another one, as in "
            "--set cluster.executor=local"
        )


@contextlib.contextmanager
def _programs_in(folder: Path) -> Iterator[None]:
    """Keep compiled programs in a folder for a while; where the user has chosen another one, there."""
    before = jax.config.values["jax_compilation_cache_dir"]
    keep_programs(folder)
    try:
        yield
    finally:
        if before is None:
            jax.config.update("jax_compilation_cache_dir", None)
            compilation_cache.reset_cache()  # or the next program would be written there


def _measured(
    config: Config, plan: Plan, work: Work, folder: Path, workers: Sequence[int], seconds: float
) -> Measured:
    parameters, resident = initial_parameters(config), Resident()
    started = time.perf_counter()
    found = seen(resident, work)
    read = (time.perf_counter() - started) / work.events
    logger.info(
        f"measuring on {work.events} preselected events, in chunks of {len(found.shares)} shapes; compiling each of "
        "them takes most of the time"
    )
    chunks = chunk_seconds(config, work, found, parameters, seconds)
    memory = float(own_memory() - resident.used)
    model = of_model(config, resident, work, parameters, folder, seconds / 10)
    pool = None
    if config.cluster.executor != "in_process":
        count = min(max(workers), cores())
        logger.info(f"the same events on {count} workers of this machine")
        pool = together(config, count, work, parameters, found, chunks, folder)
    start = process_start(OF_SWEEPS)
    columns = _columns(config, plan, folder, process_start(OF_COLUMNS), seconds)
    whole, judging = (pool.memory, pool.judging) if pool else (memory, memory)
    return Measured(found, chunks, model, pool, start, read, columns, whole, judging)


def _columns(config: Config, plan: Plan, folder: Path, start: float, seconds: float) -> float:
    """Return seconds of a core for the ``columns`` jobs that are left."""
    readings = {name: own.reading for name, own in plan.samples.items() if own.reading is not None}
    other = next(iter(readings.values()), None) or reading_of(config, plan.files, folder, seconds)
    total = 0.0
    for own in plan.files:
        reading = readings.get(own.file.sample, other)
        if own.made_of is None and reading is not None:
            total += reading.opening + reading.per_entry * own.entries
            total += start + reading.first if own.number == 0 else 0.0
    return total


def _assembled(
    config: Config,
    plan: Plan,
    measured: Measured,
    workers: Sequence[int],
    memory_mb: int | None,
    programs: int,
) -> Estimate:
    alone = config.cluster.executor == "in_process"
    budgets = {n: budget(config.cluster, 1 if alone else n, memory_mb) for n in workers}
    machine = Machine(cores() if config.cluster.executor in LOCAL else None, budgets)
    columns = sum(plan.samples[own.file.sample].bytes_per_entry * own.entries for own in plan.files)
    kept = KEPT + config.optimise.jobs
    kept += config.optimise.all_epochs // config.optimise.keep_every if config.optimise.keep_every else 0
    return Estimate(
        run=config.run,
        executor=config.cluster.executor,
        epochs=config.optimise.all_epochs,
        events=_sources(config, plan),
        disk_mb=Disk(
            columns=columns / 1e6,
            programs=programs / 1e6,
            states=len(datasets.optimisations(config)) * kept * measured.model.state_bytes / 1e6,
        ),
        by_workers=tuple(predicted(config, plan.works, measured, machine, n) for n in workers),
        measured=tuple(words.measured(plan.samples, measured)),
        extrapolated=tuple(words.extrapolated(config, plan.files, measured, machine, workers)),
        unknown=tuple(words.unknown(config, plan.works, measured, workers)),
    )


def _sources(config: Config, plan: Plan) -> Sources:
    return Sources(
        files=len({own.file.path for own in plan.files}),
        jobs=len({own.job.name for own in plan.files}),
        jobs_left=len({own.job.name for own in plan.files if own.made_of is None}),
        entries=sum(own.entries for own in plan.files),
        preselected={fold: plan.works[fold].events for fold in datasets.folds(config)},
        groups=len(plan.works[TRAIN].groups),
    )
