"""Pseudo-experiments of a run of config/fair_universe.yaml, and their score as the FAIR Universe challenge counts it.

Nuisance parameters are drawn from the challenge's priors; they shift the held-out events, which the optimised network
sees anew with hard bins. Each event is there as often as a Poisson number says. The run's own model is fitted to each.
docs/fair_universe.md
"""

import argparse
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from pipeline import config as configuration
from pipeline.analyses import fair_universe
from pipeline.analysis import Analysis, analysis_of
from pipeline.cluster import InProcess
from pipeline.config import Config
from pipeline.containers import Columns, Observation, Parameters
from pipeline.data import column_file, normalisation, store
from pipeline.data.column_file import Provenance
from pipeline.data.names import HELD_OUT, TRAIN, Fold
from pipeline.data.run_files import ColumnFiles, column_files
from pipeline.errors import InputError
from pipeline.fit.toys import ToyExperiment, ToyNumbers, fitted
from pipeline.gradient.sweeps import FreeValues, forward
from pipeline.gradient.work import prepare_work
from pipeline.likelihood import HistFactory
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.optimise.blocks import optimised
from pipeline.relax import Exact
from pipeline.runtime import environment
from pipeline.templates.fill import EXACT

NOMINAL_COVERAGE = 0.6827
EPSILON = 1e-3  # added to the width, the challenge's
FREE = 2.0  # standard deviations of the coverage that cost nothing
TOO_FEW, TOO_MANY = 4, 3  # powers of what lies beyond
STRENGTHS = (0.1, 3.0)  # of the signal
SAME = 1e-5  # relative difference of templates in single precision
BACKGROUNDS = ("ztautau", "ttbar", "diboson")
# Mean, standard deviation and limits of each nuisance parameter; of soft_met, in GeV, those of its logarithm.
PRIORS = {
    "tes": (1.0, 0.01, 0.9, 1.1),
    "jes": (1.0, 0.01, 0.9, 1.1),
    "soft_met": (0.0, 1.0, -math.inf, math.log(5.0)),
    "ttbar_scale": (1.0, 0.02, 0.8, 1.2),
    "diboson_scale": (1.0, 0.25, 0.0, 2.0),
    "bkg_scale": (1.0, 0.001, 0.99, 1.01),
}


class Score(NamedTuple):
    """Mean width of the intervals, the share of them that hold the truth, and what the challenge makes of both."""

    width: float
    coverage: float
    score: float


def penalty(coverage: float, experiments: int) -> float:
    """Return the factor on the width: 1 within two standard deviations of 68.27 %, and more beyond."""
    deviation = math.sqrt(NOMINAL_COVERAGE * (1 - NOMINAL_COVERAGE) / experiments)
    beyond = abs(coverage - NOMINAL_COVERAGE) / deviation - FREE
    return 1.0 + max(beyond, 0.0) ** (TOO_FEW if coverage < NOMINAL_COVERAGE else TOO_MANY)


def scored(truth: np.ndarray, low: np.ndarray, high: np.ndarray) -> Score:
    """Return the challenge's score, ``-ln[(width + 0.001) penalty(coverage)]``; more is better."""
    width = float(np.mean(np.abs(high - low)))
    coverage = float(np.mean((truth >= low) & (truth <= high)))
    return Score(width, coverage, -math.log((width + EPSILON) * penalty(coverage, truth.size)))


def drawn(random: np.random.Generator) -> dict[str, float]:
    """Return values of the nuisance parameters: factors, and the logarithm of ``soft_met``."""
    return {
        name: float(np.clip(random.normal(mean, width), low, high))
        for name, (mean, width, low, high) in PRIORS.items()
    }


