"""Channels of an existing pyhf workspace in a run's fit: constants beside the run's own, parameters shared by name."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pipeline.data.jsonfiles import read_json
from pipeline.errors import ConfigError
from pipeline.likelihood.checks import validate
from pipeline.likelihood.histfactory import HistFactory
from pipeline.likelihood.paramsets import Modifiers, Parameter, parameters_of
from pipeline.likelihood.stacked import FIELDS, StackedTemplates
from pipeline.likelihood.workspace import (
    JsonObject,
    Specification,
    Workspace,
    measurement_of,
    templates_from_workspace,
)

ConstraintWidths = Mapping[str, float | None]  # of constraint terms, None for one that is switched off


class OtherWorkspace(NamedTuple):
    """A workspace to join: where it is from, its JSON, its numbers, the settings of its first measurement."""

    path: Path
    workspace: Workspace
    templates: Specification
    measurement: JsonObject


def given(path: Path) -> OtherWorkspace:
    """Return the workspace of a file.

    Raises:
        ConfigError: there is none, or it is not valid.
        InputError: the file is no JSON.
    """
    if not path.is_file():
        raise ConfigError(
            f"model.with: there is no file {path}; give the JSON of a pyhf workspace, or remove it"
        )
    content = read_json(path)
    try:
        validate(content)
        templates = templates_from_workspace(content)
        _check_events(templates)
        return OtherWorkspace(path, content, templates, measurement_of(content, None)["config"])
    except ValueError as error:
        raise ConfigError(f"model.with: {path}: {error}") from error


def _check_events(templates: Specification) -> None:
    for name, samples in templates.items():
        total = np.sum([np.asarray(sample["data"]) for sample in samples.values()], axis=0)
        if np.any(total < 0):
            raise ValueError(
                f"channel {name!r} expects {total.min():.4g} events in bin {int(np.argmin(total))}; allowed are 0 and "
                "more; mend its samples"
            )


class JoinedChannels:
    """The likelihood of a run's own channels and those of a workspace, and how the templates of both are stacked."""

    def __init__(
        self,
        own: HistFactory,
        structure: Specification,
        measurement: JsonObject,
        widths: ConstraintWidths,
        other: OtherWorkspace,
        correlated: Collection[str] = (),
    ):
        """Join a workspace to ``own``, the model of the run's channels; ``structure`` has names and shapes of these.

        Args:
            correlated: systematics of the run that are sums of several parameters, which none there is.

        Raises:
            ConfigError: names of channels clash, the workspace has another POI, or a parameter has another constraint.
        """
        _check_channels(structure, other)
        _check_poi(measurement, other)
        more = _their_parameters(structure, measurement, widths, other, correlated)
        self.measurement: JsonObject = {
            "poi": measurement["poi"],
            "parameters": [*measurement["parameters"], *more],
        }
        both = {**structure, **other.templates}
        try:
            self.model = HistFactory.from_templates(
                both, self.measurement, constraint_widths=widths, is_structure=True
            )
        except ValueError as error:
            raise ConfigError(f"model.with: {other.path}, joined to the run: {error}") from error
        self.channels: list[JsonObject] = list(other.workspace["channels"])
        self.structure: Specification = dict(other.templates)
        stacking = self.model.stacking
        self._constant = stacking.stacked(both)
        self._places = stacking.places(own.stacking.by_name(_numbered(own)))

    def stacked(self, own: StackedTemplates) -> StackedTemplates:
        """Return the templates of all channels, from those of the run's own; differentiable."""
        flat = jnp.concatenate([jnp.zeros(1), *(jnp.ravel(getattr(own, field)) for field in FIELDS)])
        return StackedTemplates(
            **{
                field: jnp.where(place > 0, flat[place], getattr(self._constant, field))
                for field, place in self._places.items()
            }
        )

    def asimov(self, templates: StackedTemplates) -> dict[str, Float[Array, " bins"]]:
        """Return what the joined channels expect with all parameters at their initial values."""
        expected = self.model.expected_data(self.model.initial, templates, include_auxdata=False)
        slices = self.model.stacking.names.slices
        return {channel["name"]: expected[slices[channel["name"]]] for channel in self.channels}


