"""Templates and the configured model -> a pyhf specification, traced or written as workspace JSON.

The same function serves both: the optimisation differentiates through the very templates that the final
workspace hands to pyhf, with cabinetry's meaning of each systematic type.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pipeline.config import (
    LUMINOSITY,
    Channel,
    Config,
    Model,
    NormalizationSystematic,
    NormPlusShapeSystematic,
)
from pipeline.containers import AnyArray, Specification, Templates
from pipeline.data.datasets import NOMINAL
from pipeline.errors import ConfigError
from pipeline.templates.axes import Axes, affecting, variations_of
from pipeline.templates.shapes import norm_plus_shape, symmetrised

# {channel: {sample: {"data": [bins], modifier type: {modifier name: data}}}}, see `likelihood.HistFactory`


def specification(templates: Templates, axes: Axes, config: Config) -> Specification:
    """The channels of a pyhf specification, keyed by names, from summed templates; differentiable."""
    return {
        channel: {
            sample: _sample(templates, axes, config.model, channel, sample, filled)
            for sample in config.data.samples
        }
        for channel, filled in _filled(templates, axes, config).items()
    }


def _filled(templates: Templates, axes: Axes, config: Config) -> dict[str, Bool[Array, " bins"]]:
    """Bins of each region with nominal events of any sample."""
    rows = [axes.row(name, NOMINAL) for name in config.data.samples]
    return {
        channel: jnp.sum(jnp.stack([templates.yields[channel][row] for row in rows]), axis=0) > 0
        for channel in config.regions
    }


def sums(templates: Templates, axes: Axes, config: Config) -> dict[str, Float[Array, " bins"]]:
    """Channels that are not in the fit: the bins of each, all samples added up; differentiable."""
    return {
        name: jnp.sum(
            jnp.stack([templates.yields[name][row] for row in _summed(axes, config, channel)]), axis=0
        )
        for name, channel in config.channels.items()
        if not channel.in_fit
    }


def _summed(axes: Axes, config: Config, channel: Channel) -> list[tuple[int, int]]:
    """Rows of the templates in the sum of a channel: every sample's nominal, and its variations where they count."""
    rows = [axes.row(sample, NOMINAL) for sample in config.data.samples]
    if channel.variations:
        for sample, section in config.data.samples.items():
            names = (*section.variations, *variations_of(config, sample))
            rows += [axes.row(sample, name) for name in names]
    return rows


def workspace(
    templates: Templates, axes: Axes, config: Config, *, pseudodata: bool = False
) -> dict[str, Any]:
    """A pyhf workspace of concrete templates, its observations the Asimov data (every parameter nominal).

    Arguments:
        pseudodata: observe those of `model.pseudodata` instead.

    Raises:
        ConfigError: the model has constraint terms of another width, or none, which a workspace cannot say.
    """
    if reason := beyond_pyhf(config):
        raise ConfigError(reason)
    return structure(templates, axes, config, pseudodata=pseudodata)


def beyond_pyhf(config: Config) -> str | None:
    """What of the model a pyhf workspace cannot say, if anything."""
    if config.model.has_workspace:
        return None
    if not config.model.is_fitted:
        return "the run has no model: its objective is a function of sums over the events"
    other = ", ".join(map(repr, config.model.constraint_widths))
    return (
        f"model.systematics: constraint_width of {other} is not 1; a pyhf workspace has no place for that and would be "
        "another model; `evaluate.also` may name one with width 1 that pyhf can judge"
    )


def structure(
    templates: Templates, axes: Axes, config: Config, *, pseudodata: bool = False
) -> dict[str, Any]:
    """The workspace without the check that its constraint terms are pyhf's: for our own likelihood."""
    channels, observations = [], []
    for channel, samples in specification(templates, axes, config).items():
        entries = [{"name": name, **_json_sample(sample)} for name, sample in samples.items()]
        channels.append({"name": channel, "samples": entries})
        observed = _pseudodata(templates, axes, config, channel) if pseudodata else _asimov(samples, config)
        observations.append({"name": channel, "data": np.asarray(observed).tolist()})
    return {
        "version": "1.0.0",
        "channels": channels,
        "observations": observations,
        "measurements": [{"name": config.run, "config": _measurement(config.model)}],
    }


