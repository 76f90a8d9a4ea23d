"""What a column file is made from, and whether it still is: the same files, ranges, analysis and version."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pipeline
from pipeline.config import Config
from pipeline.config.fit.theory import coefficients_of
from pipeline.data.column_file import ColumnRecipe, Provenance
from pipeline.data.jobs import ColumnsJob, SourceFile
from pipeline.data.normalisation import uses_generator_weights
from pipeline.errors import InputError

# Of a sample's largest weight: in single precision it is far from the smallest normal number itself, else its square.
SMALLEST_WEIGHT = {"float32": 1e-30, "float64": 1e-146}


def recipes(config: Config, files: Sequence[SourceFile]) -> list[ColumnRecipe]:
    """Return all that decides the columns of each of some files of a sample, or ranges of them.

    A local file is recognised by its size and modification time as well.
    """
    analysis = config.analysis.digest
    return [_recipe(config, analysis, file) for file in files]


def _recipe(config: Config, analysis: str, file: SourceFile) -> ColumnRecipe:
    made_of = ColumnRecipe(
        version=pipeline.__version__,
        analysis=analysis,
        held_out_fraction=config.data.held_out_fraction,
        folds=config.data.folds,
        sample=file.sample,
        file=file.path,
        range=(file.start, file.stop),
        promised=file.promised,
        checksum=file.checksum,
        generator_weight=branch_of_generator_weights(config, file.sample),
        coefficients=coefficients_in_models(config, file.sample),
    )
    if file.is_remote or not Path(file.path).exists():
        return made_of
    status = Path(file.path).stat()
    return made_of.changed(source_bytes=status.st_size, source_mtime_ns=status.st_mtime_ns)


def branch_of_generator_weights(config: Config, sample: str) -> str | None:
    """Return the branch of generator weights to add up, where the sample is normalised by them."""
    return config.data.generator_weight if uses_generator_weights(config, sample) else None


def coefficients_in_models(config: Config, sample: str) -> tuple[str, ...]:
    """Return the coefficients of a theory on which a sample depends in the run's model, or in a further one."""
    return tuple(sorted({name for model in config.models for name in coefficients_of(model.theory, sample)}))


def outdated(config: Config, job: ColumnsJob, found: Sequence[Provenance]) -> str | None:
    """Return why columns of provenances ``found`` are not those of this job in this run; None where they are.

    A ROOT file that is gone by now says nothing against columns made of it.
    """
    for made_of, source in zip(recipes(config, job.files), found, strict=False):
        now, then = made_of.as_json(), source.as_json()
        for key, value in now.items():
            is_gone = value is None and key in ("source_bytes", "source_mtime_ns")
            if then[key] != value and not is_gone:
                return f"{key} was {then[key]!r} and is {value!r}"
        if source.left_out is not None and config.data.unreadable_files == "fail":
            return "its file was left out, and data.unreadable_files is 'fail'"
    return None if len(found) == len(job.files) else f"its files were {len(found)} and are {len(job.files)}"


def require_weights(
    config: Config, provenances: Mapping[str, Sequence[Provenance]], scales: Mapping[str, float]
) -> None:
    """Raise where the weights of a sample, or the sum of their squares, would vanish or be infinite."""
    precision = config.cluster.precision
    least = SMALLEST_WEIGHT[precision]
    for sample, files in provenances.items():
        largest = max(file.largest_weight for file in files) * abs(scales[sample])
        if 0 < largest < least or largest > 1 / least:
            raise InputError(
                f"sample {sample!r}: the largest weight is {largest:.3g} after normalisation; allowed: {least:g} to "
                f"{1 / least:g} with cluster.precision {precision}; "
                + ("use float64, or " if precision == "float32" else "")
                + "give the weights in another unit in columns()"
            )
