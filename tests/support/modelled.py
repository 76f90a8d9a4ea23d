"""A small model with every word of a configuration, templates drawn for it, and its likelihood against pyhf's."""

import jax
import jax.numpy as jnp
import numpy as np
import pyhf

from pipeline import config
from pipeline.containers import Templates
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.templates.axes import axes_of

SAMPLES = ("qcd", "signal", "top")
VARIATIONS = ("scale_up", "scale_down", "tune_up")
SHAPE = {"type": "NormPlusShape", "up": "scale_up", "down": "scale_down"}


def small(model, *, bins=None, objective=None, evaluate=None):
    """A run of three samples in channels A to D, with a model; ``bins`` by channel, else three each."""
    sizes = {name: 3 for name in "ABCD"} | (bins or {})
    mu = {"name": "mu", "samples": ["signal"], "bounds": [-5, 10]}
    return config.parse(
        {
            "run": "small",
            "analysis": {"target": "pipeline.analyses.counting:Counting"},
            "data": {
                "manifest": "no.json",
                "luminosity_per_pb": 1,
                "samples": {name: {"cross_section_pb": 1} for name in SAMPLES},
            },
            "channels": {name: {"edges": list(range(size + 1))} for name, size in sizes.items()},
            "model": {
                "poi": "mu",
                **model,
                "normfactors": [mu, *model.get("normfactors", [])],
            },
            "objective": objective or {"kind": "poi_uncertainty"},
            "evaluate": evaluate or {},
        },
        "small",
    )


def drawn(run, *, seed=1):
    """Axes and templates: varied ones within a fifth of the nominal."""
    generator, axes = np.random.default_rng(seed), axes_of(run, VARIATIONS)
    yields, sumw2 = {}, {}
    for name, channel in run.channels.items():
        bins = len(channel.edges) - 1
        nominal = generator.uniform(20, 80, (len(axes.samples), 1, bins))
        changes = generator.uniform(0.85, 1.2, (len(axes.samples), len(axes.variations), bins))
        changes[:, 0] = 1.0
        yields[name], sumw2[name] = nominal * changes, generator.uniform(1, 9, (len(axes.samples), bins))
    return axes, Templates(yields, sumw2)


def traced(run, axes, templates):
    """The likelihood of the optimisation: its structure, and its templates stacked inside a compiled program."""
    specifier = Specifier.of(templates, axes, run)
    stack = jax.jit(lambda own: specifier.stacked(specifier.side_by_side(own)))
    return specifier.model, stack(jax.tree.map(jnp.asarray, templates))


def require_equal(run, axes, templates, *, points=3, reach=0.3):
    """Compare log-density and gradient at drawn parameters with pyhf's of the workspace as written; return pyhf's."""
    written = workspace(templates, axes, run)
    judge = pyhf.Workspace(written)
    theirs = judge.model()
    ours, stacked = traced(run, axes, templates)
    assert list(ours.parameter_names) == theirs.config.par_names
    np.testing.assert_allclose(ours.initial, theirs.config.suggested_init())
    np.testing.assert_array_equal(ours.fixed_parameters(stacked), theirs.config.suggested_fixed())
    data = np.asarray(judge.data(theirs))
    data[: sum(ours.bins)] *= np.random.default_rng(2).uniform(0.8, 1.2, sum(ours.bins))
    gradient = jax.jit(jax.value_and_grad(lambda at: ours.logpdf(at, jnp.asarray(data), stacked)))
    generator = np.random.default_rng(3)
    for _ in range(points):
        point = np.asarray(ours.initial) + generator.uniform(-reach, reach, ours.initial.size)
        value, slope = gradient(jnp.asarray(point))
        np.testing.assert_allclose(value, theirs.logpdf(point, data)[0], rtol=1e-10)
        np.testing.assert_allclose(slope, _slope(theirs, point, data), rtol=1e-6, atol=1e-4)
    return written


def _slope(model, point, data, step=1e-5):
    """Central differences of pyhf's log-density."""
    ends = [
        [model.logpdf(point + side * step * unit, data)[0] for side in (1, -1)] for unit in np.eye(point.size)
    ]
    return np.array([(up - down) / (2 * step) for up, down in ends])


def modifiers(written, channel, sample):
    """What acts on a sample in a channel of a workspace: (type, name) of each."""
    found = next(own for own in written["channels"] if own["name"] == channel)
    entry = next(own for own in found["samples"] if own["name"] == sample)
    return {(own["type"], own["name"]) for own in entry["modifiers"]}
