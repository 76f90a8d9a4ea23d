"""The HEP Statistics Serialization Standard (HS3) -> a pyhf workspace.

What is read are binned models of ``histfactory_dist`` with pyhf's interpolation, as ``to_hs3`` writes them; anything
else is refused by its name. A shapefactor whose parameters have Gaussian auxiliary distributions around 1 is a
staterror; a normfactor with one is the luminosity.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import InputError
from pipeline.evaluate.workspaces.exchange.content import DEFAULTS, FAMILIES
from pipeline.evaluate.workspaces.exchange.hs3_values import (
    ParameterSetting,
    named,
    number,
    numbers,
    settings_of,
)
from pipeline.likelihood.workspace import JsonObject, Workspace

SAME = 1e-9  # relative, of an uncertainty that is written twice
CODES = {"normsys": ("code4", 4), "histosys": ("code4p", 4)}
"""The interpolation of each type, by pyhf's name and by ROOT's number."""


class _Model(NamedTuple):
    """The parts of a file that one analysis is made of."""

    channels: list[JsonObject]
    data: dict[str, list[float]]
    gaussians: dict[str, tuple[float, float]]  # of auxiliary distributions: centre and width by parameter
    settings: dict[str, ParameterSetting]


def from_hs3(content: JsonObject, analysis: str | None = None) -> Workspace:
    """Return the workspace of an analysis, the first where no name is given.

    Raises:
        InputError: it is no such file, or says what a pyhf workspace cannot; the message names it.
    """
    try:
        chosen = named(content["analyses"], analysis, "analyses")
        model = _model(content, chosen)
        used: dict[str, tuple[str, list[str]]] = {}
        channels = [_channel(model, own, used) for own in model.channels]
        return {
            "version": "1.0.0",
            "channels": channels,
            "observations": [{"name": name, "data": data} for name, data in model.data.items()],
            "measurements": [{"name": chosen["name"], "config": _measurement(model, chosen, used, channels)}],
        }
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise InputError(
            f"HS3: {type(error).__name__} {error}: it is not built as the standard says"
        ) from error


def _model(content: JsonObject, analysis: JsonObject) -> _Model:
    if content.get("functions"):
        raise InputError(
            f"HS3: function {content['functions'][0]['name']!r}: a pyhf workspace has no functions"
        )
    likelihood = named(content["likelihoods"], analysis["likelihood"], "likelihoods")
    distributions = {entry["name"]: entry for entry in content["distributions"]}
    channels = [distributions[name] for name in likelihood["distributions"]]
    for own in channels:
        if own["type"] != "histfactory_dist" or own.get("barlow_beeston_method", "lite") != "lite":
            raise InputError(
                f"HS3: distribution {own['name']!r} is a {own['type']}, Barlow-Beeston "
                f"{own.get('barlow_beeston_method', 'lite')}; a channel of pyhf is a histfactory_dist, lite"
            )
    data = {entry["name"]: entry for entry in content["data"]}
    observed = {}
    if len(likelihood["data"]) != len(channels):
        raise InputError(
            f"HS3: likelihood {likelihood['name']!r} has {len(channels)} distributions and the data "
            f"{likelihood['data']}; give one of each distribution"
        )
    for own, name in zip(channels, likelihood["data"], strict=True):
        if name not in data:
            raise InputError(f"HS3: data: no {name!r}; there are {sorted(data)}")
        if data[name]["type"] != "binned":
            raise InputError(f"HS3: data {name!r} are {data[name]['type']}; data of pyhf are binned")
        observed[own["name"]] = numbers(data[name]["contents"], f"data {name!r}")
    gaussians = dict(_gaussian(distributions[name]) for name in likelihood.get("aux_distributions") or ())
    return _Model(channels, observed, gaussians, settings_of(content, analysis))


def _gaussian(entry: JsonObject) -> tuple[str, tuple[float, float]]:
    """Return parameter, centre and width of an auxiliary distribution."""
    centre, mean, sigma = (entry.get(key) for key in ("x", "mean", "sigma"))
    if isinstance(centre, str) and not isinstance(mean, str):
        centre, mean = mean, centre  # the density is the same
    plain = all(isinstance(own, int | float) for own in (centre, sigma))
    if entry["type"] != "gaussian_dist" or not plain or not isinstance(mean, str):
        raise InputError(
            f"HS3: auxiliary distribution {entry['name']!r} of type {entry['type']}; read are gaussian_dist of one "
            "parameter, centre and width numbers"
        )
    if not (math.isfinite(centre) and 0 < sigma < math.inf):  # type: ignore[arg-type,operator]
        raise InputError(
            f"HS3: auxiliary distribution {entry['name']!r}: centre {centre}, sigma {sigma}; allowed are finite "
            "numbers, sigma above 0"
        )
    return mean, (float(centre), float(sigma))  # type: ignore[arg-type]


def _channel(model: _Model, channel: JsonObject, used: dict[str, tuple[str, list[str]]]) -> JsonObject:
    samples, size = [], len(model.data[channel["name"]])
    for sample in channel["samples"]:
        what = f"channel {channel['name']!r}, sample {sample['name']!r}"
        where = f"HS3: {what}"
        if not sample["data"]:
            raise InputError(
                f"{where}: data {sample['data']!r}; allowed are contents, one number for each bin"
            )
        contents = numbers(sample["data"]["contents"], what, size)
        modifiers = []
        for modifier in sample["modifiers"]:
            entry, parameters = _modifier(model, modifier, sample, f"{where}, modifier {modifier['name']!r}")
            modifiers.append(entry)
            _, known = used.setdefault(entry["name"], (entry["type"], []))
            known += [name for name in parameters if name not in known]
        samples.append({"name": sample["name"], "data": contents, "modifiers": modifiers})
    return {"name": channel["name"], "samples": samples}


def _modifier(
    model: _Model, modifier: JsonObject, sample: JsonObject, where: str
) -> tuple[dict[str, Any], list[str]]:
    """Return a modifier of pyhf, and the parameters that it has."""
    kind, data = modifier["type"], modifier.get("data") or {}
    expected = "Poisson" if kind == "shapesys" else "Gauss"
    if modifier.get("constraint", expected) not in (expected, None):
        raise InputError(f"{where}: constraint {modifier['constraint']}; that of pyhf's {kind} is {expected}")
    code = modifier.get("interpolation", data.get("interpolation") if isinstance(data, Mapping) else None)
    if code is not None and code not in CODES.get(kind, ()):
        raise InputError(f"{where}: interpolation {code}; read is {CODES.get(kind, ('none',))[0]} of {kind}")
    if kind in ("shapefactor", "shapesys", "staterror"):
        parameters = list(modifier["parameters"])
        return _by_bin(model, modifier, sample, parameters, where), parameters
    name = modifier["parameter"]
    if kind == "normfactor":
        lumi = name in model.gaussians
        if lumi and name != "lumi":
            raise InputError(
                f"{where}: parameter {name!r} has an auxiliary distribution; pyhf has one for a scale named 'lumi'"
            )
        return {"name": name, "type": "lumi" if lumi else kind, "data": None}, [name]
    if name in model.gaussians:
        raise InputError(f"{where}: parameter {name!r} has a second constraint, an auxiliary distribution")
    if kind == "normsys":
        return {
            "name": name,
            "type": kind,
            "data": {s: number(data[s], f"{where[5:]}, {s}") for s in ("hi", "lo")},
        }, [name]
    size = len(sample["data"]["contents"])
    if kind == "histosys":
        sides = {f"{s}_data": numbers(data[s]["contents"], f"{where[5:]}, {s}", size) for s in ("hi", "lo")}
        return {"name": name, "type": kind, "data": sides}, [name]
    raise InputError(f"{where}: type {kind!r}; read are those of pyhf but lumi, which HS3 has not")


def _by_bin(
    model: _Model, modifier: JsonObject, sample: JsonObject, parameters: list[str], where: str
) -> dict[str, Any]:
    name, kind, size = modifier["name"], modifier["type"], len(sample["data"]["contents"])
    if len(parameters) != size:
        raise InputError(f"{where}: {len(parameters)} parameters for {size} bins; give one for each bin")
    if kind == "shapesys":
        return {
            "name": name,
            "type": kind,
            "data": numbers(modifier["data"]["vals"], where[5:], len(parameters)),
        }
    constrained = any(own in model.gaussians for own in parameters) or modifier.get("constraint") == "Gauss"
    if kind == "shapefactor" and not constrained:
        return {"name": name, "type": kind, "data": None}
    errors = [
        number(own, f"{where[5:]}, errors") for own in sample["data"].get("errors") or [0.0] * len(parameters)
    ]
    if len(errors) != len(parameters):
        raise InputError(
            f"{where}: {len(errors)} errors for {len(parameters)} parameters; give one for each bin"
        )
    return {"name": name, "type": "staterror", "data": errors}


def _measurement(
    model: _Model, analysis: JsonObject, used: Mapping[str, tuple[str, list[str]]], channels: list[JsonObject]
) -> JsonObject:
    pois = analysis.get("parameters_of_interest") or []
    if len(pois) > 1:
        raise InputError(
            f"HS3: analysis {analysis['name']!r} has the parameters of interest {pois}; pyhf has one"
        )
    _check_uncertainties(model, channels)
    parameters = [
        entry
        for name, (kind, components) in used.items()
        if len(entry := _parameter(model, channels, name, kind, components)) > 1
    ]
    return {"poi": pois[0] if pois else "", "parameters": parameters}


def _parameter(
    model: _Model, channels: list[JsonObject], name: str, kind: str, components: list[str]
) -> dict[str, Any]:
    """Return what differs from pyhf's own settings of a parameter."""
    entry: dict[str, Any] = {"name": name}
    value, bounds = DEFAULTS[FAMILIES.get(kind, "scalar")]
    given = [model.settings.get(own, ParameterSetting(value, bounds, False)) for own in components]
    settings = [own if own.bounds is not None else own._replace(bounds=bounds) for own in given]
    for component, own in zip(components, settings, strict=True):
        low, high = own.bounds or bounds
        if not low <= own.value <= high:
            raise InputError(
                f"HS3: parameter {component!r}: value {own.value:g} is outside [{low:g}, {high:g}], its domain, or "
                "pyhf's own where it has none; give it an axis of a domain that holds the value"
            )
    if kind == "lumi" or any(own.value != value for own in settings):
        entry["inits"] = [own.value for own in settings]
    if kind == "lumi" or any(own.bounds != bounds for own in settings):
        entry["bounds"] = [list(own.bounds or bounds) for own in settings]
    if kind == "lumi":
        entry["auxdata"], entry["sigmas"] = ([own] for own in model.gaussians[name])
    held = [own.constant for own in settings]
    if kind == "staterror":  # a bin without uncertainty is held by pyhf itself
        without = [own == 0 for own in _relative(name, channels)]
        held = [own for own, none in zip(held, without, strict=True) if not none]
    if any(held):
        if not all(held):
            raise InputError(
                f"HS3: parameter {name!r}: some of its bins are constant; pyhf holds all or none"
            )
        entry["fixed"] = True
    return entry