class World(NamedTuple):
    """The held-out events, weighted as data, and the optimised network that bins them."""

    config: Config
    analysis: Analysis
    parameters: Parameters
    columns: Columns
    weight: Float[np.ndarray, " events"]
    sample: Int[np.ndarray, " events"]
    samples: tuple[str, ...]

    def bins(self, tes: float, jes: float, soft_met: float) -> Int[np.ndarray, " events"]:
        """Return every event's bin, -1 of what is not selected; shifts in standard deviations of their priors."""
        shifts = jax.numpy.asarray([tes, jes, soft_met], dtype=np.float32)
        found = _observed(self.analysis, self.parameters, self.columns, shifts)
        if found.shares is not None:
            number = np.argmax(np.asarray(found.shares), axis=1)
        else:
            edges = np.asarray(next(iter(self.config.channels.values())).edges)
            number = np.searchsorted(edges[1:-1], np.asarray(found.value, dtype=np.float64), "right")
        return np.where(np.asarray(found.weight) > 0, number, -1)

    def yields(
        self, numbers: Float[np.ndarray, " events"], bins: Int[np.ndarray, " events"], size: int
    ) -> Float[np.ndarray, " bins"]:
        """Return the contents of bins with so many of each event."""
        chosen = bins >= 0
        return np.bincount(bins[chosen], weights=numbers[chosen], minlength=size)


@eqx.filter_jit
def _observed(
    analysis: Analysis, parameters: Parameters, columns: Columns, shifts: Float[Array, " shifts"]
) -> Observation:
    """Return what the first channel, the one of the fit, observes."""
    moved = fair_universe.shifted(columns, *shifts)
    return next(iter(analysis.observe(parameters, moved, Exact()).values()))


def world_of(config: Config, files: ColumnFiles, values: FreeValues) -> World:
    """Return held-out events, and the network with these values."""
    sources: dict[str, list[Provenance]] = {}
    for name, path in files:
        sources.setdefault(name, []).extend(column_file.read(path).sources)
    scales = normalisation.scales(config, sources, HELD_OUT)
    parts = [(name, store.read_columns(path, HELD_OUT)) for name, path in files]
    samples = tuple(scales)
    sizes = [len(events["weight"]) for _, events in parts]
    weights = [scales[name] * events["weight"].astype(np.float64) for name, events in parts]
    kept = [name for name in parts[0][1] if name != "event_number"]
    columns = {name: np.concatenate([events[name] for _, events in parts]) for name in kept}
    return World(
        config=config,
        analysis=analysis_of(config),
        parameters=Parameters({name: jax.numpy.asarray(a, dtype=np.float32) for name, a in values.items()}),
        columns=Columns({name: jax.numpy.asarray(a, dtype=np.float32) for name, a in columns.items()}),
        weight=np.concatenate(weights),
        sample=np.repeat([samples.index(name) for name, _ in parts], sizes),
        samples=samples,
    )


class Experiment(NamedTuple):
    """One pseudo-experiment: its truth and what it counts."""

    truth: float
    counts: Float[np.ndarray, " bins"]


def experiments(
    world: World, sets: int, of_each: int, draws: int, seed: int, size: int
) -> Iterator[Experiment]:
    """Yield the experiments, by the values of the shifts that they share.

    Args:
        draws: how many values of the shifts there are; more experiments than these have the same ones again.
    """
    truths = np.repeat(np.linspace(*STRENGTHS, sets), of_each)
    for draw in range(min(draws, truths.size)):
        own = drawn(np.random.default_rng((seed, draw)))
        shifts = ((own["tes"] - 1) / 0.01, (own["jes"] - 1) / 0.01, own["soft_met"])
        bins = world.bins(*shifts)
        for number in range(draw, truths.size, draws):
            random = np.random.default_rng((seed, draws, number))
            scales = {**drawn(random), "mu": float(truths[number])}
            factor = np.array([_factor(name, scales) for name in world.samples])
            counts = random.poisson(world.weight * factor[world.sample]).astype(np.float64)
            yield Experiment(truths[number], world.yields(counts, bins, size))


def _factor(sample: str, scales: Mapping[str, float]) -> float:
    if sample not in BACKGROUNDS:
        return scales["mu"]
    return scales["bkg_scale"] * scales.get(f"{sample}_scale", 1.0)


