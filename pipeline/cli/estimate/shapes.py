"""The chunks of a run: how many of which shape each group will have, from those of a few files."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.analysis import analysis_of
from pipeline.cli.estimate.sample import PlannedFile, Sampled
from pipeline.config import Config
from pipeline.data import datasets, store
from pipeline.gradient.chunks import FACTOR
from pipeline.gradient.resident import Resident, Share
from pipeline.gradient.work import FileColumns, Group, Work, groups_of, prepare_work, problem_of
from pipeline.templates.axes import axes_of


class ChunkShape(NamedTuple):
    """What one program goes through: chunks of such arrays, with such variations."""

    variations: tuple[str, ...]
    arrays: tuple[tuple[str, tuple[int, ...], str], ...]

    @property
    def events(self) -> int:
        """Events of a chunk."""
        return self.arrays[0][1][0]

    @property
    def size(self) -> int:
        """Bytes of a chunk."""
        return sum(math.prod(shape) * np.dtype(kind).itemsize for _, shape, kind in self.arrays)


class Seen(NamedTuple):
    """What a few files show: of each shape the share with most chunks, and of each sample the share of its events."""

    shares: dict[ChunkShape, Share]
    of_sample: dict[str, dict[ChunkShape, float]]


def planned(config: Config, files: Sequence[PlannedFile], samples: Mapping[str, Sampled], fold: str) -> Work:
    """Return the work that all files of a run will be in a fold; its files need not be there."""
    folds = datasets.chosen(config, fold)
    folder = store.Folder(config.run)
    columns = [
        FileColumns(
            own.job.sample,
            str(folder.columns(own.job.name).absolute()),
            "",
            own.number,
            "",
            sum(own.kept(name, samples[own.job.sample]) for name in folds),
        )
        for own in files
    ]
    axes = axes_of(config, analysis_of(config).variation_names)
    groups = groups_of(columns, axes, config, dict.fromkeys(samples, 1.0), folds)
    return Work(problem_of(config, groups), groups, axes)


def small_work(config: Config, samples: Mapping[str, Sampled], whole: Work, fold: str) -> Work:
    """Return the work of the few files, in chunks of the length that those of all files will have."""
    files = [(name, own.path) for name, own in samples.items()]
    return prepare_work(config, files, fold)._replace(problem=whole.problem)


def seen(resident: Resident, work: Work) -> Seen:
    """Return the chunks of a work; what is not in memory yet is read."""
    shares: dict[ChunkShape, Share] = {}
    events: dict[str, dict[ChunkShape, float]] = {}
    for variations in dict.fromkeys(group.variations for group in work.groups):
        own = [group for group in work.groups if group.variations == variations]
        for share in resident.shares(own, work.problem):
            shape = _shape(variations, share)
            if shape not in shares or len(shares[shape].places) < len(share.places):
                shares[shape] = share
            _count(share, shape, events)
    for counted in events.values():
        total = sum(counted.values())
        counted.update({shape: number / total for shape, number in counted.items()})
    return Seen(shares, events)


def chunks_of(group: Group, found: Seen) -> dict[ChunkShape, float]:
    """Return how many chunks of each shape a group will have; the last one of each is filled up."""
    numbers = {}
    for shape, share in found.of_sample[group.sample].items():
        full = share * group.events / shape.events
        # Of a shape that few events have, many a group has none.
        numbers[shape] = float(math.ceil(full)) if full * shape.events >= 1 else full * shape.events
    return numbers


def chunks_in(groups: Iterable[Group], found: Seen) -> dict[ChunkShape, float]:
    """Return how many chunks of each shape some groups will have."""
    total: dict[ChunkShape, float] = {}
    for group in groups:
        for shape, number in chunks_of(group, found).items():
            total[shape] = total.get(shape, 0.0) + number
    return total


def _shape(variations: tuple[str, ...], share: Share) -> ChunkShape:
    arrays = share.columns.arrays
    return ChunkShape(variations, tuple((n, tuple(a.shape[1:]), str(a.dtype)) for n, a in arrays.items()))


def _count(share: Share, shape: ChunkShape, events: dict[str, dict[ChunkShape, float]]) -> None:
    """Add the events of some chunks, without what only fills them up."""
    factors = np.asarray(share.columns.arrays[FACTOR])
    for place, owner in zip(share.places, share.owners, strict=True):
        counted = events.setdefault(owner.group.sample, {})
        counted[shape] = counted.get(shape, 0.0) + float(np.count_nonzero(factors[place]))
