"""Manifests -> the files of each sample, and the jobs that read them.

What a manifest is, ``pipeline.data.manifest`` says.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.config import Config, Sample, textfiles
from pipeline.data import event_random, manifest
from pipeline.data.jobs import ColumnsJob, jobs_of
from pipeline.data.manifest import Listed, Manifest, Planned
from pipeline.data.names import ALL as ALL
from pipeline.data.names import CROSS_FITTED, FOLDS, OUTSIDE, POINTS, POLISHED, Fold, Part, Point, fold_name
from pipeline.data.names import HELD_OUT as HELD_OUT
from pipeline.data.names import TRAIN as TRAIN
from pipeline.errors import ConfigError, InputError

NOMINAL = "nominal"  # the variation that is none, in manifests and templates


def sample_names(config: Config) -> list[str]:
    """Return samples in order: each process, then its variations as ``process__variation``."""
    return [name for process, sample in config.data.samples.items() for name in _names(process, sample)]


def columns_jobs(config: Config) -> list[ColumnsJob]:
    """Return what every job of the ``columns`` stage reads, in the order that fixes how sums are done.

    The files of a sample are in the order of their paths, so that the manifest's order decides nothing but which files
    are the first of ``data.max_files_per_process``.

    Raises:
        InputError: the manifest does not have them, or has one twice.
    """
    most = None if config.data.max_files_per_process == "all" else config.data.max_files_per_process
    used = {
        sample: _located(sorted(files[:most], key=_path_first), config)
        for sample, files in _listed(config).items()
    }
    if not config.data.allow_repeated:
        _require_different(used, _where(config))
    is_simulated = config.simulate is not None
    return [
        job
        for sample, files in used.items()
        for job in jobs_of(sample, files, most=config.data.max_events_per_job, simulated=is_simulated)
    ]


def _path_first(file: Listed) -> tuple[str, int, str]:
    return file.path, file.entries or 0, file.checksum or ""


def not_used(config: Config) -> dict[str, int | None]:
    """Return how many events ``data.max_files_per_process`` leaves aside, by sample.

    They are those in the files beyond that number; None where the manifest does not say how many.
    """
    most = config.data.max_files_per_process
    if most == "all":
        return dict.fromkeys(sample_names(config), 0)
    aside = {sample: [file.entries for file in files[most:]] for sample, files in _listed(config).items()}
    return {
        sample: None if None in entries else sum(filter(None, entries)) for sample, entries in aside.items()
    }


def simulated_path(config: Config, sample: str, index: int) -> str:
    """Return where the ``simulate`` stage puts one file.

    The place depends on all that decides the file's content, so runs share the file.
    """
    assert config.simulate is not None
    return _simulated(config.simulate.folder, sample, config.simulate.samples[sample].events_per_file, index)


def _simulated(folder: str, sample: str, events: int, index: int) -> str:
    return f"results/simulated/{folder}/{sample}_{events}_{index:04d}.root"


def file_seed(seed: int, process: str, index: int) -> int:
    """Return the seed of one simulated file, 1 to 900 000 000 (Pythia's range), by data set and name."""
    digest = hashlib.sha256(f"{seed}/{process}/{index}".encode()).digest()
    return 1 + int.from_bytes(digest[:8]) % 900_000_000


def folds(config: Config) -> list[Fold]:
    """Return the folds that are judged: with nothing held out there is only the training one."""
    if config.data.folds is not None:
        return [CROSS_FITTED]
    return [*FOLDS] if config.data.held_out_fraction > 0 else [TRAIN]


def evaluated_points(config: Config) -> tuple[Point, ...]:
    """Return the points that ``evaluate`` goes to."""
    return (*POINTS, POLISHED) if config.evaluate.polish else POINTS


def parts(config: Config) -> tuple[Part, ...]:
    """Return what a column file keeps apart."""
    if config.data.folds is None:
        return FOLDS
    return tuple(fold_name(number + 1) for number in range(config.data.folds))


def optimisations(config: Config) -> list[int | None]:
    """Return the fold that each optimisation never sees, counted from 1; None for the one of a run without folds."""
    return [None] if config.data.folds is None else [number + 1 for number in range(config.data.folds)]


def training(config: Config, fold: int | None) -> str:
    """Return the events of an optimisation: the training fold, or those outside of one of ``data.folds``.

    Raises:
        ConfigError: the run has no such optimisation.
    """
    known = optimisations(config)
    if fold not in known:
        have = (
            "no data.folds: one optimisation"
            if known == [None]
            else f"the folds 1 to {known[-1]}: one for each"
        )
        raise ConfigError(
            f"--fold {'is missing' if fold is None else fold}: run {config.run!r} has {have}; "
            + ("leave the option out" if known == [None] else "name one of them")
        )
    return TRAIN if fold is None else f"{OUTSIDE}{fold_name(fold)}"


def normalised(config: Config) -> list[str]:
    """Return events that are each normalised to the whole luminosity somewhere in a run."""
    own = [training(config, fold) for fold in optimisations(config)]
    return [*folds(config)] if config.data.folds is None else [*own, ALL]


def chosen(config: Config, events: str) -> tuple[Part, ...]:
    """Return the parts of column files that are meant: one by its name, those outside of it, or all.

    Raises:
        ConfigError: there is no such part in this run.
    """
    known = parts(config)
    if events == ALL:
        return known
    name = events.removeprefix(OUTSIDE)
    if name not in known:
        raise ConfigError(f"run {config.run!r} has no fold {name!r}; choose from {', '.join((ALL, *known))}")
    return tuple(part for part in known if (part == name) == (events == name))


def divided(
    event_numbers: np.ndarray, held_out_fraction: float, number: int | None
) -> dict[Part, np.ndarray]:
    """Return which events are in each part: a hash of an event's number decides.

    So neither the order of the files nor a pattern in the numbers matters.

    Args:
        number: of folds; None: those of training and held-out events.
    """
    if number is None:
        held_out = is_held_out(event_numbers, held_out_fraction)
        return {TRAIN: ~held_out, HELD_OUT: held_out}
    # The largest hashes are 1 in float64.
    fold = np.minimum(event_random.uniform(event_numbers) * number, number - 1).astype(np.int64)
    return {fold_name(own + 1): np.asarray(fold == own) for own in range(number)}


def is_held_out(event_numbers: np.ndarray, fraction: float) -> np.ndarray:
    """Return whether each event is held out: a hash of its number, uniform in [0, 1), is below the fraction."""
    return np.asarray(event_random.uniform(event_numbers) < fraction)


def _names(process: str, sample: Sample) -> list[str]:
    return [process, *(f"{process}__{variation}" for variation in sample.variations)]


def _planned(config: Config) -> Manifest:
    """Return the manifest of files that the ``simulate`` stage will make."""
    assert config.simulate is not None
    planned: Manifest = {}
    folder = config.simulate.folder
    for sample, plan in config.simulate.samples.items():
        process, _, variation = sample.partition("__")
        files: list[Planned] = [
            {"path": _simulated(folder, sample, plan.events_per_file, i), "nevts": plan.events_per_file}
            for i in range(plan.files)
        ]
        planned.setdefault(process, {})[variation or NOMINAL] = {
            "files": files,
            "nevts_total": plan.files * plan.events_per_file,
        }
    return planned


def planned_manifest(config: Config) -> Manifest:
    """Return the simulated data set as a manifest in the AGC's format."""
    if config.simulate is None:
        raise ConfigError(
            f"run {config.run!r} has no section simulate: its manifest is {config.data.manifest}"
        )
    return _planned(config)


def _listed(config: Config) -> dict[str, list[Listed]]:
    """Return the files of each sample, in the manifest's order."""
    where = _where(config)
    path = config.data.manifest
    content: Mapping[str, object] = _planned(config) if path is None else manifest.read(path)
    found = {}
    for sample in sample_names(config):
        process, _, variation = sample.partition("__")
        found[sample] = manifest.listed(content, process, variation or NOMINAL, where)
        if not config.data.allow_repeated:
            manifest.require_listed_once(found[sample], f"{where}: {_entry(sample)}")
    return found


def _where(config: Config) -> str:
    return f"manifest {config.data.manifest}" if config.data.manifest else "section simulate"


def _entry(sample: str) -> str:
    """Return where a sample is in a manifest."""
    process, _, variation = sample.partition("__")
    return f"{process}/{variation or NOMINAL}"


def _require_different(used: Mapping[str, Sequence[Listed]], where: str) -> None:
    """Refuse one file by two names or in two samples, found by its path and by links to it."""
    seen: dict[str | tuple[int, int], tuple[str, str]] = {}
    for sample, file in ((sample, file) for sample, files in used.items() for file in files):
        here = places(file.path)
        if known := next((seen[place] for place in here if place in seen), None):
            other, path = known
            by = f" as {path}" if path != file.path else ""
            of = f" for {_entry(other)}" if other != sample else ""
            raise InputError(
                f"{where}: {_entry(sample)}: {file.path} is read twice, after data.prefixes and links, the other time"
                f"{of}{by}; its events would count twice: remove one, or say that it is meant with "
                "data.allow_repeated: true"
            )
        seen.update(dict.fromkeys(here, (sample, file.path)))


def places(path: str) -> list[str | tuple[int, int]]:
    """Return what tells files apart: the path and, where it can be seen, the number in the file system."""
    if "://" in path:
        return [path]
    place = Path(os.path.realpath(path))
    try:
        status = place.stat()
    except OSError:
        return [str(place)]
    return [str(place), (status.st_dev, status.st_ino)]


def _located(files: Sequence[Listed], config: Config) -> list[Listed]:
    return [file._replace(path=_place(file.path, config)) for file in files]


def _place(path: str, config: Config) -> str:
    """Return a path of the manifest with its beginning replaced where ``data.prefixes`` says so.

    A relative path is meant from the working directory, or from the folder of the manifest.
    """
    fitting = [prefix for prefix in config.data.prefixes if path.startswith(prefix)]
    if fitting:
        longest = max(fitting, key=len)
        path = config.data.prefixes[longest] + path.removeprefix(longest)
    if "://" not in path and (wrong := textfiles.impossible(Path(path))):
        raise InputError(f"manifest {config.data.manifest}: {textfiles.shown(path)} can be no path: {wrong}")
    if "://" in path or config.data.manifest is None or Path(path).exists():
        return path
    beside = config.data.manifest.parent / path
    return str(beside) if not textfiles.impossible(beside) and beside.exists() else path
