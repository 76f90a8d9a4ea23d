"""A small analysis whose varied templates have noise: of weights of the same events, and of a sample of its own."""

import tempfile
from pathlib import Path

from columnfiles import write_columns
from generated import generated

ANALYSIS = """
import numpy as np
import jax.numpy as jnp
from pipeline.analysis import Analysis, FlatTree, Free, WeightFactor
from pipeline.containers import Observation

def events(sample, number, rng):
    x, y, u = rng.random((3, number))
    moved = (sample == "background__own") & (x > 0.5) & (rng.random(number) < 0.22)
    return {
        "x": x,
        "y": np.where(moved | (sample == "signal"), np.sqrt(y), y),
        "tilt": 1 + 0.3 * (u - 0.5),
        "gen": np.ones(number),
    }

class Noisy(Analysis):
    reads = FlatTree(tree="Events", branches=("x", "y", "tilt", "gen"), event="event")
    parameters = {"high": Free(0.75, bounds=(0.3, 1.0)), "low": Free(0.05, bounds=(0.0, 0.2))}

    def columns(self, events, dataset):
        return {"weight": events.gen, "x": events.x, "y": events.y, "tilt": events.tilt}

    def variations(self):
        return {"tilt_up": WeightFactor(lambda p, c, relax: c.tilt * (1 + 0.1 * c.y))}

    def observe(self, p, c, relax):
        inside = relax.greater(c.x, p.low) * relax.less(c.x, p.high)
        return {"all": Observation(weight=c.weight * inside, value=c.y)}
"""
CONFIGURATION = """
run: noisy
analysis: {target: "noisy.py:Noisy"}
simulate:
  generator: "noisy.py:events"
  samples:
    signal: {files: 1, events_per_file: 1000}
    background: {files: 1, events_per_file: 1000}
data:
  luminosity_per_pb: 1
  held_out_fraction: 0.5
  normalise: weights
  generator_weight: gen
  samples:
    signal: {cross_section_pb: 200}
    background: {cross_section_pb: 1000, variations: [own]}
channels:
  all: {edges: [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1], bandwidth: {initial: 0.01, final: 0.005}}
widths:
  high: {initial: 0.05, final: 0.01}
  low: {initial: 0.05, final: 0.01}
model:
  poi: mu
  normfactors: [{name: mu, samples: [signal], bounds: [-10, 10]}]
  systematics:
    - {name: own, type: NormPlusShape, up: own, samples: [background]}
    - {name: tilt, type: NormPlusShape, up: tilt_up, samples: [background]}
    - {name: rate, type: Normalization, up: 0.5, down: -0.5, samples: [background]}
objective: {kind: poi_uncertainty, template_noise: true}
optimise: {epochs: 30, epochs_per_job: 30, learning_rate: 0.03, check_every: 5}
cluster: {executor: in_process}
"""


def noisy(folder, events, *overrides):
    """The run, and its column files; those of another seed in another folder, of one analysis."""
    (folder / "noisy.py").write_text(ANALYSIS)
    (folder / "noisy.yaml").write_text(CONFIGURATION)
    data = Path(tempfile.mkdtemp(dir=folder))
    run = generated(folder / "noisy.yaml", events, data, overrides)
    return run, write_columns(run, data / "columns")