def _relative(name: str, channels: list[JsonObject]) -> list[float]:
    """Return the relative uncertainty of each bin of a staterror, 0 for none."""
    found: list[float] = []
    for channel in sorted(channels, key=lambda own: str(own["name"])):
        own = [
            (np.asarray(sample["data"]), np.asarray(modifier["data"]))
            for sample in channel["samples"]
            for modifier in sample["modifiers"]
            if (modifier["type"], modifier["name"]) == ("staterror", name)
        ]
        if own:
            total = np.sum([data for data, _ in own], axis=0)
            error = np.sqrt(np.sum([uncertainty**2 for _, uncertainty in own], axis=0))
            found += np.divide(error, total, out=np.zeros_like(total), where=total > 0).tolist()
    return found


def _check_uncertainties(model: _Model, channels: list[JsonObject]) -> None:
    """Refuse auxiliary distributions of bins that are not what the samples' errors make."""
    for channel in model.channels:
        for sample in channel["samples"]:
            for modifier in sample["modifiers"]:
                own = modifier.get("parameters") or []
                if modifier["type"] != "shapefactor" or not any(name in model.gaussians for name in own):
                    continue
                alone = [entry for entry in channels if entry["name"] == channel["name"]]
                for parameter, sigma in zip(own, _relative(modifier["name"], alone), strict=True):
                    centre, width = model.gaussians.get(parameter, (1.0, 0.0))
                    if centre != 1.0 or not abs(width - sigma) <= SAME * max(width, sigma):
                        raise InputError(
                            f"HS3: channel {channel['name']!r}, parameter {parameter!r} has a constraint of width "
                            f"{width:g} around {centre:g}, and the errors of its samples make {sigma:g} around 1"
                        )
