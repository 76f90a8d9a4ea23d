"""A run's workspace at fixed coefficients of its theory: an ordinary one, which pyhf reads."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from pipeline.config import Config
from pipeline.config.fit.theory import coefficients_of, component, monomials
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.likelihood.histfactory import HistFactory
from pipeline.likelihood.workspace import MODIFIERS, JsonObject, SampleArrays, Specification, Workspace


def at_coefficients(
    model: HistFactory, specifier: Specifier, config: Config, coefficients: Mapping[str, float]
) -> Workspace:
    """Return the workspace of a likelihood in which the coefficients have these values and are no parameters.

    ``T(c) = sum_k m_k(c) T_k`` for the nominal and both ends of each histosys; factors of a normsys are those at the
    nominal coefficients. The relative uncertainty of the simulated events is that at the nominal coefficients, too.

    Args:
        model: ``run_workspace.likelihood``, whose data are observed.
        coefficients: a value of each; one that is left out is nominal.
    """
    found = specifier.model.stacking.named(model.stacked())
    nominal = {own.name: own.nominal for own in config.model.theory}
    away = {name: coefficients.get(name, value) - value for name, value in nominal.items()}
    channels, observations = list[JsonObject](), []
    slices = specifier.model.stacking.names.slices
    for channel in config.regions:
        samples = _whole_samples(found, config, channel, away)
        entries = [{"name": name, **_json(entry)} for name, entry in samples.items()]
        channels.append({"name": channel, "samples": entries})
        observations.append({"name": channel, "data": np.asarray(model.data()[slices[channel]]).tolist()})
    if specifier.joined is not None:
        channels += specifier.joined.channels
        own = {entry["name"] for entry in observations}
        observations += [
            {"name": name, "data": np.asarray(model.data()[inside]).tolist()}
            for name, inside in slices.items()
            if name not in own
        ]
    parameters = [own for own in specifier.measurement["parameters"] if own["name"] not in nominal]
    poi = "" if config.model.is_of_theory else config.model.poi
    return {
        "version": "1.0.0",
        "channels": channels,
        "observations": observations,
        "measurements": [{"name": config.run, "config": {"poi": poi, "parameters": parameters}}],
    }


def _whole_samples(
    found: Specification, config: Config, channel: str, away: Mapping[str, float]
) -> dict[str, SampleArrays]:
    """Return the samples of a channel with their components added up."""
    samples = {}
    for name in config.data.samples:
        entry = found[channel][name]
        parts = [(1.0, entry)]
        for monomial in monomials(coefficients_of(config.model.theory, name)):
            factor = float(np.prod([away[own] for own in monomial]))
            parts.append((factor, found[channel][component(name, monomial)]))
        shapes = {
            systematic: {
                side: sum(factor * np.asarray(part["histosys"][systematic][side]) for factor, part in parts)
                for side in ("hi_data", "lo_data")
            }
            for systematic in entry.get("histosys", {})
        }
        data = sum(factor * np.asarray(part["data"]) for factor, part in parts)
        samples[name] = {**entry, "data": data} | ({"histosys": shapes} if shapes else {})
    _keep_relative(found[channel], samples)
    return samples


def _keep_relative(nominal: Mapping[str, SampleArrays], samples: dict[str, SampleArrays]) -> None:
    """Scale the uncertainties of the simulated events as the yields that they are relative to."""
    simulated = [name for name, entry in samples.items() if "staterror" in entry]
    if simulated:
        before, after = (
            sum(np.asarray(own[name]["data"]) for name in simulated) for own in (nominal, samples)
        )
        ratio = np.where(before > 0, after / np.where(before > 0, before, 1.0), 1.0)
        for name in simulated:
            own = {key: ratio * np.asarray(array) for key, array in samples[name]["staterror"].items()}
            samples[name] = {**samples[name], "staterror": own}


def _json(entry: SampleArrays) -> JsonObject:
    modifiers = [
        {"name": name, "type": kind, "data": _plain(data)}
        for kind in MODIFIERS
        for name, data in entry.get(kind, {}).items()
    ]
    return {"data": _plain(entry["data"]), "modifiers": modifiers}


def _plain(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _plain(value) for key, value in data.items()}
    return None if data is None else jnp.asarray(data).tolist()
