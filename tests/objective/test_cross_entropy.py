"""Cross-entropies by hand, in the tails, and as the objective of a run."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from messages import heard
from workspaces import counting

from pipeline import config as configuration
from pipeline import optimise
from pipeline.cluster import InProcess
from pipeline.config import Objective
from pipeline.config.quantities import Discovery
from pipeline.data import datasets
from pipeline.data.names import OPTIMISED
from pipeline.errors import ConfigError
from pipeline.evaluate.stage import all_points
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.likelihood import HistFactory
from pipeline.objective import (
    Inputs,
    binary_cross_entropy,
    categorical_cross_entropy,
    total,
    value_of,
)
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at

pytestmark = pytest.mark.usefixtures("compiled_quickly")


LOGITS = jnp.asarray([-3.0, -0.2, 0.0, 1.5, 4.0])
LABELS = jnp.asarray([0.0, 1.0, 0.3, 1.0, 0.0])


def test_binary_cross_entropy_is_the_formula():
    p = 1 / (1 + np.exp(-np.asarray(LOGITS)))
    expected = -LABELS * np.log(p) - (1 - LABELS) * np.log(1 - p)
    np.testing.assert_allclose(binary_cross_entropy(LOGITS, LABELS), expected, rtol=1e-13)
    check_grads(
        lambda z: binary_cross_entropy(jnp.asarray(z), LABELS), (LOGITS,), order=2, atol=1e-6, rtol=1e-6
    )


def test_categorical_cross_entropy_is_the_formula_and_of_two_classes_the_binary_one():
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(6, 3)))
    label = jnp.asarray([0, 1, 2, 2, 1, 0])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(p[np.arange(6), label])
    np.testing.assert_allclose(categorical_cross_entropy(logits, label), expected, rtol=1e-13)
    check_grads(
        lambda z: categorical_cross_entropy(jnp.asarray(z), label), (logits,), order=2, atol=1e-6, rtol=1e-6
    )
    two = jnp.stack([jnp.zeros_like(LOGITS), LOGITS], axis=1)
    hard = jnp.asarray([0, 1, 0, 1, 0])
    np.testing.assert_allclose(
        categorical_cross_entropy(two, hard), binary_cross_entropy(LOGITS, hard.astype(float)), rtol=1e-13
    )


def test_the_tails_have_slopes():
    """A naive p underflows at 750; here the loss is the logit and its slope is that of the formula."""
    logit, label = jnp.asarray([800.0, -800.0]), jnp.asarray([0.0, 1.0])
    np.testing.assert_array_equal(binary_cross_entropy(logit, label), [800.0, 800.0])
    np.testing.assert_array_equal(
        jax.grad(lambda z: binary_cross_entropy(z, label).sum())(logit), [1.0, -1.0]
    )
    logits = jnp.asarray([[800.0, 0.0, 0.0]])
    assert categorical_cross_entropy(logits, jnp.asarray([1])) == 800.0


def settings(simulated, *more):
    overrides = [
        f"analysis.target={Path(__file__).parents[1] / 'support' / 'classifier.py'}:Classified",
        "channels.loss.in_fit=false",
        "simulate=null",
        f"data.manifest={simulated}",
        "cluster.executor=in_process",
        "optimise.epochs=8",
        "optimise.learning_rate=0.2",
        *more,
    ]
    return configuration.load(Path(__file__).parents[2] / "config" / "miniature.yaml", overrides)


@pytest.fixture(scope="module")
def training(simulated):
    return settings(simulated, "objective.kind=cross_entropy", "objective.channel=loss")


@pytest.mark.slow
@pytest.mark.simulate
def test_a_classifier_is_trained_over_chunks(training, miniature_columns):
    config = training.model_copy(update={"cluster": training.cluster.model_copy(update={"chunk_events": 32})})
    found = prepare_work(config, miniature_columns, datasets.TRAIN)
    start = initial_parameters(config)
    widths = widths_at(config, 0)
    whole = prepare_work(training, miniature_columns, datasets.TRAIN)
    steps = [
        value_and_grad(InProcess(), work, start, widths, centre(config, work.axes)) for work in (found, whole)
    ]
    assert steps[0].objective == pytest.approx(steps[1].objective, rel=1e-12)
    np.testing.assert_allclose(steps[0].gradient["slopes"], steps[1].gradient["slopes"], rtol=1e-10)
    assert all(steps[0].gradient[name] == 0 for name in ("jet_pt", "lepton_pt", "btag"))
    state = optimise.initial_state(config, start)
    records = [record for _, record in optimise.each_epoch(config, InProcess(), found, state, until=8)]
    losses = [record.objective for record in records]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
@pytest.mark.simulate
def test_pyhf_has_no_such_number_but_still_fits(training, miniature_columns):
    points = {OPTIMISED: initial_parameters(training)}
    with heard() as said:
        found = all_points(training, InProcess(), miniature_columns, points)
    assert all(row.pyhf is None and row.exact > 0 for row in found.evaluation.rows)
    assert any("pyhf has no such number" in line for line in said)
    fit = found.evaluation.at(OPTIMISED, "train").fit
    assert fit.interval_missing or fit.interval[0] < 0 < fit.interval[1]
    assert sorted(fit.prefit_stdev) == ["4j1b", "4j2b"]


def test_it_adds_to_other_objectives():
    model = HistFactory.from_workspace(counting())
    terms = [{"kind": "cross_entropy", "channel": "loss", "weight": 2.0}, {"kind": "discovery"}]
    inputs = Inputs(model, model.templates, {"loss": jnp.asarray([3.0])})
    loss, found = total(Objective(kind="weighted_sum", terms=terms), inputs)
    alone = value_of(Discovery(), inputs).value
    np.testing.assert_allclose(loss, 6.0 - alone, rtol=1e-12)
    assert found.converged


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["objective.kind=cross_entropy"],
            "'cross_entropy' needs channel, the name of a channel with in_fit",
        ),
        (
            ["objective.kind=cross_entropy", "objective.channel=lost"],
            "in_fit: false are \\['loss'\\], those of",
        ),
        (
            ["objective.kind=poi_uncertainty"],
            "in_fit: false are \\['loss'\\], those of the objective are \\[\\]",
        ),
        (["channels.4j1b.in_fit=false", "channels.4j2b.in_fit=false"], "every one has in_fit: false"),
    ],
)
@pytest.mark.simulate
def test_mistakes_are_named(simulated, more, message):
    with pytest.raises(ConfigError, match=message):
        settings(simulated, *more)
