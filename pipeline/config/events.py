"""Sections of the events: which analysis reads which files, and what is simulated."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from pipeline.config import targets
from pipeline.config.section import MOST, Name, Section
from pipeline.errors import ConfigError

MOST_FOLDS = 100  # each is an optimisation of its own


class AnalysisSection(Section):
    """Which analysis, and what it is told."""

    target: str = Field(description="`module:Class` or `path/to/file.py:Class`")
    options: dict[str, pydantic.JsonValue] = Field(default={}, description="keyword arguments of the class")
    files: dict[str, Path] = Field(
        default={},
        description="further keyword arguments: files that the analysis reads, such as corrections; their content "
        "decides the result",
    )

    @pydantic.field_validator("target")
    @classmethod
    def _spelt(cls, target: str) -> str:
        if not targets.SPELLING.fullmatch(target):
            raise ValueError("write module:Class or path/to/file.py:Class")
        return target

    @pydantic.model_validator(mode="after")
    def _named_once(self) -> "AnalysisSection":
        both = sorted(set(self.options) & set(self.files))
        if both:
            raise ValueError(f"{both[0]!r} is given in options and in files; remove one")
        return self

    @property
    def options_json(self) -> str:
        """The keyword arguments of the class in one canonical spelling; files as absolute paths.

        Raises:
            ConfigError: one of the files is not there.
        """
        self._require_files()
        files = {name: str(path.absolute()) for name, path in self.files.items()}
        return json.dumps({**self.options, **files}, sort_keys=True)

    @property
    def sources(self) -> list[Path]:
        """The file that defines the analysis and the user's own ones that it imports, found without running them."""
        return targets.sources_of(self.target, "analysis.target")

    @property
    def content(self) -> targets.Content:
        """What the analysis is made of at this moment."""
        self._require_files()
        files = [path.absolute() for _, path in sorted(self.files.items())]
        return targets.content(self.target, "analysis.target", files)

    @property
    def digest(self) -> str:
        """Fingerprint of the analysis: class, source and that of all it imports, options, content of its files."""
        content = self.content
        files = [digest for _, digest in content.files]
        made_of = [
            self.target.rpartition(":")[2],
            content.source,
            self.options,
            [*zip(sorted(self.files), files, strict=True)],
        ]
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def _require_files(self) -> None:
        for name, path in self.files.items():
            if not path.is_file():
                raise ConfigError(f"analysis.files.{name}: there is no file {path}; correct the path")


class Sample(Section):
    """One process of the manifest."""

    cross_section_pb: float | None = Field(
        default=None,
        gt=0,
        description="normalise to this cross-section x luminosity, by `data.normalise`; "
        "absent: the event weights are absolute already",
    )
    variations: tuple[Name, ...] = Field(
        default=(),
        description="further entries of the manifest read as samples of their own, as `sample__variation`: this "
        "sample's variations of that name, also where the analysis makes such for other samples",
    )
    label: str | None = Field(default=None, description="name in figures")

    @pydantic.field_validator("variations")
    @classmethod
    def _once_each(cls, variations: tuple[str, ...]) -> tuple[str, ...]:
        repeated = [name for name in variations if variations.count(name) > 1 or name == "nominal"]
        if repeated:
            raise ValueError(
                f"{repeated[0]!r} would be read twice; list each variation once, without the nominal"
            )
        return variations


