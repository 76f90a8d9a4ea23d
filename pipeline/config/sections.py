"""The sections of a configuration: every key with its default, its range and what it means."""

import hashlib
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from pipeline.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+.-]*$")]


class Section(pydantic.BaseModel):
    """A section of the configuration: immutable, and an unknown key is an error."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Anneal(Section):
    """A width that shrinks geometrically over the epochs, so that the optimum found is that of hard cuts."""

    initial: float = Field(gt=0, description="width at the first epoch, in the unit of the quantity")
    final: float = Field(gt=0, description="width from the epoch `optimise.anneal_fraction` on")


class AnalysisSection(Section):
    """Which analysis, and what it is told."""

    target: str = Field(description="`module:Class` or `path/to/file.py:Class`")
    options: dict[str, Any] = Field(default={}, description="keyword arguments of the class")

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
        if spec is None or spec.origin is None:
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
        default=(), description="further entries of the manifest read as samples of their own, as `sample__variation`"
    )
    label: str | None = Field(default=None, description="name in figures")


class Data(Section):
    """Which files, and how their events are normalised and divided."""

    manifest: Path | None = Field(
        default=None, description="JSON: process -> variation -> {nevts_total, files: [{path, nevts}]}"
    )
    luminosity_per_pb: float = Field(gt=0, description="integrated luminosity in 1/pb")
    samples: dict[Name, Sample] = Field(min_length=1, description="the processes to read, in the order of figures")
    held_out_fraction: float = Field(
        default=0.5, ge=0, lt=1, description="share of events, chosen by event number, that the optimisation never sees"
    )
    max_files_per_process: int | None = Field(default=None, ge=1, description="use only the first files; absent: all")


class SimulatedSample(Section):
    """Files to generate for one process."""

    files: int = Field(ge=1, description="number of files, one job each")
    events_per_file: int = Field(ge=1, description="generated events per file")


class Simulate(Section):
    """The embedded data set: Pythia 8 events through a parametrised detector. Replaces `data.manifest`."""

    seed: int = Field(default=1, ge=1, le=1_000_000, description="seed of the whole data set")
    samples: dict[Name, SimulatedSample] = Field(min_length=1, description="what to generate")


class Channel(Section):
    """One region of the fit; its name is that of an observation of the analysis."""

    edges: tuple[float, ...] | None = Field(
        default=None, description="bin edges, ascending; absent: one bin that counts every selected event"
    )
    bandwidth: Anneal | None = Field(
        default=None, description="width of the kernel of the relaxed histogram; needed where there are edges"
    )
    label: str = Field(default="events", description="axis label, with unit")

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.edges is None:
            return self
        if len(self.edges) < 2 or any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError(f"edges {list(self.edges)} must be at least two ascending numbers")
        if self.bandwidth is None:
            raise ValueError("a channel with edges needs a bandwidth: {initial: ..., final: ...}")
        return self


class NormFactor(Section):
    """A free normalisation of some samples."""

    name: str = Field(description="name of the parameter")
    samples: tuple[Name, ...] = Field(min_length=1, description="samples it scales")
    nominal: float = Field(default=1.0, description="start value, and the value in Asimov data")
    bounds: tuple[float, float] = Field(default=(0.0, 10.0), description="bounds of the fit")


class NormalizationSystematic(Section):
    """A systematic uncertainty that scales samples (pyhf: normsys)."""

    name: str = Field(description="name of the nuisance parameter")
    type: Literal["Normalization"] = Field(description="a relative change of the yield")
    up: float = Field(gt=-1, description="relative change at +1 sigma")
    down: float = Field(gt=-1, description="relative change at -1 sigma")
    samples: tuple[Name, ...] | None = Field(default=None, description="affected samples; absent: all")


class NormPlusShapeSystematic(Section):
    """A systematic uncertainty with templates of its own (pyhf: normsys and histosys of one parameter)."""

    name: str = Field(description="name of the nuisance parameter")
    type: Literal["NormPlusShape"] = Field(description="up and down templates")
    up: Name = Field(description="variation of the analysis, or of the manifest, at +1 sigma")
    down: Name | None = Field(default=None, description="the same at -1 sigma; absent: `up` mirrored at the nominal")
    samples: tuple[Name, ...] | None = Field(default=None, description="affected samples; absent: all")


Systematic = Annotated[NormalizationSystematic | NormPlusShapeSystematic, Field(discriminator="type")]


class Model(Section):
    """The statistical model, in cabinetry's vocabulary."""

    poi: str = Field(description="parameter of interest: one of the norm factors")
    normfactors: tuple[NormFactor, ...] = Field(min_length=1, description="free normalisations")
    systematics: tuple[Systematic, ...] = Field(default=(), description="constrained nuisance parameters")
    luminosity_uncertainty: float | None = Field(
        default=None, gt=0, description="relative; adds pyhf's `lumi` modifier to every sample"
    )
    mc_statistics: bool = Field(default=True, description="one `staterror` parameter per bin")

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [n.name for n in self.normfactors] + [s.name for s in self.systematics]
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ValueError(f"parameter names must differ; repeated: {repeated}")
        if self.poi not in names[: len(self.normfactors)]:
            raise ValueError(f"poi {self.poi!r} is not one of the normfactors {names[: len(self.normfactors)]}")
        return self


