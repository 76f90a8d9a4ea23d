"""What a pyhf workspace says, by name: what every format is written from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import InputError, nearest
from pipeline.likelihood import HistFactory
from pipeline.likelihood.checks import validate
from pipeline.likelihood.paramsets import Modifiers, Parameter, parameters_of
from pipeline.likelihood.workspace import (
    JsonObject,
    ModifierArrays,
    SampleArrays,
    Specification,
    Workspace,
    measurement_of,
)

BY_BIN = ("shapefactor", "shapesys", "staterror")
"""Types of modifiers with a parameter for every bin."""
SYSTEMATICS = ("histosys", "normsys")
"""Types with one constrained parameter of their own."""
DEFAULTS = {"scalar": (1.0, (0.0, 10.0)), "alpha": (0.0, (-5.0, 5.0)), "gamma": (1.0, (1e-10, 10.0))}
"""pyhf's start values and bounds: of normfactors, of constrained parameters, of staterror and shapesys."""
FAMILIES = {"normsys": "alpha", "histosys": "alpha", "staterror": "gamma", "shapesys": "gamma"}
"""Which of them a type of modifier has; others are scalar."""


class CannotSayError(InputError):
    """Something of a model that a format has no words for."""

    def __init__(self, what: str, format_name: str, why: str):
        super().__init__(f"{what}: {format_name} cannot say it: {why}")


class ModelContent(NamedTuple):
    """A workspace and one of its measurements; templates keyed by names, modifiers by use, parameters by name."""

    workspace: Workspace
    measurement: JsonObject
    templates: Specification
    modifiers: Modifiers
    parameters: dict[str, Parameter]

    @property
    def poi(self) -> str:
        """The parameter of interest, '' for none."""
        return str(self.measurement["config"]["poi"])

    @property
    def observations(self) -> dict[str, list[float]]:
        """Observed events by channel."""
        return {entry["name"]: list(entry["data"]) for entry in self.workspace["observations"]}

    def components(self, kind: str, name: str, channel: str) -> range:
        """Return which components of a bin-by-bin parameter act in the bins of a channel."""
        before = 0
        if kind == "staterror":
            own = self.modifiers.channels(kind, name)
            before = sum(self.modifiers.bins[other] for other in own[: own.index(channel)])
        return range(before, before + self.modifiers.bins[channel])

    def require_plain(self, name: str, format_name: str) -> None:
        """Refuse a parameter whose constraint was set by hand: only the luminosity's has a place elsewhere."""
        parameter = self.parameters[name]
        kinds = [kind for kind in self.modifiers.kinds if self.modifiers.users(kind, name)]
        plain = {
            "shapesys": (None, {"width", "fixed", "auxdata"}),
            "staterror": ((1.0,) * parameter.size, {"width", "fixed"}),
        }
        for kind in kinds:
            if kind in SYSTEMATICS and (parameter.auxdata, parameter.widths) != ((0.0,), (1.0,)):
                raise CannotSayError(
                    f"parameter {name!r}",
                    format_name,
                    f"its auxiliary measurement is {parameter.auxdata}, not 0",
                )
            auxdata, follows = plain.get(kind, (None, set[str]()))
            if (
                follows - {"fixed"} - parameter.from_templates
                or (auxdata or parameter.auxdata) != parameter.auxdata
            ):
                raise CannotSayError(
                    f"parameter {name!r}", format_name, f"the measurement changes the constraint of a {kind}"
                )

    def require_start(self, name: str, format_name: str) -> None:
        """Refuse start value and bounds of a constrained parameter, but for the luminosity's, that are not pyhf's."""
        parameter = self.parameters[name]
        kinds = [kind for kind in FAMILIES if self.modifiers.users(kind, name)]
        for kind in kinds if parameter.constraint != "none" else ():
            value, bounds = DEFAULTS[FAMILIES[kind]]
            for what, found, plain in (
                ("start value", parameter.inits or (), value),
                ("bounds", parameter.bounds or (), bounds),
            ):
                other = [own for own in found if own != plain]
                if other:
                    raise CannotSayError(
                        f"parameter {name!r}",
                        format_name,
                        f"the measurement gives it a start value, or bounds: {what} {other[0]}, not {plain}; remove it",
                    )


def _samples(channel: JsonObject) -> dict[str, SampleArrays]:
    """Return the samples of a channel with all their digits."""
    found: dict[str, SampleArrays] = {}
    for sample in channel["samples"]:
        entry = found[sample["name"]] = {"data": np.asarray(sample["data"], dtype=np.float64)}
        for modifier in sample["modifiers"]:
            entry.setdefault(modifier["type"], {})[modifier["name"]] = _numbers(modifier["data"])
    return found


def _numbers(data: Any) -> ModifierArrays:
    if isinstance(data, Mapping):
        return {side: np.asarray(values, dtype=np.float64) for side, values in data.items()}
    return None if data is None else np.asarray(data, dtype=np.float64)


def content_of(
    workspace: Workspace, measurement: str | None = None, source: str | Path = "workspace"
) -> ModelContent:
    """Return a workspace by names.

    Raises:
        InputError: it is not valid, or has no measurement of that name, or pyhf would make no model and data of it.
    """
    try:
        validate(workspace)
        chosen = measurement_of(workspace, measurement)
        HistFactory.from_workspace(
            workspace, measurement, check=False
        )  # says what is wrong; its arrays may be of single precision
        _check_observations(workspace)
        templates = {channel["name"]: _samples(channel) for channel in workspace["channels"]}
        modifiers = Modifiers(templates)
        found = parameters_of(modifiers, chosen["config"]["parameters"], {})
    except ValueError as error:
        raise InputError(f"{source}: {error}") from error
    return ModelContent(
        workspace, chosen, templates, modifiers, {parameter.name: parameter for parameter in found}
    )


def _check_observations(workspace: Workspace) -> None:
    """Refuse a channel without observations, and observations of none; their numbers the model has checked."""
    channels = {channel["name"]: len(channel["samples"][0]["data"]) for channel in workspace["channels"]}
    observed = [entry["name"] for entry in workspace["observations"]]
    for name in observed:
        if name not in channels:
            raise ValueError(f"observations of {name!r}, which is no channel; {nearest(name, channels)}")
    for name in channels:
        if name not in observed:
            raise ValueError(f"channel {name!r} has no observations; add them")
