"""What one job of the ``columns`` stage reads: a range of a large ROOT file, or several small files of a sample."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from pipeline.data.manifest import Listed
from pipeline.errors import InputError

MOST_RANGES = 100_000  # of a file: a job each, and more than any batch system takes
MOST_FILES = (
    1000  # in a job: a third of a second to open each where there are a thousand branches, minutes for all
)


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A ROOT file of a sample, or a range of its entries.

    ``entries`` is what the manifest promises of the range, where it does, and ``promised`` of the whole file;
    ``stop=None`` is the end of the file, whatever was promised.
    """

    sample: str
    path: str
    entries: int | None = None
    start: int = 0
    stop: int | None = None
    promised: int | None = None
    checksum: str | None = None
    simulated: bool = False

    @property
    def is_remote(self) -> bool:
        """Whether it is read over the network."""
        return "://" in self.path

    @property
    def place(self) -> str:
        """The file, and which entries where it is not all of them."""
        if self.start == 0 and self.stop is None:
            return self.path
        return f"{self.path} (entries {self.start} to {'the end' if self.stop is None else self.stop - 1})"

    @property
    def cure_if_missing(self) -> str:
        """What to do where the file is not there."""
        if self.simulated:
            return "run `simulate` first"
        return (
            "correct the manifest, or give its place by data.prefixes; where the data of the shipped runs come from "
            "is in docs/data.md"
        )

    @property
    def least(self) -> int:
        """Entries that the file must have: what the manifest promises, and one in the range at least."""
        return max(self.promised or 0, self.start + max(self.entries or 1, 1))

    @property
    def request(self) -> list[str | int | None]:
        """All that says what is read: another one makes other columns, or none."""
        return [self.path, self.start, self.stop, self.promised, self.checksum]


@dataclasses.dataclass(frozen=True)
class ColumnsJob:
    """What one job reads into one column file, in this order; ``index`` counts the jobs of the sample."""

    sample: str
    index: int
    files: tuple[SourceFile, ...]

    @property
    def name(self) -> str:
        """Name of the column file, without its ending."""
        return f"{self.sample}/{self.index:04d}"

    @property
    def place(self) -> str:
        """The file and its range, or the first and the last of several."""
        first, last = self.files[0], self.files[-1]
        return (
            first.place if len(self.files) == 1 else f"{len(self.files)} files, {first.path} to {last.path}"
        )


def jobs_of(sample: str, files: Sequence[Listed], *, most: int, simulated: bool) -> list[ColumnsJob]:
    """Return the jobs that read the files of a sample, each at most ``most`` events as far as the manifest knows.

    A larger file is read in several jobs. Smaller ones share a job, one after the other until it is full or has
    ``MOST_FILES``; a file of which the manifest does not say how many events it has is alone.

    Raises:
        InputError: a file promises so many events that there would be more jobs than any batch system takes.
    """
    packs: list[list[SourceFile]] = []
    room = 0
    for file in files:
        ranges = list(_ranges(sample, file, most))
        small = bool(file.entries) and len(ranges) == 1
        made = [
            SourceFile(sample, file.path, entries, start, stop, file.entries, file.checksum, simulated)
            for entries, start, stop in ranges
        ]
        if small and (file.entries or 0) <= room and len(packs[-1]) < MOST_FILES:
            packs[-1] += made
            room -= file.entries or 0
        else:
            packs += ([own] for own in made)
            room = most - (file.entries or 0) if small else 0
    return [ColumnsJob(sample, index, tuple(pack)) for index, pack in enumerate(packs)]


def _ranges(sample: str, file: Listed, most: int) -> Iterator[tuple[int | None, int, int | None]]:
    """Yield (entries, start, stop) of the fewest equal ranges with at most ``most`` entries.

    The last one is open-ended.
    """
    if not file.entries:
        yield file.entries, 0, None
        return
    jobs = -(-file.entries // most)
    if jobs > MOST_RANGES:
        raise InputError(
            f"sample {sample!r}: {file.path} promises {file.entries} events, which are {jobs} jobs of "
            f"data.max_events_per_job: {most}; at most {MOST_RANGES} are allowed, raise the key or correct the 'nevts'"
        )
    bounds = [file.entries * job // jobs for job in range(jobs + 1)]
    for start, stop in itertools.pairwise(bounds):
        yield stop - start, start, stop if stop < file.entries else None