class Objective(Section):
    """The number to optimise."""

    kind: Literal["poi_uncertainty", "asimov_significance"] = Field(
        description="`poi_uncertainty`: expected uncertainty of the POI (minimised); "
        "`asimov_significance`: Z_A of counting, the POI's samples against the rest (maximised)"
    )


class Optimise(Section):
    """How the parameters move."""

    epochs: int = Field(ge=1, description="updates; every epoch sees every training event")
    epochs_per_job: int = Field(default=50, ge=1, description="epochs per Snakemake job")
    optimiser: Literal["adam", "sgd"] = Field(default="adam", description="optax's optimiser of that name")
    learning_rate: float = Field(
        default=0.03, gt=0, description="step in units of each parameter's allowed range (bounds mapped to 0..1)"
    )
    final_learning_rate_fraction: float = Field(
        default=0.05, gt=0, le=1, description="cosine decay of the learning rate ends at this fraction"
    )
    first_moment_decay: float = Field(default=0.9, ge=0, lt=1, description="adam: memory of the gradient")
    second_moment_decay: float = Field(
        default=0.9,
        ge=0,
        lt=1,
        description="adam: memory of the gradient's size; short, because full gradients have no noise to average "
        "and their size changes by orders of magnitude as widths shrink",
    )
    anneal_fraction: float = Field(default=0.8, gt=0, le=1, description="widths are final after this share of epochs")
    seed: int = Field(default=1, ge=0, description="seed of the analysis's own random initial values")


class Cluster(Section):
    """Where the sweeps run."""

    executor: Literal["in_process", "local", "address"] = Field(
        default="local", description="this process; a Dask LocalCluster of processes; a running scheduler"
    )
    address: str | None = Field(default=None, description="of the scheduler, for `address`")
    chunk_events: int = Field(default=8192, ge=1, description="events per compiled call (memory per worker)")
    group_events: int = Field(default=32768, ge=1, description="events that move together between workers")


class Config(Section):
    """A run: one analysis on one data set."""

    run: Name = Field(description="name of the results folder")
    title: str = Field(default="", description="heading of the report")
    analysis: AnalysisSection
    data: Data
    simulate: Simulate | None = None
    parameters: dict[str, float] = Field(
        default={}, description="start values of free parameters; absent: the analysis's own"
    )
    widths: dict[str, Anneal] = Field(
        min_length=1, description="widths of relaxed operations, by free parameter or by the name the analysis gives"
    )
    channels: dict[Name, Channel] = Field(min_length=1, description="one entry per region")
    model: Model
    objective: Objective
    optimise: Optimise
    cluster: Cluster = Cluster()

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.data.manifest is None) == (self.simulate is None):
            raise ValueError("give either data.manifest or a simulate section, not both and not neither")
        self._known_samples("simulate.samples", self.simulate.samples if self.simulate else ())
        for entry in (*self.model.normfactors, *self.model.systematics):
            self._known_samples(f"model: {entry.name!r}", entry.samples or ())
        return self

    def physics(self) -> dict[str, Any]:
        """All that decides the result, as plain JSON: without titles, labels, folders and where it runs."""
        content = self.model_dump(mode="json", exclude={"title": True, "run": True, "simulate": True})
        for section, key in (("optimise", "epochs_per_job"), ("cluster", "executor"), ("cluster", "address")):
            content[section].pop(key)
        for labelled in (*content["channels"].values(), *content["data"]["samples"].values()):
            labelled.pop("label")
        content["data"].pop("manifest")
        content["analysis"] = self.analysis.digest
        return content

    def _known_samples(self, where: str, names: Iterable[str]) -> None:
        unknown = [name for name in names if name not in self.data.samples]
        if unknown:
            raise ValueError(f"{where}: sample {unknown[0]!r} is not in data.samples {sorted(self.data.samples)}")
