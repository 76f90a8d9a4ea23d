"""Configuration and column files -> the work of the sweeps: groups of events, axes, start values."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from pipeline import analysis as contract
from pipeline.config import Anneal, Config
from pipeline.config.targets import Content
from pipeline.data import datasets, normalisation, store
from pipeline.data.provenance import require_weights
from pipeline.errors import ConfigError, InputError, nearest
from pipeline.relax import anneal, edge_logits
from pipeline.resolution import check_sizes
from pipeline.templates.axes import Axes, axes_of, variations_of, with_all_variations
from pipeline.templates.binning import Binning
from pipeline.templates.fill import Widths
from pipeline.templates.variations import check_variations


class Layout(NamedTuple):
    """How events are cut into chunks: their length, and per collection its columns, the mask first, and its sizes."""

    chunk_events: int
    collections: tuple[tuple[tuple[str, ...], tuple[int, ...]], ...] = ()


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

    @property
    def analysis(self) -> contract.Analysis:
        """The analysis, built once per process.

        Raises:
            ConfigError: its source, a module that it imports or one of its files is another one by now.
        """
        return contract.load(self.target, self.options, self.content)

    def succeeds(self, other: "Problem") -> bool:
        """Whether this is the same analysis after an edit: what is kept for the other is not needed any more."""
        same = (self.target, self.options) == (other.target, other.options)
        return same and self.content != other.content


class ColumnFile(NamedTuple):
    """A column file, the digest of its content, and its events in the folds of interest."""

    sample: str
    path: str
    content: str
    events: int


class Group(NamedTuple):
    """Column files of one sample whose events move between workers and are summed together."""

    files: tuple[ColumnFile, ...]
    folds: tuple[str, ...]
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
    """A sweep's work: what to do, on which events, and what the rows of the templates are."""

    problem: Problem
    groups: tuple[Group, ...]
    axes: Axes

    @property
    def events(self) -> int:
        """Preselected events of all groups."""
        return sum(group.events for group in self.groups)


def analysis(config: Config) -> contract.Analysis:
    """The analysis of a configuration as its files are now."""
    return contract.load(config.analysis.target, config.analysis.options_json, config.analysis.content)


def work(config: Config, columns: Sequence[tuple[str, Path]], fold: str) -> Work:
    """The work of one fold ('train', 'held_out' or 'all').

    Arguments:
        columns: (sample, column file), in the order that fixes the sums.
    """
    found = analysis(config)
    check_variations_used(config)
    check_surrogate(config)
    folds = (datasets.TRAIN, datasets.HELD_OUT) if fold == datasets.ALL else (fold,)
    files = []
    provenances: dict[str, list[dict[str, Any]]] = {}
    for sample, path in columns:
        provenance = store.read_provenance(path)
        provenances.setdefault(sample, []).append(provenance)
        events = sum(provenance["entries_kept"][name] for name in folds)
        files.append(ColumnFile(sample, str(path.absolute()), provenance["content"], events))
    templates = axes_of(config, found.variation_names)
    scales = normalisation.scales(config, provenances, fold)
    require_weights(config, provenances, scales)
    groups = _groups(files, templates, config, scales, folds)
    return Work(_problem(config, groups), groups, templates)


def check_variations_used(config: Config) -> None:
    """Raise where a model of the run names a variation that the analysis does not define."""
    everything = with_all_variations(config)
    for sample in config.data.samples:
        check_variations(analysis(config), sample, variations_of(everything, sample))


def check_surrogate(config: Config) -> None:
    """Raise where the analysis has a stage without a derivative and the run nothing in its place, or the reverse."""
    stage, name = analysis(config).simulated, config.analysis.target
    if (stage is None) != (config.surrogate is None):
        raise ConfigError(
            f"surrogate: {name} makes no columns by a stage without a derivative; remove the section"
            if stage is None
            else f"{name} makes {', '.join(stage.outputs)} by a stage without a derivative; add a section `surrogate`, "
            "which says how to find the gradient through it (`surrogate: {}` takes the defaults)"
        )
    known = analysis(config).parameters
    for parameter in stage.parameters if stage else ():
        if parameter not in known:
            raise ConfigError(
                f"`simulated` of {name}: {parameter!r} is no free parameter; {nearest(parameter, known)}"
            )


def _problem(config: Config, groups: Sequence[Group]) -> Problem:
    """The problem, its chunks no larger than the largest group needs."""
    name, colon, cls = config.analysis.target.partition(":")
    target = f"{Path(name).absolute()}{colon}{cls}" if name.endswith(".py") else config.analysis.target
    largest = 1 << (max(group.events for group in groups) - 1).bit_length()
    chunk_events = min(config.cluster.chunk_events, largest)
    return Problem(
        target,
        config.analysis.options_json,
        config.analysis.content,
        binnings(config),
        Layout(chunk_events, collection_sizes(config)),
        config.cluster.precision,
        config.optimise.shifts == "derivatives",
    )