class Data(Section):
    """Which files, and how their events are normalised and divided."""

    manifest: Path | None = Field(
        default=None,
        description="JSON: process -> variation -> {nevts_total, files: [{path, nevts}]}; a file may have a "
        "`checksum`, `adler32:...` or `sha256:...`, that is verified before it is read",
    )
    luminosity_per_pb: float = Field(gt=0, description="integrated luminosity in 1/pb")
    samples: dict[Name, Sample] = Field(
        min_length=1, description="the processes to read, in the order of figures"
    )
    normalise: Literal["events", "weights"] = Field(
        default="events",
        description="a sample with a cross-section is normalised to the number of events processed, or to the sum of "
        "their generator weights: of the events read, or, of a skim of NanoAOD, `genEventSumw` in its tree `Runs`",
    )
    generator_weight: str = Field(
        default="genWeight",
        min_length=1,
        description="branch with the generator's weight of each event, for `normalise: weights`",
    )
    held_out_fraction: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="share of events, chosen by event number, that the optimisation never sees",
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        le=MOST_FOLDS,
        description="cross-fitting: so many optimisations, each on the events outside its fold, and every event is "
        "judged by the one that never saw it; in place of `held_out_fraction` (docs/cross_fitting.md)",
    )
    max_files_per_process: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        default="all", description="use only so many files, the first, of each entry of the manifest"
    )
    max_events_per_job: int = Field(
        default=200_000,
        ge=1,
        description="events that one job reads. A file that the manifest promises more of is read in several jobs, as "
        "equal ranges of its entries; smaller files of a sample share a job, in the order of their paths and 1000 at "
        "most. Bounds memory, changes no event",
    )
    prefixes: dict[str, str] = Field(
        default={},
        description="beginning of a path in the manifest -> what takes its place, such as a site's own copy or cache; "
        "of several that fit the longest",
    )
    read_attempts: int = Field(
        default=4,
        ge=1,
        le=12,  # the last of them after more than an hour
        description="how often a remote read is tried before the file counts as unreadable, after 2, 4, 8 ... seconds",
    )
    unreadable_files: Literal["fail", "leave_out"] = Field(
        default="fail",
        description="`leave_out`: the run goes on without a file that cannot be read, normalised to the events that "
        "were; absolute weights are scaled up by the events that the manifest promises; the report shows the loss",
    )
    allow_repeated: bool = Field(
        default=False,
        description="`true`: one file, or one content under two names, may be read twice, also by two samples; else "
        "it is an error, as its events would count twice",
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _in_folds_nothing_else_is_held_out(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("folds") is not None:
            return {"held_out_fraction": 0.0, **given}
        return given

    @pydantic.model_validator(mode="after")
    def _one_division(self) -> "Data":
        if self.folds is not None and self.held_out_fraction > 0:
            raise ValueError(
                f"folds: {self.folds} and held_out_fraction: {self.held_out_fraction:g} exclude each other: in folds "
                "every event is held out once; remove held_out_fraction, or set it to 0"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _something_to_normalise(self) -> "Data":
        if self.normalise == "weights" and all(s.cross_section_pb is None for s in self.samples.values()):
            raise ValueError(
                "normalise: weights is for samples with a cross_section_pb, and none has one: their weights are "
                "absolute; give cross-sections, or remove the key"
            )
        return self

    @pydantic.field_validator("samples")
    @classmethod
    def _processes(cls, samples: dict[str, Sample]) -> dict[str, Sample]:
        for name in samples:
            if "__" in name:
                raise ValueError(
                    f"sample {name!r}: '__' parts process and variation; name the process, and the variation under "
                    f"data.samples.{name.partition('__')[0]}.variations"
                )
            if name.endswith("_"):
                raise ValueError(
                    f"sample {name!r} ends in '_', which '__' before a variation would hide; rename it"
                )
        return samples


class SimulatedSample(Section):
    """Files to generate for one process."""

    files: int = Field(ge=1, le=MOST, description="number of files, one job each")
    events_per_file: int = Field(ge=1, description="generated events per file")


class Simulate(Section):
    """Events to generate. Replaces ``data.manifest``."""

    generator: str | None = Field(
        default=None,
        description="`module:function` or `path/to/file.py:function`: sample, number of events, NumPy generator -> "
        "branches; absent: the embedded data set, Pythia 8 events through a parametrised detector",
    )
    seed: int = Field(default=1, ge=1, le=1_000_000, description="seed of the whole data set")
    samples: dict[Name, SimulatedSample] = Field(
        min_length=1, description="what to generate: a process, or `process__variation`"
    )

    @pydantic.field_validator("generator")
    @classmethod
    def _spelt(cls, generator: str | None) -> str | None:
        if generator is not None and not targets.SPELLING.fullmatch(generator):
            raise ValueError("write module:function or path/to/file.py:function")
        return generator

    @property
    def folder(self) -> str:
        """Where the files are, under the folder of all generated ones: it says what decides their content."""
        if self.generator is None:
            return f"seed{self.seed}"
        key = "simulate.generator"
        name = f"{targets.source(self.generator, key).stem}-{self.generator.partition(':')[2]}"
        return f"{name}-{targets.content(self.generator, key).source[:12]}/seed{self.seed}"
