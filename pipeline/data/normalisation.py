"""What was read of each sample -> the factor on its event weights, so that a fold alone predicts the whole luminosity.

    cross-section [pb] x luminosity [1/pb] / N

N is the number of events processed in the fold, or the sum of their generator weights: ``data.normalise``. Of a skim,
the events processed are those before it, whose sum NanoAOD keeps in its tree ``Runs``. A sample without a cross-section
has absolute weights; what is made up for is then the share of its events in the fold, and files that were not read.
"""

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence

from pipeline.config import Config
from pipeline.data import datasets
from pipeline.data.column_file import Provenance
from pipeline.data.datasets import sample_names
from pipeline.data.names import ALL, Part
from pipeline.errors import InputError

Provenances = Sequence[Provenance]
PartNames = tuple[Part, ...] | None  # of the column files; None: all
# An analysis's mean weight is its scale factors, which are near 1, or a generator's weight in some unit, which is not.
MEAN_WEIGHT = (0.5, 2.0)
NEGATIVE_SHARE = (
    0.01  # of the sum of absolute weights: below, negative weights change a yield by less than 2 %
)


def scales(config: Config, provenances: Mapping[str, Provenances], fold: str) -> dict[str, float]:
    """Return factor on the event weights of each sample in a fold, from the provenances of its column files.

    Raises:
        InputError: nothing to normalise by: every file left out, no event in the fold, a sum of generator weights that
            is not positive, files left out whose number of events nobody knows; the same events twice.
    """
    if not config.data.allow_repeated:
        require_different(provenances)
    aside = datasets.not_used(config)
    return {
        sample: _scale(config, sample, files, fold, aside[sample]) for sample, files in provenances.items()
    }


def uses_generator_weights(config: Config, sample: str) -> bool:
    """Return whether a sample is normalised by the sum of its generator weights."""
    return config.data.normalise == "weights" and _cross_section(config, sample) is not None


def normalised_by(config: Config, sample: str, files: Provenances) -> tuple[float, str] | None:
    """Return the number that the weights of a sample are divided by, for all its events, and what it is.

    None where its weights are absolute ones.
    """
    if _cross_section(config, sample) is None:
        return None
    if not uses_generator_weights(config, sample):
        return float(_events(files, None)), "events read"
    in_runs = any(file.weights_in_runs is not None for file in files)
    return _generated(
        sample, files, None
    ), f"sum of generator weights{', of the tree Runs' if in_runs else ''}"


def notes(config: Config, files: Provenances) -> list[str]:
    """Return notes on the normalisation for a reader of the result."""
    samples = {name: [file for file in files if file.sample == name] for name in sample_names(config)}
    found = [note for sample, own in samples.items() for note in _weight_notes(config, sample, own)]
    return found + [note for sample, own in samples.items() for note in _surplus_notes(sample, own)]


def require_different(provenances: Mapping[str, Provenances]) -> None:
    """Raise where two files hold the same events, whatever they are called.

    The same are files of as many entries that begin with the same events, in all that the analysis reads of them, and
    which are copies of one file by its UUID, or whose numbers cannot agree by chance.
    """
    seen: dict[Hashable, Provenance] = {}
    for file in itertools.chain.from_iterable(provenances.values()):
        if not file.first_events:
            continue
        content = (file.first_events, file.entries_in_file)
        for identity in [(*content, file.file_uuid), *([content] if file.distinctive else [])]:
            if other := seen.get(identity):
                names = dict.fromkeys((other.sample, file.sample))
                raise InputError(
                    f"sample{'s' if len(names) > 1 else ''} {' and '.join(map(repr, names))}: {other.file} and "
                    f"{file.file} hold the same {file.entries_in_file} events, which would count twice; "
                    "remove one from the manifest, or say that it is meant with data.allow_repeated: true"
                )
            seen[identity] = file


def _scale(config: Config, sample: str, files: Provenances, fold: str, aside: int | None) -> float:
    """Return the factor of one sample, ``aside`` events of which are in files that are not used."""
    if files and all(file.left_out is not None for file in files):
        raise InputError(
            f"sample {sample!r}: every file was left out (data.unreadable_files); the first because "
            f"{files[0].left_out}"
        )
    parts = None if fold == ALL else datasets.chosen(config, fold)
    total, here = _events(files, None), _events(files, parts)
    if here == 0:
        raise InputError(f"sample {sample!r} has no event in fold {fold!r}; see {_dividing(config)}")
    cross_section = _cross_section(config, sample)
    if cross_section is None:
        return _made_up_for(sample, files, total, aside) / here
    expected = cross_section * config.data.luminosity_per_pb
    return expected / (_generated(sample, files, parts) if uses_generator_weights(config, sample) else here)


def _cross_section(config: Config, sample: str) -> float | None:
    return config.data.samples[sample.partition("__")[0]].cross_section_pb


def _dividing(config: Config) -> str:
    return "data.held_out_fraction" if config.data.folds is None else "data.folds"


def _events(files: Provenances, parts: PartNames) -> int:
    return sum(n for file in files for part, n in file.entries_read.items() if parts is None or part in parts)