def collection_sizes(config: Config) -> tuple[tuple[tuple[str, ...], tuple[int, ...]], ...]:
    """Columns of each collection to trim, its mask first, and the sizes of its chunks."""
    known = analysis(config).collections
    for name in config.cluster.objects:
        if name not in known:
            raise ConfigError(
                f"cluster.objects.{name}: {config.analysis.target} has no such collection; "
                f"{nearest(name, known) if known else 'it has none, remove the key'}"
            )
    return tuple(((name, *known[name]), sizes) for name, sizes in config.cluster.objects.items())


def binnings(config: Config) -> tuple[Binning, ...]:
    """The channels' bins."""
    return tuple(
        Binning(
            name,
            channel.edges,
            None if channel.free_edges is None else channel.free_edges.smallest,
            None if channel.bandwidth is None else channel.bandwidth.unit,
            channel.shares,
            channel.overflow,
        )
        for name, channel in config.channels.items()
    )


def initial_parameters(config: Config) -> dict[str, Any]:
    """Start values: the analysis's own, then the configuration's; checked against the bounds."""
    found = analysis(config)
    check_sizes(config, found)
    for name in config.parameters:
        if name not in found.parameters:
            raise ConfigError(f"parameters.{name}: no such free parameter; {nearest(name, found.parameters)}")
    values = {name: config.parameters.get(name, free.initial) for name, free in found.parameters.items()}
    for name, value in values.items():
        check_bounds(name, value, found.parameters[name])
    arrays = {**contract.start_arrays(found, config.optimise.seed), **_free_edges(config)}
    twice = sorted(set(arrays) & set(values))
    if twice:
        raise ConfigError(f"parameter {twice[0]!r} of {config.analysis.target} is taken; choose another name")
    return {**{n: np.float64(v) for n, v in values.items()}, **{n: np.asarray(a) for n, a in arrays.items()}}


def _free_edges(config: Config) -> dict[str, jax.Array]:
    """Start values of the free bin edges: one number per bin, see `relax.ordered_edges`."""
    return {
        binning.parameter: edge_logits(np.asarray(binning.edges), smallest=binning.smallest)
        for binning in binnings(config)
        if binning.smallest is not None
    }


def edges(config: Config, parameters: Mapping[str, Any]) -> dict[str, list[float] | None]:
    """Bin edges of every channel at a point, numbers of bins for shares; None for one that counts."""
    found = {
        b.channel: b.edges_at(parameters) if b.shares is None else np.arange(b.shares + 1)
        for b in binnings(config)
    }
    return {n: None if e is None else np.asarray(e, dtype=np.float64).tolist() for n, e in found.items()}


def check_bounds(name: str, value: float, free: contract.Free) -> None:
    """Raise where a value is outside its parameter's bounds."""
    low, high = free.bounds
    if not low <= value <= high:
        raise ConfigError(
            f"parameters.{name}: value {value} is outside its bounds [{low}, {high}]"
            f"{' ' + free.unit if free.unit else ''}; choose a value inside"
        )


def widths(config: Config, epoch: int) -> Widths:
    """Widths at an epoch: geometric from initial to final over the first `optimise.anneal_fraction` of the epochs.

    A function of the epoch alone, so a restart continues it.
    """
    return Widths(
        operations={name: annealed(config, schedule, epoch) for name, schedule in config.widths.items()},
        bandwidths={
            n: annealed(config, c.bandwidth, epoch) for n, c in config.channels.items() if c.bandwidth
        },
    )


def annealed(config: Config, schedule: Anneal, epoch: int) -> jax.Array:
    """A width at an epoch; see :func:`widths`."""
    progress = epoch / (config.optimise.anneal_fraction * config.optimise.epochs)
    return anneal(schedule.initial, schedule.final, progress)


def _groups(
    files: Sequence[ColumnFile],
    templates: Axes,
    config: Config,
    scales: Mapping[str, float],
    folds: tuple[str, ...],
) -> tuple[Group, ...]:
    """Consecutive column files of one sample, until a group holds about its share of the events.

    A process that the model varies is given every variation, so that one compiled function serves them all; others, and
    a sample that is a variation itself, have none.
    """
    groups: list[Group] = []
    share = max(config.cluster.group_events, -(-sum(file.events for file in files) // config.cluster.groups))
    for file in files:
        last = groups[-1] if groups else None
        if last and last.sample == file.sample and last.events + file.events <= share:
            groups[-1] = last._replace(files=(*last.files, file))
        else:
            variations = templates.variations[1:] if variations_of(config, file.sample) else ()
            groups.append(Group((file,), folds, scales[file.sample], variations))
    filled = tuple(group for group in groups if group.events)
    if not filled:
        raise InputError(f"no event of fold {folds} passes the preselection of {config.analysis.target}")
    return filled
