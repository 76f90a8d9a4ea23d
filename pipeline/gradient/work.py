"""Configuration and column files -> the work of the sweeps: what to do with which groups of events."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline import analysis as contract
from pipeline.analysis import analysis_of
from pipeline.config import Config
from pipeline.config.fit.theory import is_component
from pipeline.config.targets import Content
from pipeline.data import column_file, datasets, normalisation
from pipeline.data.column_file import Provenance
from pipeline.data.names import Part
from pipeline.data.provenance import require_weights
from pipeline.errors import ConfigError, InputError, nearest
from pipeline.templates.axes import Axes, axes_of, variations_of, with_all_variations
from pipeline.templates.binning import Binning, binnings_of
from pipeline.templates.variations import check_variations


class Layout(NamedTuple):
    """How events are cut into chunks: their length, and per collection its columns, the mask first, and its sizes.

    ``halves``: each chunk holds events of one half only (``event_random.half``).
    """

    chunk_events: int
    collections: tuple[tuple[tuple[str, ...], tuple[int, ...]], ...] = ()
    halves: bool = False


@dataclasses.dataclass(frozen=True)
class Problem:
    """All that a worker needs besides parameters and events; of the analysis also what it was made of."""

    target: str
    options: str
    content: Content
    binnings: tuple[Binning, ...]
    layout: Layout
    precision: str = "float64"
    linear: bool = False
    memory: float = math.inf  # bytes for the variations of a chunk that are observed at once

    @property
    def analysis(self) -> contract.Analysis:
        """The analysis, built once per process.

        Raises:
            ConfigError: its source, a module that it imports or one of its files is another one by now.
        """
        return contract.load(self.target, self.options, self.content)

    def succeeds(self, other: "Problem") -> bool:
        """Return whether this is the same analysis after an edit: what is kept for the other is not needed any more."""
        same = (self.target, self.options) == (other.target, other.options)
        return same and self.content != other.content


class FileColumns(NamedTuple):
    """The columns of a ROOT file: in which column file, with which digest, and as which of its sources, from 0.

    ``digest`` is that of these columns alone, and ``events`` are those in the folds of interest.
    """

    sample: str
    path: str
    content: str
    source: int
    digest: str
    events: int


class Group(NamedTuple):
    """Columns of ROOT files of one sample whose events move between workers and are summed together."""

    files: tuple[FileColumns, ...]
    folds: tuple[Part, ...]
    scale: float
    variations: tuple[str, ...]

    @property
    def sample(self) -> str:
        """The sample of all its files."""
        return self.files[0].sample

    @property
    def events(self) -> int:
        """Preselected events."""
        return sum(file.events for file in self.files)


class Work(NamedTuple):
    """A sweep's work: what to do, on which events, and what the rows of the templates are.

    ``replica`` is the number of a bootstrap sample of these events, whose sweeps all are then; None: the events
    themselves.
    """

    problem: Problem
    groups: tuple[Group, ...]
    axes: Axes
    replica: int | None = None

    @property
    def events(self) -> int:
        """Preselected events of all groups."""
        return sum(group.events for group in self.groups)

    @property
    def rows(self) -> int:
        """Rows of the templates of a sweep: the samples, or those of one half of the events and then of the other."""
        return len(self.axes.samples) * (2 if self.problem.layout.halves else 1)


def prepare_work(
    config: Config, columns: Sequence[tuple[str, Path]], fold: str, *, part_of: str | None = None
) -> Work:
    """Return the work of the events of a fold, as ``datasets.chosen`` names them: 'train', 'held_out', 'all', ...

    Args:
        columns: (sample, column file), in any order.
        part_of: events that together are normalised to the whole luminosity; None: those of the fold.
    """
    found = analysis_of(config)
    check_variations_used(config)
    check_surrogate(config)
    folds = datasets.chosen(config, fold)
    files = []
    provenances: dict[str, list[Provenance]] = {}
    for sample, path in columns:
        found_there, place = column_file.read(path), str(path.absolute())
        provenances.setdefault(sample, []).extend(found_there.sources)
        for number, source in enumerate(found_there.sources):
            events = sum(source.entries_kept[name] for name in folds)
            files.append(FileColumns(sample, place, found_there.content, number, source.digest, events))
    templates = axes_of(config, found.variation_names)
    scales = normalisation.scales(config, provenances, part_of or fold)
    require_weights(config, provenances, scales)
    groups = groups_of(files, templates, config, scales, folds)
    return Work(problem_of(config, groups), groups, templates)


def check_variations_used(config: Config) -> None:
    """Raise where a model of the run names a variation that the analysis does not define."""
    everything = with_all_variations(config)
    for sample in config.data.samples:
        check_variations(analysis_of(config), sample, variations_of(everything, sample))


def check_surrogate(config: Config) -> None:
    """Raise where the analysis has a stage without a derivative and the run nothing in its place, or the reverse."""
    stage, name = analysis_of(config).simulated, config.analysis.target
    if (stage is None) != (config.surrogate is None):
        raise ConfigError(
            f"surrogate: {name} makes no columns by a stage without a derivative; remove the section"
            if stage is None
            else f"{name} makes {', '.join(stage.outputs)} by a stage without a derivative; add a section `surrogate`, "
            "which says how to find the gradient through it (`surrogate: {}` takes the defaults)"
        )
    known = analysis_of(config).parameters
    for parameter in stage.parameters if stage else ():
        if parameter not in known:
            raise ConfigError(
                f"`simulated` of {name}: {parameter!r} is no free parameter; {nearest(parameter, known)}"
            )


def problem_of(config: Config, groups: Sequence[Group]) -> Problem:
    """Return the problem, its chunks no larger than the largest group needs."""
    name, colon, cls = config.analysis.target.partition(":")
    target = f"{Path(name).absolute()}{colon}{cls}" if name.endswith(".py") else config.analysis.target
    largest = 1 << (max(group.events for group in groups) - 1).bit_length()
    chunk_events = min(config.cluster.events_per_chunk, largest)
    return Problem(
        target,
        config.analysis.options_json,
        config.analysis.content,
        binnings_of(config),
        Layout(chunk_events, collection_sizes(config)),
        config.cluster.precision,
        config.optimise.shifts == "derivatives",
        config.cluster.variations_mb * 1e6,
    )


def collection_sizes(config: Config) -> tuple[tuple[tuple[str, ...], tuple[int, ...]], ...]:
    """Return columns of each collection to trim, its mask first, and the sizes of its chunks."""
    known = analysis_of(config).collections
    for name in config.cluster.objects:
        if name not in known:
            raise ConfigError(
                f"cluster.objects.{name}: {config.analysis.target} has no such collection; "
                f"{nearest(name, known) if known else 'it has none, remove the key'}"
            )
    return tuple(((name, *known[name]), sizes) for name, sizes in config.cluster.objects.items())


def _observed(config: Config, templates: Axes, sample: str) -> tuple[str, ...]:
    """Return what is observed of a sample: every variation, where the model uses one, and components where it has any.

    A sample without components has no weights that depend on the theory.
    """
    own = variations_of(config, sample)
    components = any(map(is_component, own))
    return tuple(name for name in templates.variations[1:] if own and (components or not is_component(name)))


def groups_of(
    files: Sequence[FileColumns],
    templates: Axes,
    config: Config,
    scales: Mapping[str, float],
    folds: tuple[Part, ...],
) -> tuple[Group, ...]:
    """Return columns of files of one sample, in the order of their paths, until a group holds its share of events.

    So groups do not depend on the order in which the files are given. A process that the model varies is given every
    variation, so that one compiled function serves them all; others, and a sample that is a variation itself, have
    none.
    """
    packs: list[list[FileColumns]] = []
    held = 0
    for file in sorted(files, key=lambda file: (file.sample, file.path, file.source)):
        if (
            packs
            and packs[-1][0].sample == file.sample
            and held + file.events <= config.cluster.events_per_group
        ):
            packs[-1].append(file)
            held += file.events
        else:
            packs.append([file])
            held = file.events
    varied = {sample: _observed(config, templates, sample) for sample in scales}
    groups = (
        Group(tuple(pack), folds, scales[pack[0].sample], varied[pack[0].sample])
        for pack in packs
        if any(file.events for file in pack)
    )
    filled = tuple(groups)
    if not filled:
        named = " and ".join(folds)
        cure = "fewer data.folds, or " if config.data.folds is not None else ""
        raise InputError(
            f"no event of {named} passes the preselection of {config.analysis.target}; use {cure}more events, or "
            "loosen it"
        )
    return filled
