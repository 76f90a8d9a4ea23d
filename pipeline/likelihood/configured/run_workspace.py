"""A run's workspace as pyhf reads it: the arrays of its likelihood written as JSON, with Asimov data or pseudodata."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.data.datasets import NOMINAL
from pipeline.errors import ConfigError, FitError
from pipeline.likelihood.configured.estimates import lacking
from pipeline.likelihood.configured.pruning import Decision
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.likelihood.histfactory import HistFactory
from pipeline.likelihood.stacked import StackedTemplates
from pipeline.likelihood.workspace import JsonObject, SampleArrays, Workspace
from pipeline.templates.axes import Axes


def workspace(
    templates: Templates,
    axes: Axes,
    config: Config,
    *,
    specifier: Specifier | None = None,
    pseudodata: bool = False,
    decision: Decision | None = None,
) -> Workspace:
    """Return a pyhf workspace of concrete templates, its observations the Asimov data (every parameter nominal).

    Args:
        specifier: of the run, where more workspaces than one are made of it.
        pseudodata: observe those of ``model.pseudodata`` instead.
        decision: what is pruned; absent: it is decided from these templates.

    Raises:
        ConfigError: the model has constraint terms of another width, or none, which a workspace cannot say.
        FitError: an estimate from data has no simulated events to start from, or a bin has fewer than no events.
    """
    if reason := beyond_pyhf(config):
        raise ConfigError(reason)
    if reason := lacking(config, axes, templates):
        raise FitError(reason)
    channels, observations = list[JsonObject](), []
    specifier = specifier or Specifier.of(templates, axes, config)
    decision = decision or specifier.decided(templates)
    pruned = None if decision is None else decision.pruned
    stacked = specifier.stacked(specifier.side_by_side(templates), pruned)
    found = specifier.reduced(specifier.model.stacking.named(stacked), pruned)
    for channel in config.regions:
        samples = {name: found[channel][name] for name in config.data.samples}
        entries = [{"name": name, **_json_sample(sample)} for name, sample in samples.items()]
        channels.append({"name": channel, "samples": entries})
        observed = _pseudodata(templates, axes, config, channel) if pseudodata else _asimov(samples, config)
        _require_events(channel, observed, samples)
        observations.append({"name": channel, "data": observed.tolist()})
    if specifier.joined is not None:  # as they were read, their data Asimov's too
        channels += specifier.joined.channels
        expected = specifier.joined.asimov(stacked)
        observations += [{"name": name, "data": _plain(own)} for name, own in expected.items()]
    return {
        "version": "1.0.0",
        "channels": channels,
        "observations": observations,
        "measurements": [{"name": config.run, "config": specifier.measurement}],
    }


def likelihood(templates: Templates, specifier: Specifier, decision: Decision | None = None) -> HistFactory:
    """Return the likelihood of concrete templates with their Asimov data (every parameter nominal) as observations.

    Also of a model that a workspace cannot say. Parameters of which pruning leaves nothing are in it, and do nothing.
    """
    pruned = None if decision is None else decision.pruned
    return _with_templates(specifier.model, specifier.stacked(specifier.side_by_side(templates), pruned))


@eqx.filter_jit
def _with_templates(model: HistFactory, stacked: StackedTemplates) -> HistFactory:
    asimov = model.expected_data(model.initial, stacked, include_auxdata=False)
    found: HistFactory = eqx.tree_at(
        lambda m: (m.templates, m.fixed, m.observations),
        model,
        (stacked, model.fixed_parameters(stacked), asimov),
        is_leaf=lambda leaf: leaf is None,
    )
    return found


def beyond_pyhf(config: Config) -> str | None:
    """Return what a pyhf workspace cannot say of the model, as a sentence, or None."""
    if config.model.has_workspace:
        return None
    if not config.model.is_fitted:
        return "the run has no model: its objective is a function of sums over the events"
    if config.model.theory:
        named = ", ".join(repr(own.name) for own in config.model.theory)
        return (
            f"model.theory: {named} are coefficients in which templates are polynomials, and a pyhf workspace has no "
            "place for that: the project's own likelihood judges, and pyhf is compared at fixed coefficients"
        )
    other = ", ".join(map(repr, config.model.constraint_widths))
    return (
        f"model.systematics: constraint_width of {other} is not 1; a pyhf workspace has no place for that and would be "
        "another model; `evaluate.also` may name one with width 1 that pyhf can judge"
    )


def _require_events(
    channel: str, observed: Float[np.ndarray, " bins"], samples: Mapping[str, SampleArrays]
) -> None:
    """Raise where a bin has fewer than no events, as negative weights may make it."""
    number = int(np.argmin(observed))
    if observed[number] < 0:
        parts = ", ".join(f"{name!r} {float(own['data'][number]):.4g}" for name, own in samples.items())
        raise FitError(
            f"channel {channel!r} has {observed[number]:.4g} events in bin {number} (of the samples {parts}): no "
            f"likelihood knows data below 0; merge the bin with its neighbour in channels.{channel}.edges, or use more "
            "events"
        )


def _asimov(samples: Mapping[str, SampleArrays], config: Config) -> Float[np.ndarray, " bins"]:
    nominal = {n.name: n.nominal for n in config.model.free_factors}
    parts = (
        np.asarray(sample["data"]) * np.prod([nominal[name] for name in sample.get("normfactor", {})])
        for sample in samples.values()
    )
    return np.asarray(sum(parts))


def _pseudodata(templates: Templates, axes: Axes, config: Config, channel: str) -> Float[np.ndarray, " bins"]:
    parts = (
        factor * np.asarray(templates.yields[channel][axes.row(sample, NOMINAL)])
        for sample, factor in config.model.pseudodata.items()
    )
    return np.asarray(sum(parts))


def _json_sample(sample: SampleArrays) -> JsonObject:
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
