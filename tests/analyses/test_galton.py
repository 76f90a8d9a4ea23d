"""The Galton board: its gold against every way a ball can take, its estimators through the pipeline, and pyhf."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chunked import assert_chunks_are_the_whole
from columnfiles import write_columns
from generated import generated

from pipeline import config, optimise
from pipeline.analyses import galton
from pipeline.analysis import analysis_of
from pipeline.cluster import InProcess
from pipeline.containers import Parameters
from pipeline.data import datasets
from pipeline.errors import ConfigError, InputError
from pipeline.evaluate.at_point import objectives_of, verdict, work_of_all_models
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.simulate.augmented import joint
from pipeline.simulate.in_memory import as_files

BALLS = {"numerator": 2000, "reference": 2000, "slope": 20_000}


def probabilities(theta, lefts, steps):
    """Of every way the product of its chances, by NumPy."""
    rows = lefts.shape[1]
    nails = galton.START + np.cumsum(steps, axis=1) - steps  # at which each decision is made
    strength = np.sin(np.pi * np.arange(rows) / (rows - 1))
    place = 2 * nails / (galton.NAILS - 1) - 1
    left = (1 - strength) / 2 + strength / (1 + np.exp(-10 * theta * place))
    return np.prod(np.where(lefts > 0, left, 1 - left), axis=1)


def test_averages_of_the_gold_over_all_ways_are_the_truth(monkeypatch):
    """A board of ten rows has 1024 ways; the recursion over rows knows none of them."""
    monkeypatch.setattr(galton, "ROWS", 10)
    lefts = np.asarray(list(itertools.product((0.0, 1.0), repeat=galton.ROWS)))
    steps = np.where(np.arange(galton.ROWS) % 2 == 0, 1 - lefts, -lefts)  # to the right in even rows only
    x = galton.START + steps.sum(axis=1).astype(int)
    theta_0, theta_1 = -0.8, galton.REFERENCE
    gold = joint(galton.log_probability, lefts, theta_0, theta_1)
    own = joint(galton.log_probability, lefts, theta_1, theta_0)
    at_0, at_1 = (probabilities(theta, lefts, steps) for theta in (theta_0, theta_1))
    with jax.enable_x64(True):
        truth_0, truth_1 = (np.asarray(galton.distribution(theta)) for theta in (theta_0, theta_1))
    np.testing.assert_allclose(np.bincount(x, at_0, galton.NAILS), truth_0, rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(np.log(at_0 / at_1), gold.log_ratio, rtol=0, atol=1e-12)
    ends = truth_1 > 0
    ratio = np.bincount(x, at_1 * np.exp(gold.log_ratio), galton.NAILS)[ends] / truth_1[ends]
    np.testing.assert_allclose(np.log(ratio), galton.log_ratio(theta_0)[ends], rtol=1e-10, atol=1e-12)
    for theta, probability, score in ((theta_0, at_0, gold.score), (theta_1, at_1, own.score)):
        mean = (
            np.bincount(x, probability * score, galton.NAILS)[ends]
            / np.bincount(x, probability, galton.NAILS)[ends]
        )
        np.testing.assert_allclose(mean, galton.score(theta)[ends], rtol=1e-9, atol=1e-10)
        step = 1e-5
        with jax.enable_x64(True):
            up, down = (np.asarray(galton.distribution(theta + d)) for d in (step, -step))
        slopes = (np.log(up[ends]) - np.log(down[ends])) / (2 * step)
        np.testing.assert_allclose(galton.score(theta)[ends], slopes, rtol=1e-7, atol=1e-8)


def test_balls_fall_as_the_recursion_says_and_the_same_again():
    number = 20_000
    made = {
        sample: galton.events(sample, number, np.random.default_rng(5)) for sample in ("reference", "slope")
    }
    with jax.enable_x64(True):
        p = np.asarray(galton.distribution(galton.REFERENCE))
    nails = np.rint((made["reference"]["x"] + 1) * (galton.NAILS - 1) / 2).astype(int)
    there = number * p > 10
    counts = np.bincount(nails, minlength=galton.NAILS)[there]
    chi2 = np.sum((counts - number * p[there]) ** 2 / (number * p[there]))
    assert chi2 < there.sum() + 5 * np.sqrt(2 * there.sum())
    means = np.bincount(nails, made["slope"]["expected"], galton.NAILS)[there] / counts
    np.testing.assert_allclose(means, galton.score()[there], atol=5 * 1.0 / np.sqrt(counts.min()))
    numerator = galton.events("numerator", number, np.random.default_rng(5))
    assert abs(numerator["expected"].mean() - 1) < 5 * numerator["expected"].std() / np.sqrt(number)
    again = galton.events("numerator", number, np.random.default_rng(5))
    assert all(np.array_equal(numerator[name], again[name]) for name in numerator)


@pytest.fixture(scope="module")
def made(request, tmp_path_factory):
    """Configuration and column files of a small run by estimator."""

    def make(estimator, **sizes):
        folder = tmp_path_factory.mktemp(estimator)
        options = [
            f"analysis.options={{estimator: {estimator}, hidden: [8]}}",
            "cluster.precision=float64",
            "data.held_out_fraction=0.3",
            "optimise={epochs: 60, epochs_per_job: 60, learning_rate: 0.05, check_every: 30}",
        ]
        path = request.config.rootpath / "config/galton.yaml"
        run = generated(path, {**BALLS, **sizes}, folder, options)
        return run, write_columns(run, folder)

    return make


def test_the_gradient_over_chunks_is_that_of_the_whole(made):
    assert_chunks_are_the_whole(*made("rascal", numerator=300, reference=400, slope=200))


def trained(run, files, folder):
    """Parameters after the epochs, and the error of the estimated ``ln r`` at the published thetas."""
    state, _ = optimise.run(
        run, InProcess(), prepare_work(run, files, datasets.TRAIN),
        optimise.initial_state(run, initial_parameters(run)),
        until=run.optimise.epochs, checkpoints=folder, fingerprint="", progress=lambda _: None,
    )  # fmt: skip
    p, nails = Parameters(state.parameters), jnp.arange(galton.NAILS)
    with jax.enable_x64(True):
        x = 2 * nails / (galton.NAILS - 1) - 1
        found = analysis_of(run).estimate(p, x, jnp.full(galton.NAILS, -0.8))
        weight = np.asarray(galton.distribution(galton.REFERENCE))
    return state.parameters, np.nansum(weight * (np.asarray(found.log_ratio) - galton.log_ratio(-0.8)) ** 2)


@pytest.mark.slow
@pytest.mark.long
def test_the_gold_is_worth_more_than_labels_and_pyhf_measures_with_it(made, tmp_path):
    """Of the same balls RASCAL makes a better ratio than CARL; its score measures theta almost as the true one does."""
    run, files = made("rascal")
    parameters, error = trained(run, files, tmp_path / "rascal")
    assert error < trained(*made("carl"), tmp_path / "carl")[1] / 5
    held_out = work_of_all_models(run, files, datasets.HELD_OUT)
    found = verdict(run, InProcess(), held_out, parameters, objectives_of(run, held_out.axes))
    assert found.pyhf is None  # of a loss
    least = 1 / np.sqrt(10_000 * galton.information())
    np.testing.assert_allclose(found.also["theta"].pyhf, least, rtol=0.05)  # noise of 6000 balls of the slope
    np.testing.assert_allclose(found.also["theta"].exact, found.also["theta"].pyhf, rtol=0.01)


def test_mistakes_are_named(request, made, tmp_path):
    path = request.config.rootpath / "config/galton.yaml"
    unknown = config.load(path, ["analysis.options={estimator: rascall}"])
    with pytest.raises(ConfigError, match=r"estimator 'rascall' is none; nearest: 'rascal'"):
        analysis_of(unknown)
    with pytest.raises(ConfigError, match="sample 'denominator' is not one of numerator, reference, slope"):
        galton.events("denominator", 10, np.random.default_rng(1))
    branches = galton.events("reference", 10, np.random.default_rng(1))
    without = {name: array for name, array in branches.items() if name != "score"}
    manifest = as_files({"reference": without}, tmp_path, "Events")
    run = config.load(path, ["simulate=null", f"data.manifest={manifest}", "data.samples={reference: {}}", "model={}",
                             "evaluate={}", "channels={loss: {in_fit: false}, balls: {in_fit: false}}"])  # fmt: skip
    with pytest.raises(InputError, match="score"):
        write_columns(run, tmp_path)
