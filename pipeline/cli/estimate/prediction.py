"""What was measured on a few files, and the plan of all of them -> what the run costs for a number of workers."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.analysis import analysis_of
from pipeline.cli.estimate.numbers import Epoch, ForWorkers, Memory, Stages, Traffic
from pipeline.cli.estimate.pool import Together, shares, shares_of_programs, slowdown, until_all_are_done
from pipeline.cli.estimate.programs import ChunkSeconds, OfModel, judged
from pipeline.cli.estimate.shapes import ChunkShape, Seen
from pipeline.config import Config
from pipeline.data import datasets
from pipeline.data.datasets import ALL, TRAIN
from pipeline.evaluate.robustness.toys import experiments_of
from pipeline.fit.toys import blocks_of
from pipeline.gradient.work import Work

PER_WORKER = (
    0.0038  # seconds of a sweep for each further worker: docs/cluster.md, where up to eight were measured
)
MEGA, KILO = 1e6, 1e3


class Machine(NamedTuple):
    """Where a run will be: cores that its workers share, None for those of a batch system, which have one each."""

    cores: int | None
    budget: Mapping[int, float]  # bytes of events that a worker keeps in memory, by the number of workers


class Measured(NamedTuple):
    """All that was measured: of chunks, of the model, of workers, and of a job.

    ``start`` is the seconds of a process until it works, ``read`` those of an event of the column files, ``columns``
    those of all ``columns`` jobs; ``memory`` is the bytes of a process without events, ``judging`` in ``evaluate``.
    """

    found: Seen
    chunks: Mapping[ChunkShape, ChunkSeconds]
    model: OfModel
    pool: Together | None
    start: float
    read: float
    columns: float
    memory: float
    judging: float


def predicted(
    config: Config, works: Mapping[str, Work], measured: Measured, machine: Machine, workers: int
) -> ForWorkers:
    """Return what a run costs with a number of workers.

    Args:
        works: of the events of an optimisation, of those that are judged, and of all.
    """
    epoch = _epoch(works[TRAIN], measured, machine, workers)
    settings = config.optimise
    together = slowdown(measured.pool, _at_once(machine, workers), machine.cores)
    compiling = _compiling(config, works[TRAIN], measured, machine, workers)
    reading = measured.read * together / _at_once(machine, workers)
    begin = measured.start + (measured.pool.starting if measured.pool else 0.0)
    jobs = settings.jobs * (begin + works[TRAIN].events * reading)
    looks = settings.starts * settings.checks * _look(works[TRAIN], measured, machine, workers)
    each = jobs + settings.all_epochs * epoch.whole + looks
    optimise = compiling + len(datasets.optimisations(config)) * each
    evaluate = begin + _evaluate(config, works, measured, machine, workers)
    columns = measured.columns * together / _at_once(machine, workers)
    seconds = Stages(columns=columns, optimise=optimise, evaluate=evaluate, run=columns + optimise + evaluate)
    return ForWorkers(
        workers=workers,
        seconds=seconds,
        epoch=epoch,
        compiling=compiling,
        core_hours=_at_once(machine, workers) * (columns + optimise + evaluate) / 3600,
        memory_mb=_memory(config, works, measured, machine.budget[workers], workers),
        traffic_kb=_traffic(measured.model, workers),
    )


def evaluated_folds(config: Config) -> list[str]:
    """Return the events that ``evaluate`` holds: of all folds, and once more for a fit to pseudodata.

    Those of ``data.folds`` are held once.
    """
    again = config.model.pseudodata and config.data.folds is None
    return [*datasets.folds(config), *([ALL] if again else [])]


def _epoch(work: Work, measured: Measured, machine: Machine, workers: int) -> Epoch:
    forward = _sweep(
        work, measured, machine, workers, {s: t.forward.warm for s, t in measured.chunks.items()}
    )
    back = _sweep(work, measured, machine, workers, {s: t.pullback.warm for s, t in measured.chunks.items()})
    centre = measured.model.centre.warm if measured.model.centre else 0.0
    empty = _empty_sweep(measured, workers)
    between = 2 * empty + measured.model.update
    return Epoch(
        forward=forward,
        centre=centre,
        pullback=back,
        between=between,
        whole=forward + centre + back + between,
    )


def _look(work: Work, measured: Measured, machine: Machine, workers: int) -> float:
    """Return seconds of a check of the exact objective."""
    exact = {s: t.exact.warm for s, t in measured.chunks.items()}
    centre = measured.model.centre.warm if measured.model.centre else 0.0
    return _sweep(work, measured, machine, workers, exact) + centre + _empty_sweep(measured, workers)


def _sweep(
    work: Work, measured: Measured, machine: Machine, workers: int, seconds: Mapping[ChunkShape, float]
) -> float:
    """Return seconds of a sweep: until the worker with most to do is done."""
    loads = shares(work.groups, workers, measured.found, seconds)
    return until_all_are_done(loads, measured.pool, machine.cores)


def _at_once(machine: Machine, workers: int) -> int:
    """Return how many workers work at the same time."""
    return workers if machine.cores is None else min(workers, machine.cores)


def _empty_sweep(measured: Measured, workers: int) -> float:
    pool = measured.pool
    return 0.0 if pool is None else pool.empty_sweep + PER_WORKER * max(0, workers - pool.workers)


def _compiling(config: Config, work: Work, measured: Measured, machine: Machine, workers: int) -> float:
    """Return seconds of compiling before the first epoch: the sweeps, exact ones for checks, then the objective."""
    is_checked = config.optimise.check_every is not None
    each = {
        s: t.forward.compiling + t.pullback.compiling + is_checked * t.exact.compiling
        for s, t in measured.chunks.items()
    }
    loads = shares_of_programs(work.groups, workers, measured.found, each)
    centre = measured.model.centre.compiling if measured.model.centre else 0.0
    return until_all_are_done(loads, measured.pool, machine.cores) + centre


def _evaluate(
    config: Config, works: Mapping[str, Work], measured: Measured, machine: Machine, workers: int
) -> float:
    """Return seconds of exact and relaxed templates, of bootstrap samples, fits, certificate, polish and refits."""
    exact = {s: t.exact.warm for s, t in measured.chunks.items()}
    relaxed = {s: t.forward.warm for s, t in measured.chunks.items()}
    empty = _empty_sweep(measured, workers)
    centre = measured.model.centre.warm if measured.model.centre else 0.0
    together = slowdown(measured.pool, _at_once(machine, workers), machine.cores)
    compiling = {s: t.exact.compiling for s, t in measured.chunks.items()}
    loads = shares_of_programs(works[TRAIN].groups, workers, measured.found, compiling)
    points = len(datasets.evaluated_points(config))
    total = measured.model.fits + until_all_are_done(loads, measured.pool, machine.cores)
    for fold in judged(config):
        for each in (exact, relaxed):
            total += points * (_sweep(works[fold], measured, machine, workers, each) + empty)
    if config.model.pseudodata:
        total += points * (_sweep(works[ALL], measured, machine, workers, exact) + empty)
    last = works[datasets.folds(config)[-1]]
    free = analysis_of(config).parameters
    cuts = (
        len(config.widths.keys() & free.keys()) if config.data.folds is None else 0
    )  # a plateau is looked for
    total += cuts * (_sweep(works[TRAIN], measured, machine, workers, exact) + empty)
    replica = _sweep(last, measured, machine, workers, exact) + empty + centre
    total += config.evaluate.bootstrap * points * replica
    look = _sweep(works[TRAIN], measured, machine, workers, exact) + empty + centre
    total += _looks(config) * look
    if config.evaluate.refits:
        refit = config.optimise.all_epochs * _epoch(works[TRAIN], measured, machine, workers).whole
        total += config.evaluate.refits * refit
    total += _toys(config, measured, together, _at_once(machine, workers))
    read = sum(works[fold].events for fold in evaluated_folds(config))
    return total + read * measured.read * together / _at_once(machine, workers)


def _toys(config: Config, measured: Measured, together: float, workers: int) -> float:
    """Return seconds of all toys; the blocks of an experiment are shared, the worker with most of them ends it."""
    own = measured.model.toys
    if own is None:
        return 0.0
    rounds = -(-len(blocks_of(config.evaluate.toys)) // workers)
    return own.compiling + experiments_of(config) * rounds * own.block * together


def _looks(config: Config) -> int:
    """Return how often the certificate and all rounds of polish look at a point, without what looks better there."""
    asked = config.evaluate
    sampled = 1 + asked.certificate_replicas
    scanned = len(analysis_of(config).parameters) * asked.certificate
    certificate = (scanned + 1) * sampled if asked.certificate else 0
    return certificate + (asked.polish * scanned + sampled if asked.polish else 0)


def _memory(
    config: Config, works: Mapping[str, Work], measured: Measured, budget: float, workers: int
) -> Memory:
    sizes = {shape: float(shape.size) for shape in measured.chunks}
    events = {fold: max(shares(work.groups, workers, measured.found, sizes)) for fold, work in works.items()}
    train, judged = events[TRAIN], sum(events[fold] for fold in evaluated_folds(config))
    kept, kept_judged = min(train, budget), min(judged, budget)
    return Memory(
        optimise=(measured.memory + kept) / MEGA,
        optimise_events=kept / MEGA,
        evaluate=(measured.judging + kept_judged) / MEGA,
        evaluate_events=kept_judged / MEGA,
        scratch=max(0.0, judged - budget) / MEGA if math.isfinite(budget) else 0.0,
    )


def _traffic(model: OfModel, workers: int) -> Traffic:
    """Return what both sweeps of an epoch send; nothing of it grows with the events."""
    sent = sum(sweep.sent for sweep in model.traffic)
    alone = workers == 1
    return Traffic(
        to_worker=sent / KILO,
        from_worker=sum(sweep.received if alone else sweep.shared for sweep in model.traffic) / KILO,
        to_centre=sum(sweep.received for sweep in model.traffic) / KILO,
        from_centre=sent / KILO,
    )


def waiting(works: Mapping[str, Work], workers: Sequence[int]) -> int | None:
    """Return the first number of workers of which some have no group, if there is one."""
    return next((number for number in sorted(workers) if number > len(works[TRAIN].groups)), None)