def _asimov(samples: Mapping[str, Mapping[str, Any]], config: Config) -> Any:
    nominal = {n.name: n.nominal for n in config.model.normfactors}
    return sum(
        np.asarray(sample["data"]) * np.prod([nominal[name] for name in sample.get("normfactor", {})])
        for sample in samples.values()
    )


def _pseudodata(templates: Templates, axes: Axes, config: Config, channel: str) -> Any:
    return sum(
        factor * np.asarray(templates.yields[channel][axes.row(sample, NOMINAL)])
        for sample, factor in config.model.pseudodata.items()
    )


def varied(
    yields: Float[AnyArray, "samples variations bins"],
    axes: Axes,
    sample: str,
    systematic: NormPlusShapeSystematic,
) -> tuple[Float[AnyArray, " bins"], Float[AnyArray, " bins"] | None]:
    """The up and down templates of a sample in a channel, symmetrised where that is asked for; down may be missing."""
    up = yields[axes.row(sample, systematic.up)]
    down = None if systematic.down is None else yields[axes.row(sample, systematic.down)]
    if systematic.symmetrise is None:
        return up, down
    return symmetrised(yields[axes.row(sample, NOMINAL)], up, down, systematic.symmetrise)


def _sample(
    templates: Templates, axes: Axes, model: Model, channel: str, sample: str, filled: Bool[Array, " bins"]
) -> dict[str, Any]:
    yields = templates.yields[channel]
    nominal = yields[axes.row(sample, NOMINAL)]
    entry: dict[str, Any] = {"data": nominal, "normsys": {}, "histosys": {}}
    entry["normfactor"] = {n.name: None for n in model.normfactors if sample in n.samples}
    for systematic in affecting(model, sample):
        if isinstance(systematic, NormalizationSystematic):
            factors = {"hi": jnp.asarray(1 + systematic.up), "lo": jnp.asarray(1 + systematic.down)}
            entry["normsys"][systematic.name] = factors
            continue
        up, down = varied(yields, axes, sample, systematic)
        norm, shape = norm_plus_shape(nominal, up, down, filled)
        entry["normsys"][systematic.name], entry["histosys"][systematic.name] = norm, shape
    if model.luminosity_uncertainty is not None:
        entry["lumi"] = {LUMINOSITY: None}
    if model.mc_statistics:
        sumw2 = templates.sumw2[channel][axes.row(sample, NOMINAL)[0]]
        positive = sumw2 > 0  # the square root has no derivative at 0: an empty bin has no uncertainty
        error = jnp.where(positive, jnp.sqrt(jnp.where(positive, sumw2, 1.0)), 0.0)
        entry["staterror"] = {f"staterror_{channel}": error}
    return {key: value for key, value in entry.items() if key == "data" or value}


def _json_sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    modifiers = [
        {"name": name, "type": kind, "data": _plain(data)}
        for kind, entries in sample.items()
        if kind != "data"
        for name, data in entries.items()
    ]
    return {"data": _plain(sample["data"]), "modifiers": modifiers}


def _plain(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _plain(value) for key, value in data.items()}
    return None if data is None else np.asarray(data).tolist()


def _measurement(model: Model) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": n.name, "inits": [n.nominal], "bounds": [list(n.bounds)]} for n in model.normfactors
    ]
    if model.luminosity_uncertainty is not None:
        sigma = model.luminosity_uncertainty
        bounds = [max(0.0, 1 - 10 * sigma), 1 + 10 * sigma]
        parameters.append(
            {"name": LUMINOSITY, "auxdata": [1.0], "sigmas": [sigma], "inits": [1.0], "bounds": [bounds]}
        )
    return {"poi": model.poi, "parameters": parameters}
