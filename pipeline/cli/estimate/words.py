"""What an estimate says of itself: what was measured, what was extrapolated from it, and what nobody can know."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.cli.estimate.prediction import PER_WORKER, Machine, Measured, waiting
from pipeline.cli.estimate.sample import PlannedFile, Sampled
from pipeline.config import Config
from pipeline.gradient.work import Work

BATCH = ("slurm", "slurm_allocation", "htcondor", "address")


def measured(samples: Mapping[str, Sampled], found: Measured) -> Iterator[str]:
    """Yield what was measured."""
    for name, own in samples.items():
        how = "column file of the run" if own.reading is None else "read for this estimate"
        yield f"{name}: {own.entries} entries of {own.place} ({how}), {own.passing} pass the preselection"
    for shape, seconds in found.chunks.items():
        warm = (seconds.forward.warm, seconds.pullback.warm, seconds.exact.warm)
        cost = ", ".join(f"{1e3 * each:.3g}" for each in warm)
        yield (
            f"chunks of {shape.events} events and {shape.size / 1e3:.3g} kB with {len(shape.variations)} variations: "
            f"{cost} ms (forward, pullback, exact), each the median of warm sweeps"
        )
    if found.model.centre is not None:
        centre = found.model.centre
        yield f"likelihood, fit and objective: {centre.warm:.3g} s, and {centre.compiling:.3g} s of compiling"
    if found.model.toys is not None:
        toys = found.model.toys
        yield f"a block of {toys.toys} toys: {toys.block:.3g} s, and {toys.compiling:.3g} s of compiling"
    if found.pool is not None:
        pool = found.pool
        yield (
            f"{pool.workers} workers of this machine: {pool.starting:.3g} s to start, {1e3 * pool.empty_sweep:.3g} ms "
            f"for a sweep of nothing, and chunks take {pool.slowdown:.3g} times as long as in one process"
        )
    yield f"a process imports for {found.start:.3g} s; an event of a column file is read in {1e6 * found.read:.3g} us"


def extrapolated(
    config: Config, files: Sequence[PlannedFile], found: Measured, machine: Machine, workers: Sequence[int]
) -> Iterator[str]:
    """Yield what was concluded from the measurement."""
    left = [own for own in files if own.made_of is None]
    if left:
        yield (
            f"preselected events, disk and seconds of {len(left)} of {len(files)} files, by their entries, "
            "from those of the same sample that were read"
        )
    if any(own.file.entries is None for own in left):
        yield "the manifest does not say how many events each file has: as many as the one that was looked at"
    if any(own.file.checksum for own in left):
        yield "checksums are not verified here; the columns stage does, which reads every file once more"
    yield "seconds of sweeps and memory of events, by the chunks of each shape that all files will make"
    most = found.pool.workers if found.pool else 1
    if max(workers) > most:
        where = (
            "which share its cores" if machine.cores is not None else "as if the others had cores like these"
        )
        each = f"{1e3 * PER_WORKER:.2g} ms of a sweep for each (docs/cluster.md)"
        yield f"more than {most} workers of this machine, {where}; {each}"
    if found.model.toys is not None:
        yield f"{config.evaluate.toys} toys of each kind, by the blocks of them, of a model of so few events"
    if config.optimise.leading != "all":
        yield "epochs as if they observed all systematics: with optimise.leading most of them take less"
    if config.alternatives:
        yield "evaluate as if the models of evaluate.also had the variations of the run's own, and no fits"


def unknown(
    config: Config, works: Mapping[str, Work], found: Measured, workers: Sequence[int]
) -> Iterator[str]:
    """Yield what cannot be known here."""
    if found.model.centre is None:
        yield (
            f"the objective has no value on so few events, so the centre, its compilation and all fits are missing: "
            f"{found.model.reason}"
        )
    if config.cluster.executor in BATCH:
        yield "how long the batch system lets jobs wait, how fast its machines and its network are"
    if config.cluster.device == "gpu":
        yield "cluster.device is gpu: these numbers are of the device that JAX found on this machine"
    if (number := waiting(works, workers)) is not None:
        yield (
            f"why you want {number} workers: there are {len(works['train'].groups)} groups of events, and a worker "
            "without one waits; lower cluster.group_events"
        )
    yield "simulation, report, and the memory of the process that optimises are not counted"