def _numbered(own: HistFactory) -> dict[str, Int[np.ndarray, "..."]]:
    """Return the place of each number of stacked templates in one vector of all, behind a 0."""
    found, begin = {}, 1
    for field, shape in own.stacking.shapes().items():
        size = int(np.prod(shape))
        found[field] = np.arange(begin, begin + size).reshape(shape)
        begin += size
    return found


def _check_channels(structure: Specification, other: OtherWorkspace) -> None:
    clash = sorted(set(structure) & set(other.templates))
    if clash:
        raise ConfigError(
            f"model.with: {other.path} has a channel {clash[0]!r}, and so has the run; rename one of them"
        )


def _check_poi(measurement: JsonObject, other: OtherWorkspace) -> None:
    poi = other.measurement["poi"]
    if poi not in ("", measurement["poi"]):
        raise ConfigError(
            f"model.with: {other.path} has the POI {poi!r}, and the run {measurement['poi']!r}; the fit has one: "
            "set that of its first measurement to '' for none, or name the run's alike"
        )


def _their_parameters(
    structure: Specification,
    measurement: JsonObject,
    widths: ConstraintWidths,
    other: OtherWorkspace,
    correlated: Collection[str],
) -> list[JsonObject]:
    """Return the settings of parameters that the run has not.

    What is constrained and free begins where its constraint is, as Asimov data need it.

    Raises:
        ConfigError: a parameter of both has two constraints.
    """
    try:
        mine = _parameters(structure, measurement["parameters"], widths)
        theirs = _parameters(other.templates, other.measurement["parameters"], {})
    except ValueError as error:
        raise ConfigError(f"model.with: {other.path}: {error}") from error
    for name in sorted(theirs.keys() & set(correlated)):
        raise ConfigError(
            f"model.with: parameter {name!r} is in {other.path}, and in the run it is partly correlated with another "
            "one (model.correlations), a sum of several parameters; rename it there, or remove the correlation"
        )
    for name in sorted(mine.keys() & theirs.keys()):
        here, there = (_constraint(found[name]) for found in (mine, theirs))
        if here != there:
            raise ConfigError(
                f"model.with: parameter {name!r} has {here} in the run and {there} in {other.path}; a parameter of one "
                "name is one: give both the same constraint, or rename it in one of them"
            )
        if mine[name].from_templates:
            raise ConfigError(
                f"model.with: parameter {name!r} acts bin by bin in channels of the run, and in {other.path}; such "
                "parameters cannot be shared: rename it there"
            )
    more = [entry for entry in other.measurement["parameters"] if entry["name"] not in mine]
    return [_at_its_constraint(entry, theirs.get(entry["name"])) for entry in more]


def _at_its_constraint(entry: JsonObject, parameter: Parameter | None) -> JsonObject:
    if parameter is None or parameter.constraint == "none" or any(parameter.fixed):
        return entry
    auxiliary = (1.0,) * parameter.size if parameter.constraint == "poisson" else parameter.auxdata
    return {**entry, "inits": list(auxiliary)} if auxiliary else entry


def _parameters(
    templates: Specification, configured: list[JsonObject], widths: ConstraintWidths
) -> dict[str, Parameter]:
    found = parameters_of(Modifiers(templates), configured, widths)
    return {parameter.name: parameter for parameter in found}


def _constraint(parameter: Parameter) -> str:
    """Return what is known of a parameter beforehand, in words."""
    held = f", held at {_listed(parameter.inits)}" if any(parameter.fixed) else ""
    several = "" if parameter.scalar else f" for each of {parameter.size} bins"
    if parameter.constraint == "none" or not parameter.is_on:
        return f"no constraint{several}{held}"
    if parameter.from_templates:
        return f"a {parameter.constraint} constraint by the uncertainties of bins{held}"
    shape = "Gaussian" if parameter.constraint == "normal" else "Poisson"
    around = f"around {_listed(parameter.auxdata)} of width {_listed(parameter.widths)}"
    return f"a {shape} constraint {around}{several}{held}"


def _listed(values: tuple[float, ...] | None) -> str:
    return ", ".join(f"{value:g}" for value in values or ())
