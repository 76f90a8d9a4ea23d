"""What toys measure and say, and what they are asked for in vain."""

import csv

import contracts
import numpy as np
import pytest
from scipy import stats
from workspaces import counting

from pipeline import config as configuration
from pipeline.cluster import InProcess
from pipeline.config.quantities import ExpectedLimit
from pipeline.errors import ConfigError
from pipeline.evaluate.robustness.toy_measures import (
    ToyMeasure,
    chi_squared,
    half_chi_squared,
    is_covered,
    of_q_tilde,
    share,
    statistic_of,
    verdict_of,
)
from pipeline.evaluate.robustness.toys import FinalModel, toys_of
from pipeline.fit.toys import ToyNumbers
from pipeline.gradient.work import Work
from pipeline.report.drawn import table
from pipeline.report.toys import figures

pytestmark = pytest.mark.usefixtures("compiled_quickly")
WITHOUT_TERM = "{name: x, type: Normalization, up: 0.1, down: -0.1, constraint_width: none}"
WORK = Work(*(None for _ in Work._fields))  # toys need none of its events


@pytest.fixture(scope="module")
def run(request):
    return configuration.load(request.config.rootpath / "config" / "miniature.yaml", ["evaluate.toys=120"])


def with_limit(run):
    return run.model_copy(
        update={"objective": run.objective.model_copy(update={"quantity": ExpectedLimit()})}
    )


def final(observed=33.0, number=2.2):
    spec = counting(signal=8.0, background=30.0, observed=38.0)
    return FinalModel("held_out", spec, number, counting(signal=8.0, background=30.0, observed=observed))


@pytest.fixture(scope="module")
def toys(run):
    return toys_of(with_limit(run), InProcess(), WORK, final())


def numbers(poi, t, asimov=1.0):
    poi, t = np.asarray(poi, dtype=float), np.asarray(t, dtype=float)
    yes, one = np.ones(t.size, dtype=bool), np.ones(t.size)
    return ToyNumbers(poi, one, t, one, asimov * one, yes, ~yes)


def test_an_experiment_says_what_is_drawn_tested_and_found(toys):
    first, second = toys.tests
    assert (first.statistic, first.tested, first.limit) == ("t_mu", 1.0, None)
    assert (second.statistic, second.truth, second.tested) == ("q_mu_tilde", 2.2, 2.2)
    assert first.toys + first.failed == second.toys + second.failed == 120
    assert abs(toys.interval.value - toys.interval.expected) < 4 * toys.interval.error
    assert abs(toys.bias.value) < 4 * toys.bias.error
    assert abs(second.tail.value - second.tail.expected) < 4 * second.tail.error
    assert second.limit.value > 0.9
    assert sum(first.distribution.counts) <= first.toys
    assert toys.verdict == "undecided"
    assert "120 toys" in toys.reason


def test_the_goodness_of_fit_is_that_of_one_bin_and_one_constraint(toys, run):
    """33 events are fitted exactly, with nothing left of the two terms but rounding; 0 events are not."""
    assert toys.goodness.degrees_of_freedom == 1  # at least
    np.testing.assert_allclose(toys.goodness.value, 0.0, atol=1e-9)
    worse = toys_of(run, InProcess(), WORK, final(observed=3.0)).goodness
    assert worse.value > 15
    assert worse.p_value < 0.05


def test_the_statistics_are_those_of_the_paper():
    own = numbers([0.5, 1.5, -0.1], [2.0, 3.0, 1.0])
    assert statistic_of("t_mu", own, 1.0).tolist() == [2.0, 3.0, 1.0]
    assert statistic_of("q_mu_tilde", own, 1.0).tolist() == [2.0, 0.0, 1.0]
    assert statistic_of("q_0", own, 0.0).tolist() == [2.0, 3.0, 0.0]
    q = np.array([0.0, 1.0, 4.0, 9.0])
    np.testing.assert_allclose(half_chi_squared(q), stats.norm.cdf([0.0, 1.0, 2.0, 3.0]))
    np.testing.assert_allclose(chi_squared(q), 2 * half_chi_squared(q) - 1, atol=1e-12)
    np.testing.assert_allclose(of_q_tilde(q, 4.0), stats.norm.cdf([0.0, 1.0, 2.0, 13 / 4]))


