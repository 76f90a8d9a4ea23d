"""Where the sweeps run, and in which pieces."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from pipeline.config.section import MOST, Section

# Of a GPU as many as its cores want; the largest arrays of so many stay below 1 GB, for `variations_mb` bounds them.
CHUNK_EVENTS = {"cpu": 2048, "gpu": 65536}
GROUP_EVENTS, GROUP_CHUNKS = 32768, 8


class Tls(Section):
    """Certificates for the traffic between scheduler, workers and this process."""

    ca_file: str = Field(description="certificate of the authority that signed the others, PEM")
    certificate: str = Field(description="certificate of every process of the run, PEM")
    key: str = Field(description="its private key, PEM; readable by you alone")


class BatchJob(Section):
    """What a worker asks the batch system for, besides one core and its memory."""

    partition: str | None = Field(
        default=None, description="Slurm; absent: that of the job this runs in, else the site's default"
    )
    account: str | None = Field(
        default=None, description="Slurm account or HTCondor accounting group; absent: as for `partition`"
    )
    walltime_minutes: int = Field(default=240, ge=1, description="longest life of a worker")
    disk_mb: int = Field(default=4000, ge=1, description="HTCondor: scratch space")
    options: tuple[str, ...] = Field(
        default=(),
        description="further lines, as `--constraint=avx2` for Slurm or `requirements = HasAvx` for HTCondor",
    )


class Cluster(Section):
    """Where the sweeps run."""

    executor: Literal["in_process", "local", "slurm", "slurm_allocation", "htcondor", "address"] = Field(
        default="local",
        description="this process; processes of this machine; workers that are Slurm jobs of their own; other tasks "
        "of the Slurm job this runs in; workers that are HTCondor jobs; those of a Dask scheduler that runs already",
    )
    address: str | None = Field(default=None, description="of the scheduler, for `address`")
    workers: int = Field(
        default=4,
        ge=1,
        le=MOST,
        description="worker processes of `slurm`, `slurm_allocation` and `htcondor`; lost ones are replaced. Those of "
        "`local` are the rule's threads, or the GPUs",
    )
    max_workers: int | None = Field(
        default=None, ge=1, description="`slurm` and `htcondor` grow to so many while there is work"
    )
    wait_minutes: float = Field(
        default=60.0,
        gt=0,
        le=1_000_000,
        description="how long a sweep waits for its first worker before the run ends",
    )
    device: Literal["cpu", "gpu"] = Field(
        default="cpu", description="what a worker computes on; `gpu`: one worker per device"
    )
    precision: Literal["float64", "float32"] = Field(
        default="float64",
        description="of relaxed selection and observables; exact ones are in the columns' own types, sums over "
        "events in float64 always",
    )
    memory_mb: int | None = Field(
        default=None,
        ge=1,
        description="memory of a worker, half of it for events; what does not fit is read from `scratch` in every "
        "sweep. Absent: an equal share of the machine's for `local`, 4000 for batch jobs",
    )
    variations_mb: int = Field(
        default=256,
        ge=1,
        description="memory for the variations of a chunk that are observed at once; more of them come in blocks, one "
        "after the other. Besides `memory_mb`'s half for events",
    )
    scratch: str | None = Field(
        default=None,
        description="folder on a local disk for events that do not fit in memory; absent: TMPDIR",
    )
    interface: str | None = Field(
        default=None, description="network interface of scheduler and workers, as `ib0`; absent: Dask chooses"
    )
    port: int = Field(
        default=0, ge=0, le=65535, description="of the scheduler that this process starts; 0: any free one"
    )
    tls: Tls | None = Field(
        default=None,
        description="certificates; absent: made for each run; `address` has to be given its scheduler's",
    )
    job: BatchJob = BatchJob()
    chunk_events: int | None = Field(
        default=None,
        ge=1,
        description="events per compiled call; the largest array of the analysis should stay in a processor's cache, "
        f"and fill a GPU. Absent: {CHUNK_EVENTS['cpu']}, on a GPU {CHUNK_EVENTS['gpu']}",
    )
    objects: dict[str, tuple[Annotated[int, Field(ge=1)], ...]] = Field(
        default={},
        description="per collection of the analysis, numbers of objects that chunks are trimmed to: events with fewer "
        "objects go into narrower chunks; one more compilation each",
    )
    group_events: int | None = Field(
        default=None,
        ge=1,
        description="events, about, that are cut into chunks together and move together between workers. Absent: "
        f"{GROUP_EVENTS}, or {GROUP_CHUNKS} chunks where that is more",
    )

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Cluster":
        if self.executor == "address" and not self.address:
            raise ValueError("executor 'address' needs cluster.address, as in tcp://host:8786")
        if self.max_workers is not None and self.max_workers < self.workers:
            raise ValueError(
                f"max_workers {self.max_workers} is less than workers {self.workers}; raise it or leave it out"
            )
        for name, sizes in self.objects.items():
            if list(sizes) != sorted(set(sizes)):
                raise ValueError(f"objects.{name} {list(sizes)} must be ascending numbers")
        return self

    @property
    def events_per_chunk(self) -> int:
        """``chunk_events``, or what the device wants."""
        return self.chunk_events or CHUNK_EVENTS[self.device]

    @property
    def events_per_group(self) -> int:
        """``group_events``, or enough for several chunks."""
        return self.group_events or max(GROUP_EVENTS, GROUP_CHUNKS * self.events_per_chunk)

    @property
    def numerics(self) -> dict[str, object]:
        """What decides the last bits of the result, as plain JSON; where it runs does not."""
        kept = self.model_dump(mode="json", include={"device", "precision", "variations_mb", "objects"})
        return {**kept, "chunk_events": self.events_per_chunk, "group_events": self.events_per_group}