def model_of(config: Config, files: ColumnFiles, values: FreeValues, fold: Fold) -> HistFactory:
    """Return the run's likelihood with the hard templates of some events."""
    work = prepare_work(config, files, fold)
    exact = forward(InProcess(), work, values, EXACT)
    return HistFactory.from_workspace(workspace(exact, work.axes, config), check=False)


def expected_uncertainty(model: HistFactory) -> float:
    """Return that of the signal strength on the model's own expected data, by the Hessian."""
    truth = np.asarray(model.initial, dtype=np.float64)
    data = np.asarray(model.expected_data(model.initial))[np.newaxis]
    found = fitted(model, ToyExperiment(truth, float(truth[model.poi_index]), 1, 0, 0), data)
    return float(found.sigma[0])


def check(world: World, model: HistFactory) -> None:
    """Raise where the events are not those of the model's templates.

    Raises:
        InputError: the two differ.
    """
    expected = np.asarray(model.expected_data(model.initial))[: sum(model.bins)]
    own = world.yields(world.weight, world.bins(0.0, 0.0, 0.0), sum(model.bins))
    if not np.allclose(own, expected, rtol=SAME, atol=world.weight.max()):
        raise InputError(
            f"run {world.config.run!r}: the held-out events fill {own}, its templates are {expected}; run it again"
        )


def fits(model: HistFactory, found: list[Experiment]) -> dict[float, ToyNumbers]:
    """Return the fits of the experiments, by their truth."""
    poi, made = model.poi_index, {}
    for truth in sorted({own.truth for own in found}):
        counts = np.stack([own.counts for own in found if own.truth == truth])
        auxiliary = np.tile(np.asarray(model.auxdata()), (len(counts), 1))
        start = np.asarray(model.initial.at[poi].set(truth), dtype=np.float64)
        made[truth] = fitted(
            model, ToyExperiment(start, truth, len(counts), 0, 0), np.concatenate([counts, auxiliary], axis=1)
        )
    return made


def numbers(by_truth: Mapping[float, ToyNumbers]) -> dict[str, float]:
    """Return width, coverage and score with their errors, of the Hessian's intervals; the coverage of the profile's."""
    good = {truth: own.converged & (own.sigma > 0) for truth, own in by_truth.items()}
    truth = np.concatenate([np.full(int(good[t].sum()), t) for t in by_truth])
    poi, sigma, t = (
        np.concatenate([getattr(own, name)[good[at]] for at, own in by_truth.items()])
        for name in ("poi", "sigma", "t")
    )
    found = scored(truth, poi - sigma, poi + sigma)
    return {
        **found._asdict(),
        "width_error": float(np.std(2 * sigma)) / math.sqrt(truth.size),
        "coverage_error": math.sqrt(found.coverage * (1 - found.coverage) / truth.size),
        "profile_coverage": float(np.mean(t <= 1.0)),
        "bias": float(np.mean(poi - truth)),
        "spread": float(np.std(poi - truth)),
        "experiments": float(truth.size),
        "without_fit": float(sum(own.converged.size for own in by_truth.values()) - truth.size),
    }


def main() -> None:
    """Make and fit the experiments of one run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], help="override, as the run has it")
    parser.add_argument("--sets", type=int, default=10, help="values of the signal strength, from 0.1 to 3")
    parser.add_argument("--experiments", type=int, default=100, help="of each")
    parser.add_argument("--draws", type=int, default=1000, help="values of the shifts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    os.environ.update(environment())  # JAX reads it at the first array
    jax.config.update("jax_enable_x64", True)
    config = configuration.load(options.config, options.set)
    files = column_files(config)
    values = optimised(config, files)
    world = world_of(config, files, values)
    model = model_of(config, files, values, HELD_OUT)
    check(world, model)
    found = list(
        experiments(world, options.sets, options.experiments, options.draws, options.seed, sum(model.bins))
    )
    of_training = model_of(config, files, values, TRAIN)
    uncertainties = {
        "expected": expected_uncertainty(model),
        "expected_train": expected_uncertainty(of_training),
    }
    store.write_json(options.output, {**numbers(fits(model, found)), **uncertainties})


if __name__ == "__main__":
    main()
