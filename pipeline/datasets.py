"""Manifests -> the files of each sample, and the normalisation that goes with the events processed.

The manifest is the Analysis Grand Challenge's `nanoaod_inputs.json` as it is:
process -> variation -> {nevts_total, files: [{path, nevts}]}.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import draws, textfiles
from pipeline.config import Config, Sample
from pipeline.errors import ConfigError, InputError, nearest
from pipeline.store import read_json

NOMINAL = "nominal"  # the variation that is none, in manifests and templates
TRAIN = "train"
HELD_OUT = "held_out"
ALL = "all"
LEFT_OUT = "left_out"  # entry of a provenance: why a file that could not be read gave no events
SHAPE = "a manifest is process -> variation -> {nevts_total, files: [{path, nevts}]}"


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A ROOT file of a sample, or a range of its entries: what one job reads.

    `entries` is what the manifest promises of the range, where it does; `stop=None` is the end of the file, whatever
    was promised. `index` counts the ranges of the sample.
    """

    sample: str
    index: int
    path: str
    entries: int | None
    start: int = 0
    stop: int | None = None

    @property
    def name(self) -> str:
        """Name of the column file made from it, without its ending."""
        return f"{self.sample}/{self.index:04d}"

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


def sample_names(config: Config) -> list[str]:
    """Samples in order: each process, then its variations as `process__variation`."""
    return [name for process, sample in config.data.samples.items() for name in _names(process, sample)]


def source_files(config: Config) -> list[SourceFile]:
    """Every file of the run, in the order that fixes how sums are done."""
    manifest = _planned(config) if config.simulate else _manifest(config)
    return [file for sample in sample_names(config) for file in _files(sample, manifest, config)]


def simulated_path(config: Config, sample: str, index: int) -> str:
    """Where the `simulate` stage puts one file: it depends on all that decides its content, so runs share it."""
    assert config.simulate is not None
    events = config.simulate.samples[sample].events_per_file
    return f"results/simulated/{config.simulate.folder}/{sample}_{events}_{index:04d}.root"


def file_seed(seed: int, process: str, index: int) -> int:
    """Seed of one simulated file, 1 to 900 000 000 (Pythia's range), from the data set's seed and its name."""
    digest = hashlib.sha256(f"{seed}/{process}/{index}".encode()).digest()
    return 1 + int.from_bytes(digest[:8]) % 900_000_000


def scales(
    config: Config, provenances: Mapping[str, Sequence[Mapping[str, Any]]], fold: str
) -> dict[str, float]:
    """Factor on the event weights of each sample, so that a fold alone predicts the whole luminosity.

    cross-section [pb] x luminosity [1/pb] / events processed in the fold; a sample without a cross-section
    has absolute weights, and only the share of its events in the fold is made up for.
    """
    factors = {}
    for sample, files in provenances.items():
        processed = {name: sum(file["entries_read"][name] for file in files) for name in (TRAIN, HELD_OUT)}
        total = sum(processed.values())
        here = total if fold == ALL else processed[fold]
        if files and all(LEFT_OUT in file for file in files):
            raise InputError(
                f"sample {sample!r}: every file was left out (data.unreadable_files); the first because "
                f"{files[0][LEFT_OUT]}"
            )
        if here == 0:
            raise InputError(f"sample {sample!r} has no event in fold {fold!r}; see data.held_out_fraction")
        cross_section = config.data.samples[sample.partition("__")[0]].cross_section_pb
        expected = total if cross_section is None else cross_section * config.data.luminosity_per_pb
        factors[sample] = expected / here
    return factors


def folds(config: Config) -> list[str]:
    """The folds that hold events: with nothing held out there is only the training one."""
    return [TRAIN, HELD_OUT] if config.data.held_out_fraction > 0 else [TRAIN]


def is_held_out(event_numbers: np.ndarray, fraction: float) -> np.ndarray:
    """Whether each event is held out: a hash of its number, uniform in [0, 1), is below the fraction.

    So neither the order of the files nor a pattern in the numbers matters.
    """
    return np.asarray(draws.uniform(event_numbers) < fraction)


def _names(process: str, sample: Sample) -> list[str]:
    return [process, *(f"{process}__{variation}" for variation in sample.variations)]


