"""A pyhf workspace -> the HEP Statistics Serialization Standard (HS3), version 0.2.

Channels are distributions of type ``histfactory_dist``, whose interpolation is pyhf's (codes 4 and 4p). HS3 has no
modifier for the luminosity: it is a normfactor with a Gaussian auxiliary distribution. Barlow-Beeston's ``lite`` way is
HS3's default, so a staterror's uncertainties stand with the yields, as ``errors``.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.evaluate.workspaces.exchange.content import BY_BIN, CannotSayError, ModelContent
from pipeline.likelihood.paramsets import Parameter
from pipeline.likelihood.workspace import JsonObject, SampleArrays

VERSION = "0.2"
NAME = "HS3"
LIKELIHOOD, DOMAIN, POINT = "likelihood", "default_domain", "default_values"


def gamma(name: str, component: int) -> str:
    """Return the name of one component of a bin-by-bin parameter."""
    return f"gamma_{name}_{component}"


def constraint(parameter: str) -> str:
    """Return the name of the auxiliary distribution of a parameter."""
    return f"constraint_{parameter}"


def to_hs3(content: ModelContent, *, explicit: bool = False) -> JsonObject:
    """Return the model and data of a workspace's measurement.

    Args:
        explicit: write a staterror as a shapefactor whose parameters have Gaussian auxiliary distributions, for
            programs that know no staterror.

    Raises:
        CannotSayError: a constraint or an uncertainty that HS3 has no words for, by its name.
    """
    _check(content, explicit)
    auxiliary = [*_luminosity(content), *(_gaussians(content) if explicit else ())]
    data = [_data(content, channel) for channel in content.templates]
    likelihood: dict[str, Any] = {
        "name": LIKELIHOOD,
        "distributions": list(content.templates),
        "data": [own["name"] for own in data],
    }
    if auxiliary:
        likelihood["aux_distributions"] = [own["name"] for own in auxiliary]
    analysis = {
        "name": content.measurement["name"],
        "likelihood": LIKELIHOOD,
        "domains": [DOMAIN],
        "parameters_of_interest": [content.poi] if content.poi else [],
        "init": POINT,
    }
    return {
        "metadata": {"hs3_version": VERSION},
        "distributions": [*(_channel(content, name, explicit) for name in content.templates), *auxiliary],
        "data": data,
        "likelihoods": [likelihood],
        "domains": [{"name": DOMAIN, "type": "product_domain", "axes": list(_bounds(content))}],
        "parameter_points": [{"name": POINT, "parameters": list(_values(content))}],
        "analyses": [analysis],
    }


def _axes(content: ModelContent, channel: str) -> list[JsonObject]:
    """Return the axis of a channel: its bins by number, as a workspace has no edges."""
    bins = content.modifiers.bins[channel]
    return [{"name": f"obs_{channel}", "min": 0, "max": bins, "nbins": bins}]


def _channel(content: ModelContent, channel: str, explicit: bool) -> JsonObject:
    samples = [_sample(content, channel, sample, explicit) for sample in content.templates[channel]]
    return {"name": channel, "type": "histfactory_dist", "axes": _axes(content, channel), "samples": samples}


def _data(content: ModelContent, channel: str) -> JsonObject:
    contents = content.observations[channel]
    return {
        "name": f"observed_{channel}",
        "type": "binned",
        "contents": contents,
        "axes": _axes(content, channel),
    }


def _bounds(content: ModelContent) -> Iterator[JsonObject]:
    for parameter in content.parameters.values():
        for name, (low, high) in zip(_components(parameter), parameter.bounds or (), strict=True):
            yield {"name": name, "min": low, "max": high}


def _components(parameter: Parameter) -> list[str]:
    if parameter.scalar:
        return [parameter.name]
    return [gamma(parameter.name, number) for number in range(parameter.size)]


def _check(content: ModelContent, explicit: bool) -> None:
    for name in content.parameters:
        content.require_plain(name, NAME)
    flat = [name for parameter in content.parameters.values() for name in _components(parameter)]
    if twice := sorted({name for name in flat if flat.count(name) > 1}):
        raise CannotSayError(
            f"parameter {twice[0]!r}", NAME, "a component of another one would have that name"
        )
    for channel, samples in content.templates.items():
        names = sorted({name for entry in samples.values() for name in entry.get("staterror", {})})
        if len(names) > 1 and not explicit:
            raise CannotSayError(f"channel {channel!r}", NAME, f"it has several staterror, {names}")
        for sample, entry in samples.items():
            if len(entry.get("staterror", {})) > 1:
                raise CannotSayError(
                    f"sample {sample!r} of channel {channel!r}", NAME, "it has several staterror"
                )
            for name, uncertainty in entry.get("shapesys", {}).items():
                empty = np.flatnonzero(~((np.asarray(uncertainty) > 0) & (np.asarray(entry["data"]) > 0)))
                if empty.size:
                    raise CannotSayError(
                        f"shapesys {name!r} of channel {channel!r}, sample {sample!r}",
                        NAME,
                        f"bin {empty[0]} has no uncertainty or no yield; merge it with its neighbour",
                    )
        for name in names if not explicit else ():
            relative, total = _relative(content, name, channel)
            if np.any((relative == 0) & (total > 0)):
                raise CannotSayError(
                    f"staterror {name!r} of channel {channel!r}",
                    NAME,
                    f"bin {int(np.argmax((relative == 0) & (total > 0)))} has yield without uncertainty; write it "
                    "explicitly (--explicit-gammas)",
                )


def _relative(content: ModelContent, name: str, channel: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the relative uncertainty of each bin of a staterror, 0 for none, and the yields it is of."""
    samples = content.templates[channel].values()
    own = [
        (np.asarray(e["data"]), np.asarray(e["staterror"][name]))
        for e in samples
        if name in e.get("staterror", {})
    ]
    total = np.sum([data for data, _ in own], axis=0)
    error = np.sqrt(np.sum([uncertainty**2 for _, uncertainty in own], axis=0))
    return np.divide(error, total, out=np.zeros_like(total), where=total > 0), total