def test_a_limit_covers_where_cls_is_at_least_the_level():
    """CLs = Phi(-sqrt q) / Phi(sqrt q_A - sqrt q); with q_A = 4 it is 5 % where q is 2.9 about."""
    q = np.linspace(0.0, 4.0, 400)
    cls = stats.norm.sf(np.sqrt(q)) / stats.norm.cdf(2.0 - np.sqrt(q))
    assert is_covered(numbers(np.zeros(q.size), q, 4.0), 1.0, 0.05).tolist() == (cls >= 0.05).tolist()


@pytest.mark.parametrize(
    ("size", "width", "expected"),
    [(100_000, 1.0, "trusted"), (100_000, 1.2, "not_trusted"), (300, 1.0, "undecided")],
)
def test_the_verdict_is_by_the_tails_and_their_errors(toys, size, width, expected):
    t = (width * np.random.default_rng(1).standard_normal(size)) ** 2
    tail = share(chi_squared(t) > 0.95, 0.05)
    test = toys.tests[0].changed(tail=tail, toys=size, failed=0)
    verdict, reason = verdict_of([test], share(t <= 1.0, 0.6827))
    assert verdict == expected
    failed = verdict_of([test.changed(failed=size)], share(t <= 1.0, 0.6827))
    assert failed == ("not_trusted", "not to be trusted: 50.0 % of the toys have no fit")
    assert reason.startswith(
        {"trusted": "to be", "not_trusted": "not to be", "undecided": "not dec"}[expected]
    )


def test_a_limit_that_covers_more_is_no_reason_for_doubt(toys):
    good = ToyMeasure(value=0.05, error=0.0005, expected=0.05)
    interval = ToyMeasure(value=0.6827, error=0.001, expected=0.6827)
    for covered, expected in ((0.99, "trusted"), (0.92, "not_trusted")):
        limit = ToyMeasure(value=covered, error=0.0005, expected=0.95)
        test = toys.tests[1].changed(tail=good, limit=limit, toys=100_000, failed=0)
        assert verdict_of([test], interval)[0] == expected


def test_another_seed_draws_other_toys(toys, run):
    own = run.evaluate.model_copy(update={"toys_seed": 7})
    other = toys_of(with_limit(run.model_copy(update={"evaluate": own})), InProcess(), WORK, final())
    assert (toys.seed, other.seed) == (run.evaluate.toys_seed, 7)
    assert other.bias.value != toys.bias.value
    assert abs(other.bias.value) < 4 * other.bias.error


def test_one_toy_is_none(request):
    path = request.config.rootpath / "config" / "miniature.yaml"
    with pytest.raises(ConfigError, match=r"evaluate\.toys.*1 toy has no spread, .*; give 2 or more"):
        configuration.load(path, ["evaluate.toys=1"])


def test_what_is_drawn_is_what_was_counted(toys, run):
    evaluation = contracts.evaluation()
    evaluation = evaluation.changed(robustness=evaluation.robustness.changed(toys=toys))
    (drawn,) = figures(run, evaluation).values()
    rows = list(csv.DictReader(table(drawn).splitlines()))
    assert {row["what"] for row in rows} == {"t_mu", "q_mu_tilde", "pull"}
    assert sum(int(row["toys"]) for row in rows if row["what"] == "t_mu") == sum(
        toys.tests[0].distribution.counts
    )
    assert figures(run, contracts.evaluation()) == {}


def test_a_poi_that_is_always_at_its_bound_has_no_pulls(run):
    spec = counting(signal=8.0, background=30.0, observed=30.0)
    spec["measurements"][0]["config"]["parameters"] = [{"name": "mu", "inits": [9.0], "bounds": [[8.9, 9.0]]}]
    found = toys_of(run, InProcess(), WORK, FinalModel("held_out", spec, None, None))
    assert found.at_bound > 100
    assert sum(found.pulls.counts) + found.at_bound <= found.tests[0].toys


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluate.toys=-1"], r"evaluate\.toys.*-1"),
        (
            ["evaluate.toys=10", f"model.systematics=[{WITHOUT_TERM}]"],
            r"evaluate\.toys: 10 toys.*constraint_width",
        ),
    ],
)
def test_toys_that_cannot_be_are_named(request, overrides, message):
    with pytest.raises(ConfigError, match=message):
        configuration.load(request.config.rootpath / "config" / "miniature.yaml", overrides)


def test_toys_without_a_model_are_named(request):
    with pytest.raises(ConfigError, match=r"evaluate\.toys: 5 toys .* there is no model"):
        configuration.load(request.config.rootpath / "config" / "rosenbrock.yaml", ["evaluate.toys=5"])