def _planned(config: Config) -> dict[str, Any]:
    """The manifest of files that the `simulate` stage will make."""
    assert config.simulate is not None
    manifest: dict[str, Any] = {}
    for sample, plan in config.simulate.samples.items():
        process, _, variation = sample.partition("__")
        files = [
            {"path": simulated_path(config, sample, i), "nevts": plan.events_per_file}
            for i in range(plan.files)
        ]
        entry = {"files": files, "nevts_total": plan.files * plan.events_per_file}
        manifest.setdefault(process, {})[variation or NOMINAL] = entry
    return manifest


def planned_manifest(config: Config) -> dict[str, Any]:
    """The simulated data set as a manifest in the AGC's format."""
    if config.simulate is None:
        raise ConfigError(
            f"run {config.run!r} has no section simulate: its manifest is {config.data.manifest}"
        )
    return _planned(config)


def _manifest(config: Config) -> dict[str, Any]:
    assert config.data.manifest is not None
    try:
        content = read_json(config.data.manifest)
    except InputError as error:
        raise InputError(f"data.manifest: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"data.manifest {config.data.manifest} holds a {type(content).__name__}; {SHAPE}")
    return content


def _files(sample: str, manifest: Mapping[str, Any], config: Config) -> list[SourceFile]:
    process, _, variation = sample.partition("__")
    where = f"manifest {config.data.manifest}" if config.data.manifest else "section simulate"
    if process not in manifest:
        raise InputError(
            f"sample {process!r} of data.samples is not in {where}; {nearest(process, manifest)}"
        )
    variations = _mapping(manifest[process], f"{where}: {process}")
    variation = variation or NOMINAL
    if variation not in variations:
        known = nearest(variation, variations)
        raise InputError(f"sample {process!r}: variation {variation!r} is not in {where}; {known}")
    entries = _entries(variations[variation], f"{where}: {process}/{variation}")
    most = None if config.data.max_files_per_process == "all" else config.data.max_files_per_process
    chosen = [(_located(path, config), n) for path, n in itertools.islice(entries.items(), most)]
    _require_different([path for path, _ in chosen], f"{where}: {process}/{variation}")
    ranges = [
        (path, n, start, stop)
        for path, n in chosen
        for n, start, stop in _ranges(n, config.data.max_events_per_job)
    ]
    return [SourceFile(sample, i, path, n, start, stop) for i, (path, n, start, stop) in enumerate(ranges)]


def _require_different(paths: Sequence[str], where: str) -> None:
    """One file under two names would count twice."""
    places = [path if "://" in path else str(Path(path).resolve()) for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise InputError(
                f"{where}: {path} is read twice, after data.prefixes and links; its events would count twice"
            )


def _ranges(entries: int | None, most: int) -> list[tuple[int | None, int, int | None]]:
    """(entries, start, stop) of the fewest equal ranges with at most `most` entries; the last one is open-ended."""
    if not entries:
        return [(entries, 0, None)]
    jobs = -(-entries // most)
    bounds = [entries * job // jobs for job in range(jobs + 1)]
    return [
        (stop - start, start, stop if stop < entries else None) for start, stop in itertools.pairwise(bounds)
    ]


def _entries(variation: Any, where: str) -> dict[str, int | None]:
    """Path and number of events of each file of one variation of the manifest."""
    files = _mapping(variation, where).get("files")
    if not isinstance(files, list) or not files:
        raise InputError(f"{where}: 'files' is {_short(files)}, not a list with at least one file; {SHAPE}")
    entries: dict[str, int | None] = {}
    for index, file in enumerate(files):
        here = f"{where}: files[{index}]"
        path, events = _mapping(file, here).get("path"), file.get("nevts")
        if not isinstance(path, str) or not path:
            raise InputError(f"{here}: 'path' is {_short(path)}, not the path of a file; {SHAPE}")
        if events is not None and (type(events) is not int or events < 0):
            raise InputError(f"{here}: 'nevts' is {_short(events)}, not a number of events; {SHAPE}")
        if path in entries:
            raise InputError(f"{here}: {path} is listed twice; its events would count twice, remove one")
        entries[path] = events
    return entries


def _mapping(content: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise InputError(f"{where} is {_short(content)}; {SHAPE}")
    return content


def _short(value: Any, length: int = 60) -> str:
    text = "missing" if value is None else repr(value)
    return text if len(text) <= length else f"{text[:length]}..."


def _located(path: str, config: Config) -> str:
    """A path of the manifest with its beginning replaced where `data.prefixes` says so.

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