def _sample(content: ModelContent, channel: str, sample: str, explicit: bool) -> JsonObject:
    entry: SampleArrays = content.templates[channel][sample]
    data: dict[str, list[float]] = {"contents": np.asarray(entry["data"]).tolist()}
    for uncertainty in entry.get("staterror", {}).values():
        data["errors"] = np.asarray(uncertainty).tolist()
    modifiers = [
        _modifier(content, channel, kind, name, values, explicit)
        for kind, named in entry.items()
        if kind != "data"
        for name, values in named.items()
    ]
    return {"name": sample, "data": data, "modifiers": modifiers}


def _modifier(
    content: ModelContent, channel: str, kind: str, name: str, values: Any, explicit: bool
) -> JsonObject:
    if kind in BY_BIN:
        parameters = [gamma(name, number) for number in content.components(kind, name, channel)]
        entry = {"name": name, "type": kind, "parameters": parameters}
        if kind == "shapesys":
            return {**entry, "constraint": "Poisson", "data": {"vals": np.asarray(values).tolist()}}
        if kind == "staterror":
            return {**entry, "type": "shapefactor" if explicit else kind, "constraint": "Gauss"}
        return entry
    entry = {"name": name, "type": kind, "parameter": name}
    if kind == "normsys":
        return {**entry, "constraint": "Gauss", "data": {side: float(values[side]) for side in ("hi", "lo")}}
    if kind == "histosys":
        sides = {side: {"contents": np.asarray(values[f"{side}_data"]).tolist()} for side in ("hi", "lo")}
        return {**entry, "constraint": "Gauss", "data": sides}
    scale = {**entry, "type": "normfactor"}
    return {**scale, "constraint_name": constraint(name)} if kind == "lumi" else scale


def _luminosity(content: ModelContent) -> Iterator[JsonObject]:
    for name in content.modifiers.names("lumi"):
        parameter = content.parameters[name]
        yield _gaussian(name, (parameter.auxdata or ())[0], (parameter.widths or ())[0])


def _gaussians(content: ModelContent) -> Iterator[JsonObject]:
    """Yield the constraint of each bin of the staterrors that has an uncertainty."""
    for name in content.modifiers.names("staterror"):
        for channel in content.modifiers.channels("staterror", name):
            relative, _ = _relative(content, name, channel)
            for component, sigma in zip(
                content.components("staterror", name, channel), relative, strict=True
            ):
                if sigma > 0:
                    yield _gaussian(gamma(name, component), 1.0, float(sigma))


def _gaussian(parameter: str, centre: float, width: float) -> JsonObject:
    return {
        "name": constraint(parameter),
        "type": "gaussian_dist",
        "x": centre,
        "mean": parameter,
        "sigma": width,
    }


def _values(content: ModelContent) -> Iterator[JsonObject]:
    """Yield start values; a parameter is constant where a fit leaves it alone."""
    without = {
        gamma(name, component)
        for name in content.modifiers.names("staterror")
        for channel in content.modifiers.channels("staterror", name)
        for component, sigma in zip(
            content.components("staterror", name, channel), _relative(content, name, channel)[0], strict=True
        )
        if not sigma > 0
    }
    for parameter in content.parameters.values():
        for name, value, fixed in zip(
            _components(parameter), parameter.inits or (), parameter.fixed, strict=True
        ):
            constant = {"const": True} if fixed or name in without else {}
            yield {"name": name, "value": value, **constant}