def _made_up_for(sample: str, files: Provenances, total: int, aside: int | None) -> int:
    """Return events that absolute weights stand for: those read, and those promised of the files that were not."""
    lost = [file.entries_promised for file in files if file.left_out is not None]
    if None in lost or aside is None:
        key = "unreadable_files" if None in lost else "max_files_per_process"
        raise InputError(
            f"sample {sample!r} has absolute weights, and files are left out (data.{key}) whose number of events the "
            "manifest does not say, so that they cannot be made up for; add their 'nevts' (the verb `manifest` writes "
            "them), give the sample a cross_section_pb, or read all files"
        )
    return total + sum(filter(None, lost)) + aside


def _generated(sample: str, files: Provenances, parts: PartNames) -> float:
    """Sum of the generator weights of the events processed in some parts.

    Of files with a tree ``Runs`` it is the sum there, once per file, times the share of the file's entries that was
    read and the share of the parts in the sample.
    """
    read = [file for file in files if file.left_out is None]
    by_file = itertools.groupby(read, key=lambda file: file.file)
    here = math.fsum(_of_a_file(list(ranges)) for _, ranges in by_file) * _share(read, parts)
    if not here > 0:
        raise InputError(
            f"sample {sample!r}: the generator weights of its events in {_named(parts)} add up to {here:g}, nothing to "
            "normalise by; see data.generator_weight, or use data.normalise: events"
        )
    return here


def _of_a_file(ranges: Provenances) -> float:
    in_runs = ranges[0].weights_in_runs
    if in_runs is None:
        return math.fsum(w for file in ranges for w in (file.generator_weights or {}).values())
    return float(in_runs * _events(ranges, None) / ranges[0].entries_in_file)


def _named(parts: PartNames) -> str:
    return "all folds" if parts is None else f"fold {', '.join(map(repr, parts))}"


def _share(files: Provenances, parts: PartNames) -> float:
    """Return the share of parts in a sample, by generator weights where all its files have them, else by events."""
    if parts is None:
        return 1.0
    known = [file.generator_weights for file in files if file.generator_weights is not None]
    if len(known) < len(files):
        return _events(files, parts) / _events(files, None)
    everything = math.fsum(weight for weights in known for weight in weights.values())
    own = math.fsum(weights[name] for weights in known for name in parts)
    return float(own / everything) if everything else 0.0


def _weight_notes(config: Config, sample: str, files: Provenances) -> list[str]:
    """Return notes on weights that look as if the other way to normalise were meant."""
    kept = sum(sum(file.entries_kept.values()) for file in files)
    if not kept or _cross_section(config, sample) is None:
        return []
    total = sum(sum(file.sum_of_weights.values()) for file in files)
    absolute = sum(sum(file.sum_of_absolute_weights.values()) for file in files)
    mean, negative = total / kept, (absolute - total) / 2 / absolute if absolute else 0.0
    if uses_generator_weights(config, sample):
        generated = _generated(sample, files, None) / _events(files, None)
        # Without the generator's weight those of an analysis are near 1; with it those of the events that it keeps may
        # have another mean than all, where phase space was sampled unevenly.
        if (
            MEAN_WEIGHT[0] <= mean / generated <= MEAN_WEIGHT[1]
            or not MEAN_WEIGHT[0] <= mean <= MEAN_WEIGHT[1]
        ):
            return []
        return [
            f"sample {sample!r} is normalised by its generator weights, of mean {generated:g}, but the analysis's "
            f"weights have mean {mean:g}: are they a factor of its column 'weight'?"
        ]
    found = _skim_notes(sample, files)
    if MEAN_WEIGHT[0] <= mean <= MEAN_WEIGHT[1] and negative <= NEGATIVE_SHARE:
        return found
    return [
        *found,
        f"sample {sample!r} is normalised by its number of events, but its weights have mean {mean:g} and "
        f"{100 * negative:.3g} % of them, by size, are negative: if the generator's weight is a factor of them, use "
        "data.normalise: weights",
    ]


def _skim_notes(sample: str, files: Provenances) -> list[str]:
    """Return a warning where a skim is normalised by its number of events."""
    first = {file.file: file for file in files if file.events_in_runs is not None}.values()
    generated = sum(filter(None, (file.events_in_runs for file in first)))
    there = sum(file.entries_in_file for file in first)
    if not generated > there:
        return []
    return [
        f"sample {sample!r} is normalised by its number of events, but its files hold {there:.0f} of the "
        f"{generated:.0f} that were generated for them, as their tree 'Runs' says: use data.normalise: weights"
    ]


def _surplus_notes(sample: str, files: Provenances) -> list[str]:
    """Return notes on files with more events than promised, all of which are read; another file may be meant."""
    found = []
    for name, ranges in itertools.groupby(files, key=lambda file: file.file):
        parts = list(ranges)
        promised = [file.entries_promised for file in parts]
        if None in promised or any(file.left_out is not None for file in parts):
            continue
        total = sum(filter(None, promised))
        if (surplus := _events(parts, None) - total) > 0:
            found.append(
                f"sample {sample!r}: {name} has {surplus} events more than the {total} that the manifest "
                "promises; all are read"
            )
    return found
