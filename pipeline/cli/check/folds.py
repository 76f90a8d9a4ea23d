"""Whether each part that the events are divided into, training and held-out ones or folds, will have events."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.config import Config
from pipeline.data import column_file, datasets
from pipeline.data.column_file import Provenance
from pipeline.data.jobs import ColumnsJob
from pipeline.data.names import HELD_OUT, TRAIN, Part
from pipeline.data.run_files import ColumnFiles

FEW = (
    10  # preselected events of a sample in a part: with fewer its bins are empty, and variations mean nothing
)
CHANCE = 1e-6  # probability that no entry is in a part, below which the event numbers are to blame


def thin_parts(config: Config, jobs: Mapping[str, Sequence[ColumnsJob]], files: ColumnFiles) -> Iterator[str]:
    """Yield notes on the parts of a sample in which there will be too few events, as far as its first ones can say."""
    shares = {part: share for part, share in _shares(config).items() if share > 0}
    for sample, path in files:
        (made_of,) = column_file.read(path).sources
        yield from _of_sample(sample, made_of, _entries(jobs[sample]), shares)


def _shares(config: Config) -> dict[Part, float]:
    if config.data.folds is not None:
        return dict.fromkeys(datasets.parts(config), 1 / config.data.folds)
    return {TRAIN: 1 - config.data.held_out_fraction, HELD_OUT: config.data.held_out_fraction}


def _entries(jobs: Sequence[ColumnsJob]) -> int | None:
    """Return the entries of a sample that the manifest promises; None where it does not."""
    entries = [file.entries for job in jobs for file in job.files]
    return None if None in entries else sum(number for number in entries if number is not None)


def _of_sample(
    sample: str, made_of: Provenance, entries: int | None, shares: Mapping[Part, float]
) -> Iterator[str]:
    read, kept = sum(made_of.entries_read.values()), sum(made_of.entries_kept.values())
    without = [
        p for p, share in shares.items() if made_of.entries_read[p] == 0 and (1 - share) ** read < CHANCE
    ]
    if without:
        yield (
            f"sample {sample!r}: none of the first {read} entries of {made_of.file} is in {_named(without)}, so the "
            "event numbers are few, or all the same: a hash of an event's number decides; name another branch as "
            "`event` of what the analysis reads, or leave it out, and events are numbered by file and place"
        )
        return
    if entries is None or kept == 0:
        return
    expected = {part: kept * max(entries / read, 1.0) * share for part, share in shares.items()}
    found = made_of.entries_kept if read >= entries else expected
    thin = [part for part in shares if found[part] < FEW]
    if thin:
        least = f"{'' if read >= entries else 'some '}{min(found[part] for part in thin):.0f}"
        each = "each of " if len(thin) > 1 else ""
        yield (
            f"sample {sample!r}: {least} preselected events are in {each}{_named(thin)}, of {entries} entries in all; "
            "give it more events, loosen columns(), or divide them otherwise (data.held_out_fraction, data.folds)"
        )


def _named(parts: Sequence[Part]) -> str:
    return ", ".join(part.replace("_", "-" if part == HELD_OUT else " ") for part in parts)
