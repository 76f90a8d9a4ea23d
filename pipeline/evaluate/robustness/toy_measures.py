"""What toys measure: coverage, bias, distributions, each with its error and what the asymptotic formulae expect."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from pipeline.data.names import Fold
from pipeline.data.written import Written
from pipeline.fit.toys import ToyNumbers

ONE_SIGMA = float(stats.chi2.cdf(1.0, 1))  # coverage of the interval where -2 ln L rises by 1
TAIL = 0.05  # of the asymptotic distribution of the test statistic, in which toys are counted
ALLOWED = 0.1  # relative error of a tail: a twentieth of a standard deviation at two of them
SURE = 2.0  # errors
MOST_FAILED = 0.01  # of the toys without a fit

Statistic = Literal["t_mu", "q_0", "q_mu_tilde"]
Trust = Literal["trusted", "not_trusted", "undecided"]


class ToyMeasure(Written):
    """A number found by toys, its standard deviation, and what it should be."""

    value: float
    error: float
    expected: float


class Histogrammed(Written):
    """Toys in cells, and how many of them are expected there."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    expected: tuple[float, ...]


class ToyTest(Written):
    """Toys of one truth, and the test statistic of one value of the POI.

    ``tail`` is the part of them beyond the asymptotic distribution's last 5 %, ``limit`` the coverage of the upper
    limit, where there is one. ``again`` counts toys whose fits were made again from elsewhere, ``failed`` those without
    a fit, which are left out.
    """

    statistic: Statistic
    truth: float
    tested: float
    toys: int
    again: int
    failed: int
    tail: ToyMeasure
    limit: ToyMeasure | None
    distribution: Histogrammed


class Goodness(Written):
    """The saturated goodness of fit of the pseudodata, and its p-values, by toys at their best fit and by chi^2."""

    value: float
    degrees_of_freedom: int
    p_value: float
    error: float
    asymptotic: float
    toys: int
    failed: int


class Toys(Written):
    """What pseudo-experiments of the final model say of its asymptotic numbers.

    ``interval`` is the coverage of the published interval, ``bias`` the mean of the best fit less the truth, in the
    POI's units, ``pull_mean`` and ``pull_width`` those of the pulls; ``at_bound`` counts toys whose best fit is at a
    bound of the POI, which have no pull.
    """

    fold: Fold
    seed: int
    tests: tuple[ToyTest, ...]
    interval: ToyMeasure
    bias: ToyMeasure
    pull_mean: ToyMeasure | None
    pull_width: ToyMeasure | None
    at_bound: int
    pulls: Histogrammed
    goodness: Goodness | None
    verdict: Trust
    reason: str


def statistic_of(statistic: Statistic, own: ToyNumbers, tested: float) -> Float[np.ndarray, " toys"]:
    """Return the test statistic of each toy: one-sided ones are 0 beyond the tested value."""
    t: Float[np.ndarray, " toys"] = np.maximum(own.t, 0.0)
    if statistic == "q_0":
        return np.where(own.poi < tested, 0.0, t)
    return np.where(own.poi > tested, 0.0, t) if statistic == "q_mu_tilde" else t


def is_covered(own: ToyNumbers, tested: float, level: float) -> Bool[np.ndarray, " toys"]:
    """Return where the upper limit of a toy is not below the tested value: its CLs there is at least the level."""
    q = statistic_of("q_mu_tilde", own, tested)
    root, a = np.sqrt(q), np.sqrt(np.maximum(own.asimov, 0.0))
    is_beyond = (q > own.asimov) & (a > 0)
    t = np.where(is_beyond, (q - own.asimov) / (2 * np.where(a > 0, a, 1.0)), root - a)
    log_cls = stats.norm.logcdf(-t - a) - stats.norm.logcdf(-t)
    return np.asarray(log_cls >= math.log(level))


Distribution = Callable[[Float[np.ndarray, " q"]], Float[np.ndarray, " q"]]


def chi_squared(q: Float[np.ndarray, " q"]) -> Float[np.ndarray, " q"]:
    """Return the distribution of a two-sided statistic (arXiv:1007.1727, eq. 35 at the tested value)."""
    return np.asarray(stats.chi2.cdf(q, 1))


