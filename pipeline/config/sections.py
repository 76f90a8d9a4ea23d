"""The whole configuration: every key with its default, its range and what it means."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import Field

from pipeline.config.channels import Channel
from pipeline.config.cluster import Cluster
from pipeline.config.events import AnalysisSection, Data, Simulate
from pipeline.config.fit.groups import groups_of, measured_of_bins, members_of
from pipeline.config.fit.model import MC_STATISTICS, Model
from pipeline.config.fit.placing import require_places, require_samples, require_weighted
from pipeline.config.fit.systematics import NormPlusShapeSystematic
from pipeline.config.judging import Alternative, Evaluate
from pipeline.config.objective import (
    McStatistics,
    Objective,
    OfNuisanceParameters,
    require_inside_bounds,
    require_measurable,
)
from pipeline.config.optimisation import Optimise
from pipeline.config.quantities import UncertaintyPart
from pipeline.config.section import MOST, Anneal, Name, Section, WidthsByName
from pipeline.errors import nearest


class Surrogate(Section):
    """The gradient through a stage without a derivative: a generator learnt from calls of it near the parameters."""

    points: int = Field(
        default=4,
        ge=1,
        le=MOST,
        description="calls per epoch, in a Latin hypercube, beside the one at the parameters",
    )
    draws: int = Field(default=3000, ge=1, description="training events that a call simulates")
    region: Anneal = Field(
        default=Anneal(initial=0.08, final=0.02),
        description="half width of the box around the parameters that calls are made in, and learnt from, in units of "
        "each parameter's allowed range",
    )
    calls: int = Field(default=100, ge=1, description="calls that are learnt from at most, the latest first")
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(64, 64), description="units of the generator's hidden layers, 1 or more each"
    )
    steps: int = Field(default=500, ge=1, le=MOST, description="updates of the generator per epoch")
    batch: int = Field(default=512, ge=1, description="events per update of the generator")
    learning_rate: float = Field(
        default=0.003, gt=0, description="adam's, of the generator; it decays to 0 by a cosine"
    )


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
    widths: WidthsByName = Field(
        default={},
        description="widths of relaxed operations, by free parameter or by the name the analysis gives; absent or "
        "`auto`, each or all: from the distributions and the number of the training events (docs/widths.md)",
    )
    channels: dict[Name, Channel] = Field(min_length=1, description="one entry per region")
    model: Model = Model()
    objective: Objective
    optimise: Optimise = Optimise()
    surrogate: Surrogate | None = None
    evaluate: Evaluate = Evaluate()
    cluster: Cluster = Cluster()

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Config":
        if (self.data.manifest is None) == (self.simulate is None):
            raise ValueError("give either data.manifest or a simulate section, not both and not neither")
        simulated = self.simulate.samples if self.simulate else ()
        require_samples("simulate.samples", [n.partition("__")[0] for n in simulated], self.data.samples)
        if self.evaluate.polish and not self.evaluate.certificate:
            raise ValueError(
                "evaluate.polish: it moves to points of the certificate; set evaluate.certificate"
            )
        asked = [key for key in ("certificate", "refits") if getattr(self.evaluate, key)]
        if asked and self.data.folds is not None:
            raise ValueError(
                f"evaluate.{asked[0]}: it is about one optimisation, and data.folds makes {self.data.folds}; remove "
                "either, or set data.held_out_fraction in place of data.folds"
            )
        if self.evaluate.refits and self.surrogate is not None:
            raise ValueError(
                "evaluate.refits: not for a stage without a derivative, whose calls are for the run's events; set 0"
            )
        if self.evaluate.toys and not self.model.has_workspace:
            raise ValueError(
                f"evaluate.toys: {self.evaluate.toys} toys are drawn from a pyhf workspace of the model, and "
                + (
                    "there is no model; add the section"
                    if not self.model.is_fitted
                    else "it has coefficients of a theory, or a constraint_width that is not 1"
                )
                + ", or set 0"
            )
        self._model_fits_data()
        if self.objective.template_noise:
            self._noise_is_correctable()
        for name, other in self.alternatives.items():
            if other.objective.template_noise:
                raise ValueError(
                    f"evaluate.also.{name}: objective.template_noise is of an optimisation; remove it here"
                )
            try:
                other._model_fits_data()
            except ValueError as error:
                raise ValueError(f"evaluate.also.{name}: {error}") from error
        return self

    def _noise_is_correctable(self) -> None:
        shapes = any(isinstance(entry, NormPlusShapeSystematic) for entry in self.model.systematics)
        if not (shapes and self.objective.needs_fit):
            raise ValueError(
                "objective.template_noise: true needs an objective of a fit, and a model with a systematic of type "
                "NormPlusShape, whose templates have noise; remove it"
            )
        if self.optimise.leading != "all":
            raise ValueError(
                f"objective.template_noise: true needs all varied templates in every epoch, and optimise.leading is "
                f"{self.optimise.leading}; set that to all, or remove template_noise"
            )
        if self.surrogate is not None:
            raise ValueError(
                "objective.template_noise: true: not for a stage without a derivative, whose calls have a noise of "
                "their own; remove it"
            )

    def with_widths(self, found: Mapping[str, Anneal]) -> "Config":
        """Return the run with more widths, of names that it gives none for."""
        return self.model_copy(update={"widths": {**self.widths, **found}})

    @property
    def models(self) -> tuple[Model, ...]:
        """The run's model, and its further ones."""
        return (self.model, *(other.model for other in self.evaluate.also.values()))

    @property
    def alternatives(self) -> dict[str, "Config"]:
        """The run with each of the further models in place of its own, and no channel that is not for it."""
        return {name: self._with(other) for name, other in self.evaluate.also.items()}

    @property
    def joined(self) -> list[Path]:
        """The workspaces that join the fits of the run's model and of its further ones."""
        return [model.joined for model in self.models if model.joined is not None]

    def _with(self, other: Alternative) -> "Config":
        every, named = other.objective.is_merit, other.objective.channels
        used = {n: c for n, c in self.channels.items() if c.in_fit or every or n in named}
        changed = {"model": other.model, "objective": other.objective, "channels": used}
        return self.model_copy(update={**changed, "evaluate": Evaluate()})

    def _model_fits_data(self) -> None:
        require_places(self.model, self.data.samples, {name: own.bins for name, own in self.regions.items()})
        require_weighted(self.model, {name: own.variations for name, own in self.data.samples.items()})
        named = [name.partition("__")[0] for name in self.model.pseudodata]
        require_samples("model.pseudodata", named, self.data.samples)
        for name in self.model.pseudodata:
            process, parted, variation = name.partition("__")
            if parted and variation not in self.data.samples[process].variations:
                raise ValueError(
                    f"model.pseudodata: {variation!r} is not in data.samples.{process}.variations "
                    f"{list(self.data.samples[process].variations)}"
                )
        self._objective_fits_model()

    @property
    def regions(self) -> dict[str, Channel]:
        """The channels of the fit."""
        return {name: channel for name, channel in self.channels.items() if channel.in_fit}

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The groups of uncertainties of the model, with the parameters of each."""
        return groups_of(self.model, self.regions, self.data.samples)

    @property
    def objective_of_parameters(self) -> Objective:
        """The objective, with the parameters of the groups that it names."""
        return self.objective.with_groups(self.groups) if self.model.is_fitted else self.objective

    def _objective_fits_model(self) -> None:
        if self.model.is_fitted and not self.regions:
            raise ValueError("channels: every one has in_fit: false; a fit needs at least one")
        if self.objective.needs_fit and not self.model.is_fitted:
            raise ValueError(
                f"objective: kind {self.objective.kind!r} and penalties need a model; add the section, or choose "
                "merit, mean or cross_entropy, without penalties"
            )
        self._objective_fits_channels()
        known = self.model.parameter_names | (self._sources & self._measured if self._sources else set())
        unknown = sorted(self.objective.parameter_names - known)
        if unknown:
            raise ValueError(
                f"objective: parameter {unknown[0]!r} is not in the model; "
                f"{nearest(unknown[0], self.model.parameter_names)}"
            )
        self._penalties_fit_model()
        if self.model.theory:
            require_measurable(self.model, self.objective, self.optimise.leading)
        if self.model.is_fitted:
            self._parts_fit_groups()
            require_inside_bounds(self.model, self.objective)

    def _parts_fit_groups(self) -> None:
        groups, measured = self.groups, self._measured
        for part in self.objective.parts:
            if isinstance(part, UncertaintyPart):
                what = f"objective: {part.kind!r}"
                if part.group is not None:
                    members_of(part.group, groups, self.model.parameter_names - measured, what)
                elif free := sorted(set(part.sources or ()) - measured):
                    raise ValueError(
                        f"{what}: parameter {free[0]!r} has no constraint term, and so no part; "
                        f"{nearest(free[0], measured)}"
                    )

    @property
    def _measured(self) -> set[str]:
        """The parameters with a constraint term, also of single bins."""
        return self.model.constrained_names | measured_of_bins(self.model, self.groups)

    @property
    def _sources(self) -> set[str]:
        """The parameters that objectives of a part of an uncertainty name as its sources."""
        parts = (part for part in self.objective.parts if isinstance(part, UncertaintyPart))
        return {name for part in parts for name in part.sources or ()}

    def _penalties_fit_model(self) -> None:
        for penalty in self.objective.penalties:
            watched = penalty.parameters or () if isinstance(penalty, OfNuisanceParameters) else ()
            free = sorted(set(watched) - self.model.constrained_names)
            if free:
                raise ValueError(
                    f"objective: penalty {penalty.kind!r}: parameter {free[0]!r} has no constraint term; "
                    f"{nearest(free[0], self.model.constrained_names)}"
                )
            if isinstance(penalty, McStatistics) and MC_STATISTICS not in self.groups:
                raise ValueError(
                    "objective: penalty 'mc_statistics' needs model.mc_statistics: true, and a sample whose events are "
                    "in it, unlike one with shape_uncertainties of size statistical; add it, or remove the penalty"
                )

    def _objective_fits_channels(self) -> None:
        counted = [name for name, channel in self.channels.items() if channel.variations]
        if counted and self.optimise.leading != "all":
            raise ValueError(f"optimise.leading: channel {counted[0]!r} counts all variations; remove either")
        outside = set(self.channels) - set(self.regions)
        used = self.objective.channels
        if used != outside and not (self.objective.is_merit and used < outside):
            raise ValueError(
                f"channels with in_fit: false are {sorted(outside)}, those of the objective are {sorted(used)}; "
                "the two must be the same, but `merit` may be made of any"
            )

    def physics(self) -> dict[str, Any]:
        """Return all that decides the result, as plain JSON: without titles, labels, folders and where it runs."""
        left_out = {"title": True, "run": True, "simulate": True, "evaluate": True}
        content = self.model_dump(mode="json", exclude=left_out)
        for key in ("epochs_per_job", "keep_every"):
            content["optimise"].pop(key)
        content["cluster"] = self.cluster.numerics
        content["objective"] = self.objective_of_parameters.model_dump(mode="json")
        content["model"].pop("pseudodata")
        content["model"]["with"] = self.model.joined_digest
        content["model"].pop("luminosity_group")
        content["model"].pop("further_pois")
        if not content["model"]["theory"]:  # so that a run without one is the run that it was
            content["model"].pop("theory")
        if not self.model.is_pruned:
            for entry in (content["model"], *content["model"]["systematics"]):
                entry.pop("pruning", None)
        own = content["model"]
        for entry in (*own["normfactors"], *own.get("theory", ()), *own["systematics"]):
            entry.pop("group")
        for channel in content["channels"].values():
            channel.pop("histogram")
        for labelled in (*content["channels"].values(), *content["data"]["samples"].values()):
            labelled.pop("label")
        for key in ("manifest", "prefixes", "read_attempts", "allow_repeated"):
            content["data"].pop(key)
        content["analysis"] = self.analysis.digest
        return content
