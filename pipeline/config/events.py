"""Sections of the events: which analysis reads which files, and what is simulated."""

import hashlib
import importlib.util
import json
import re
from pathlib import Path

import pydantic
from pydantic import Field

from pipeline.config.section import Name, Section
from pipeline.errors import ConfigError


class AnalysisSection(Section):
    """Which analysis, and what it is told."""

    target: str = Field(description="`module:Class` or `path/to/file.py:Class`")
    options: dict[str, pydantic.JsonValue] = Field(default={}, description="keyword arguments of the class")

    @pydantic.field_validator("target")
    @classmethod
    def _spelt(cls, target: str) -> str:
        if not re.fullmatch(r"(.+\.py|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):[A-Za-z_]\w*", target):
            raise ValueError("write module:Class or path/to/file.py:Class")
        return target

    @property
    def options_json(self) -> str:
        """The options in one canonical spelling."""
        return json.dumps(self.options, sort_keys=True)

    @property
    def source(self) -> Path:
        """The file that defines the analysis, found without running it."""
        name = self.target.partition(":")[0]
        if name.endswith(".py"):
            if not Path(name).is_file():
                raise ConfigError(f"analysis.target {self.target!r}: there is no file {name}")
            return Path(name)
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            spec = None
        if spec is None or spec.origin is None or not spec.has_location:
            raise ConfigError(f"analysis.target {self.target!r}: no module {name!r}; is it on PYTHONPATH?")
        return Path(spec.origin)

    @property
    def digest(self) -> str:
        """Fingerprint of the analysis: its source and its options."""
        return hashlib.sha256(self.source.read_bytes() + self.options_json.encode()).hexdigest()


class Sample(Section):
    """One process of the manifest."""

    cross_section_pb: float | None = Field(
        default=None,
        gt=0,
        description="normalise to this cross-section x luminosity / events processed; "
        "absent: the event weights are absolute already",
    )
    variations: tuple[Name, ...] = Field(
        default=(),
        description="further entries of the manifest read as samples of their own, as `sample__variation`",
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
        default=None, description="JSON: process -> variation -> {nevts_total, files: [{path, nevts}]}"
    )
    luminosity_per_pb: float = Field(gt=0, description="integrated luminosity in 1/pb")
    samples: dict[Name, Sample] = Field(
        min_length=1, description="the processes to read, in the order of figures"
    )
    held_out_fraction: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="share of events, chosen by event number, that the optimisation never sees",
    )
    max_files_per_process: int | None = Field(
        default=None, ge=1, description="use only the first files; absent: all"
    )

    @pydantic.field_validator("samples")
    @classmethod
    def _processes(cls, samples: dict[str, Sample]) -> dict[str, Sample]:
        for name in samples:
            if "__" in name:
                raise ValueError(
                    f"sample {name!r}: '__' parts process and variation; name the process, and the variation under "
                    f"data.samples.{name.partition('__')[0]}.variations"
                )
        return samples


class SimulatedSample(Section):
    """Files to generate for one process."""

    files: int = Field(ge=1, description="number of files, one job each")
    events_per_file: int = Field(ge=1, description="generated events per file")


class Simulate(Section):
    """The embedded data set: Pythia 8 events through a parametrised detector. Replaces `data.manifest`."""

    seed: int = Field(default=1, ge=1, le=1_000_000, description="seed of the whole data set")
    samples: dict[Name, SimulatedSample] = Field(min_length=1, description="what to generate")
