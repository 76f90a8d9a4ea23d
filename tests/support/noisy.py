"""A small analysis whose varied templates have noise: of weights of the same events, and of a sample of its own."""

from columnfiles import write_columns
from generated import generated

ANALYSIS = """
import numpy as np
import jax.numpy as jnp
from pipeline.analysis import Analysis, FlatTree, Free, WeightFactor
from pipeline.containers import Observation

def events(sample, number, rng):
    x, y, u = rng.random((3, number))
    return {
        "x": np.sqrt(x) if sample == "signal" else x,  # S^2 / B is best at a cut of 1/3
        "y": np.sqrt(y) if sample == "signal" else y,
        "tilt": 1 + 0.3 * (u - 0.5),
        "gen": np.ones(number),
    }

class Noisy(Analysis):
    reads = FlatTree(tree="Events", branches=("x", "y", "tilt", "gen"), event="event")
    parameters = {"cut": Free(0.35, bounds=(0.0, 0.9)), "slope": Free(0.5, bounds=(0.0, 1.0))}

    def columns(self, events, dataset):
        return {"weight": events.gen, "x": events.x, "y": events.y, "tilt": events.tilt}

    def variations(self):
        return {"tilt_up": WeightFactor(lambda p, c, relax: c.tilt * (1 + 0.1 * c.y))}

    def observe(self, p, c, relax):
        value = (1 - p.slope) * c.y + p.slope * c.x
        return {"all": Observation(weight=c.weight * relax.greater(c.x, p.cut), value=value)}
"""
CONFIGURATION = """
run: noisy
analysis: {target: "noisy.py:Noisy"}
simulate:
  generator: "noisy.py:events"
  samples:
    signal: {files: 1, events_per_file: 1000}
    background: {files: 1, events_per_file: 1000}
    background__own: {files: 1, events_per_file: 1000}
data:
  luminosity_per_pb: 1
  held_out_fraction: 0.5
  normalise: weights
  generator_weight: gen
  samples:
    signal: {cross_section_pb: 300}
    background: {cross_section_pb: 10000, variations: [own]}
channels:
  all: {edges: [0.1, 0.4, 0.6, 0.8, 1.0], overflow: true, bandwidth: {initial: 0.05, final: 0.01}}
widths:
  cut: {initial: 0.1, final: 0.02}
model:
  poi: mu
  normfactors: [{name: mu, samples: [signal], bounds: [-10, 10]}]
  systematics:
    - {name: own, type: NormPlusShape, up: own, samples: [background]}
    - {name: tilt, type: NormPlusShape, up: tilt_up, samples: [background]}
    - {name: rate, type: Normalization, up: 0.1, down: -0.1, samples: [background]}
objective: {kind: poi_uncertainty, template_noise: true}
optimise: {epochs: 30, epochs_per_job: 30, learning_rate: 0.03, check_every: 5}
cluster: {executor: in_process}
"""


def noisy(folder, events, *overrides):
    """The run, and its column files."""
    folder.mkdir(exist_ok=True)
    (folder / "noisy.py").write_text(ANALYSIS)
    (folder / "noisy.yaml").write_text(CONFIGURATION)
    run = generated(folder / "noisy.yaml", events, folder, overrides)
    return run, write_columns(run, folder / "columns")