def half_chi_squared(q: Float[np.ndarray, " q"]) -> Float[np.ndarray, " q"]:
    """Return ``Phi(sqrt(q))`` (arXiv:1007.1727, eq. 50)."""
    return np.where(q < 0, 0.0, stats.norm.cdf(np.sqrt(np.maximum(q, 0.0))))


def of_q_tilde(q: Float[np.ndarray, " q"], q_a: float) -> Float[np.ndarray, " q"]:
    """Return the distribution of ``q~_mu`` if mu is true; ``q_a`` is that of Asimov data without signal (eq. 66)."""
    beyond = stats.norm.cdf((q + q_a) / (2.0 * math.sqrt(q_a))) if q_a > 0 else np.ones_like(q)
    return np.where(q > q_a, beyond, half_chi_squared(q))


def share(is_one: Bool[np.ndarray, " toys"], expected: float) -> ToyMeasure:
    """Return the part of toys for which something holds; at 0 and 1 with the error of one toy more or less."""
    size, value = is_one.size, float(np.mean(is_one))
    inside = min(max(value, 1.0 / (size + 1)), size / (size + 1))
    return ToyMeasure(value=value, error=math.sqrt(inside * (1.0 - inside) / size), expected=expected)


def mean_of(values: Float[np.ndarray, " toys"], expected: float) -> ToyMeasure:
    """Return the mean, with its standard deviation."""
    error = float(np.std(values)) / math.sqrt(values.size)
    return ToyMeasure(value=float(np.mean(values)), error=error, expected=expected)


def width_of(values: Float[np.ndarray, " toys"], expected: float) -> ToyMeasure:
    """Return the standard deviation, with the error that it has for a normal distribution."""
    width = float(np.std(values))
    return ToyMeasure(value=width, error=width / math.sqrt(2.0 * values.size), expected=expected)


def in_cells(
    values: Float[np.ndarray, " toys"], edges: Float[np.ndarray, " edges"], distribution: Distribution
) -> Histogrammed:
    """Return toys in cells, and how many a distribution expects there."""
    counts, _ = np.histogram(values, edges)
    return Histogrammed(
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        expected=tuple((values.size * np.diff(distribution(edges))).tolist()),
    )


def verdict_of(tests: Sequence[ToyTest], interval: ToyMeasure) -> tuple[Trust, str]:
    """Return whether the asymptotic numbers can be trusted: each tail within 10 % of its own, two errors included.

    Tails are the toys that an interval, or an upper limit, does not cover, and those beyond 95 % of a statistic's
    asymptotic distribution. Of an upper limit by CLs, which covers more by its definition, too many count only.
    """
    checked = {"that the interval does not cover": _beyond(interval)}
    checked |= {f"beyond 95 % of {test.statistic}": test.tail for test in tests}
    limits = [test.limit for test in tests if test.limit is not None]
    checked |= dict(zip(["that the upper limit does not cover"], map(_beyond, limits), strict=False))
    off = {}
    for name, own in checked.items():
        ratio = own.value / own.expected - 1.0
        off[name] = (max(ratio, 0.0) if "limit" in name else abs(ratio), SURE * own.error / own.expected)
    failed = max(test.failed / (test.failed + test.toys) for test in tests)
    if failed > MOST_FAILED:
        return "not_trusted", f"not to be trusted: {100 * failed:.1f} % of the toys have no fit"
    name = max(off, key=lambda key: off[key][0] - off[key][1])
    if off[name][0] - off[name][1] > ALLOWED:
        own = checked[name]
        part = f"{100 * own.value:.2f} ± {100 * own.error:.2f} %"
        expected = f"{100 * own.expected:.2f} % by the asymptotic formula"
        return "not_trusted", f"not to be trusted: the part of the toys {name} is {part}, and {expected}"
    if all(sum(pair) <= ALLOWED for pair in off.values()):
        return "trusted", f"to be trusted: every tail is within {100 * ALLOWED:g} % of the asymptotic one"
    name = max(off, key=lambda key: sum(off[key]))
    most, error = (100 * number for number in off[name])
    return "undecided", (
        f"not decided by {tests[0].toys} toys: the part of them {name} is {most:.0f} ± {error / SURE:.0f} % off, and "
        f"{100 * ALLOWED:g} % is allowed; more toys will tell"
    )


def _beyond(covered: ToyMeasure) -> ToyMeasure:
    return covered.changed(value=1.0 - covered.value, expected=1.0 - covered.expected)
