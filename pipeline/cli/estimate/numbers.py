"""The numbers of an estimate, as they are written."""

from pipeline.data.names import Fold
from pipeline.data.written import Written


class Sources(Written):
    """What a run reads: ROOT files, the jobs that read them, entries, and how many pass the preselection."""

    files: int
    jobs: int
    jobs_left: int  # without a column file of this very run
    entries: int
    preselected: dict[Fold, int]
    groups: int  # of the training fold; a worker without one waits


class Stages(Written):
    """Seconds of the stages of a run, and of the whole run."""

    columns: float
    optimise: float
    evaluate: float
    run: float


class Epoch(Written):
    """Seconds of an epoch when all is compiled; ``between`` is what sweeps and updates take besides."""

    forward: float
    centre: float
    pullback: float
    between: float
    whole: float


class Memory(Written):
    """Megabytes of a worker: all that is its own, of which the events, and those that are on disk for want of room."""

    optimise: float
    optimise_events: float
    evaluate: float
    evaluate_events: float
    scratch: float


class Traffic(Written):
    """Kilobytes of an epoch: what comes to a worker and goes from it, and the same of the process that optimises."""

    to_worker: float
    from_worker: float
    to_centre: float
    from_centre: float


class ForWorkers(Written):
    """What a run costs with so many workers."""

    workers: int
    seconds: Stages
    epoch: Epoch
    compiling: float
    core_hours: float
    memory_mb: Memory
    traffic_kb: Traffic


class Disk(Written):
    """Megabytes of what a run leaves, besides the scratch files of its workers."""

    columns: float
    programs: float
    states: float


class Estimate(Written):
    """What a run costs, and how far the numbers can be trusted."""

    run: str
    executor: str
    epochs: int
    events: Sources
    disk_mb: Disk
    by_workers: tuple[ForWorkers, ...]
    measured: tuple[str, ...]
    extrapolated: tuple[str, ...]
    unknown: tuple[str, ...]
