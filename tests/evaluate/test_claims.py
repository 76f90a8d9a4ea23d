"""What a run claims over many seeds, where it is known what there is to gain: nothing, or what a real effect allows."""

import numpy as np
import pytest
import uproot
from columnfiles import write_columns
from generated import generated

from pipeline import optimise
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.data.names import INITIAL, OPTIMISED, POLISHED
from pipeline.evaluate.change import change
from pipeline.evaluate.stage import all_points
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.templates.fill import EXACT

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


def optimised(folder, seed, *overrides):
    """The configuration, its column files, the work of the training events, both points."""
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
    return run, columns, work, {INITIAL: start, OPTIMISED: state.result}


def claim(folder, seed, *overrides):
    """Relative change on held-out events with its error, and the optimised parameters."""
    run, columns, _, points = optimised(folder, seed, *overrides)
    found = change(all_points(run, InProcess(), columns, points).evaluation)
    return found.value, found.error, points[OPTIMISED]


def training_events(run, folder, sample):
    """Values and weights of the training events of a sample, normalised to its cross-section, from its ROOT file."""
    events = uproot.open(folder / f"{sample}_0.root")["Events"].arrays(library="np")
    train = ~datasets.is_held_out(events["event"], run.data.held_out_fraction)
    weight = events["gen"][train].astype(float)
    cross_section = run.data.samples[sample.partition("__")[0]].cross_section_pb
    return events["x"][train], weight * cross_section * run.data.luminosity_per_pb / weight.sum()


@pytest.mark.slow
@pytest.mark.long
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


def test_all_that_judges_a_result_knows_both_signs_of_weight(tmp_path):
    """Smoothing, starts, certificate, polish, refits, bootstrap; and the exact sums are NumPy's."""
    asked = ["certificate: 6", "certificate_replicas: 5", "polish: 1", "refits: 2", "bootstrap: 20"]
    smoothing = "smoothing: {algorithm: gaussian, width: 1}"
    overrides = [
        f"model.systematics=[{{name: noise, type: NormPlusShape, up: noise, samples: [background], {smoothing}}}]",
        f"evaluate={{{', '.join(asked)}}}",
        "optimise={epochs: 6, epochs_per_job: 6, learning_rate: 0.03, check_every: 2, patience: 2, starts: 2}",
    ]
    run, columns, work, points = optimised(tmp_path / "signs", 1, *overrides)
    found = all_points(run, InProcess(), columns, points).evaluation
    assert np.isfinite([found.at(point, "held_out").pyhf for point in (INITIAL, OPTIMISED, POLISHED)]).all()
    assert found.robustness.certificate.evaluations >= 10
    assert len(found.robustness.refits.done) == 2
    assert found.bootstrap.failed == 0
    cuts = points[OPTIMISED]
    exact = forward(InProcess(), work, cuts, EXACT)
    for number, sample in enumerate(work.axes.samples):
        x, weight = training_events(run, tmp_path / "signs", sample)
        kept = weight[(x > cuts["cut"]) & (x < cuts["top"])]
        assert (kept < 0).any()
        np.testing.assert_allclose(exact.yields["all"][number, 0], kept.sum(), rtol=1e-12)
        np.testing.assert_allclose(exact.sumw2["all"][number], (kept**2).sum(), rtol=1e-12)
