"""What a run claims over many seeds, where it is known what there is to gain: nothing, or what a real effect allows."""

import pytest
from columnfiles import write_columns
from generated import generated

from pipeline import optimise
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.data.names import INITIAL, OPTIMISED
from pipeline.evaluate.change import change
from pipeline.evaluate.stage import all_points
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters

pytestmark = pytest.mark.slow

# The signal has the density 2x and the background a flat one, so S^2 / B is best at a cut of 1/3. Every fourth event
# has the weight -1/2, so both signs are there and the sum is 5/8 of the events.
ANALYSIS = """
import numpy as np
import jax.numpy as jnp
from pipeline.analysis import Analysis, FlatTree, Free, WeightFactor
from pipeline.containers import Observation

def events(sample, number, rng):
    u = rng.random(number)
    return {"x": np.sqrt(u) if sample == "signal" else u, "gen": np.where(np.arange(number) % 4, 1.0, -0.5)}

def slope(p, c, relax):
    return jnp.where(c.x < 0.5, 1.05, 1.0)

class Cut(Analysis):
    reads = FlatTree(tree="Events", branches=("x", "gen"), event="event")
    parameters = {"cut": Free(1 / 3, bounds=(0.0, 0.95)), "top": Free(1.0, bounds=(0.5, 1.0))}

    def columns(self, events, dataset):
        return {"weight": events.gen, "x": events.x}

    def variations(self):
        return {"real_up": WeightFactor(slope)}

    def observe(self, p, c, relax):
        inside = relax.greater(c.x, p.cut) * relax.less(c.x, p.top)
        return {"all": Observation(weight=c.weight * inside)}
"""
CONFIGURATION = """
run: claims
analysis: {target: "cut.py:Cut"}
simulate:
  generator: "cut.py:events"
  samples:
    signal: {files: 1, events_per_file: 1000}
    background: {files: 1, events_per_file: 1000}
    background__noise: {files: 1, events_per_file: 1000}
data:
  luminosity_per_pb: 1
  held_out_fraction: 0.5
  normalise: weights
  generator_weight: gen
  samples:
    signal: {cross_section_pb: 300}
    background: {cross_section_pb: 10000, variations: [noise]}
channels: {all: {}}
widths:
  cut: {initial: 0.1, final: 0.02}
  top: {initial: 0.1, final: 0.02}
model:
  poi: mu
  normfactors: [{name: mu, samples: [signal], bounds: [-10, 10]}]
  systematics:
    - {name: noise, type: NormPlusShape, up: noise, samples: [background]}
objective: {kind: poi_uncertainty}
optimise: {epochs: 30, epochs_per_job: 30, learning_rate: 0.03, check_every: 5}
evaluate: {bootstrap: 40}
cluster: {executor: in_process}
"""
SEEDS = range(1, 21)
EVENTS = {"signal": 4000, "background": 8000, "background__noise": 8000}


def claim(folder, seed, *overrides):
    """Relative change on held-out events with its error, and the optimised parameters."""
    folder.mkdir()
    (folder / "cut.py").write_text(ANALYSIS)
    (folder / "claims.yaml").write_text(CONFIGURATION)
    run = generated(folder / "claims.yaml", EVENTS, folder, [f"simulate.seed={seed}", *overrides])
    columns = write_columns(run, folder / "columns")
    start = initial_parameters(run)
    work = prepare_work(run, columns, datasets.TRAIN)
    state, _ = optimise.run(
        run, InProcess(), work, optimise.initial_state(run, start), until=run.optimise.all_epochs,
        checkpoints=folder, fingerprint="", progress=lambda record: None,
    )  # fmt: skip
    points = {INITIAL: start, OPTIMISED: state.result}
    found = change(all_points(run, InProcess(), columns, points).evaluation)
    return found.value, found.error, state.result


def test_noise_and_an_analysis_without_anything_to_gain_claim_nothing(tmp_path):
    """A pure-noise variation, three times what the statistics of the data are, at the best cut: nothing to gain."""
    found = [claim(tmp_path / str(seed), seed) for seed in SEEDS]
    claimed = [seed for seed, (value, error, _) in zip(SEEDS, found, strict=True) if value < -2 * error]
    assert len(claimed) <= 1, [(f"{v:+.3f}", f"{e:.3f}") for v, e, _ in found]


def test_a_real_effect_is_used(tmp_path):
    """5 % of the background below 0.5, as weights of the same events: the cut goes there, -28 % by hand."""
    real = "model.systematics=[{name: real, type: NormPlusShape, up: real_up, samples: [background]}]"
    for seed in SEEDS[:3]:
        value, error, optimised = claim(tmp_path / str(seed), seed, real, "model.mc_statistics=false")
        assert value < -5 * error
        assert abs(value + 0.28) < 0.06
        assert abs(float(optimised["cut"]) - 0.5) < 0.06
