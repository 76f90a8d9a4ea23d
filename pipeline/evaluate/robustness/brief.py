"""The robustness of a result in few numbers, for ``summary.json``."""

from pipeline.data.names import Fold
from pipeline.data.written import Written
from pipeline.evaluate.robustness.certificate import Better, Certificate
from pipeline.evaluate.robustness.refits import Refits, Spread
from pipeline.evaluate.robustness.toy_measures import Goodness, Statistic, ToyMeasure, Toys, Trust


class BetterPoint(Written):
    """A value of a parameter that is better beyond its error than the result."""

    parameter: str
    value: float
    objective: float | None
    difference: float | None
    error: float | None
    held_out: float | None


class CertificateSummary(Written):
    """How many points were looked at, the exact objective at the result, and what is better."""

    points: int
    objective: float
    held_out: float | None
    better: tuple[BetterPoint, ...]


class RefitsSummary(Written):
    """Refits that have a result, those that have none, and the spread of the others."""

    fold: Fold
    done: int
    failed: int
    objective: Spread | None
    parameters: dict[str, Spread]


class ToyTestSummary(Written):
    """A test statistic on toys: how many, and how many of them are beyond 95 % of its asymptotic distribution."""

    statistic: Statistic
    tested: float
    toys: int
    again: int
    failed: int
    tail: ToyMeasure
    limit: ToyMeasure | None


class ToysSummary(Written):
    """What toys say of the asymptotic number."""

    fold: Fold
    seed: int
    verdict: Trust
    reason: str
    interval: ToyMeasure
    bias: ToyMeasure
    pull_mean: ToyMeasure | None
    pull_width: ToyMeasure | None
    at_bound: int
    tests: tuple[ToyTestSummary, ...]
    goodness: Goodness | None


def brief_toys(found: Toys | None) -> ToysSummary | None:
    """Return toys without their histograms."""
    if found is None:
        return None
    same = {name: getattr(found, name) for name in ToysSummary.model_fields if name != "tests"}
    tests = (
        ToyTestSummary(**{name: getattr(test, name) for name in ToyTestSummary.model_fields})
        for test in found.tests
    )
    return ToysSummary(**same, tests=tuple(tests))


def brief_certificate(found: Certificate | None) -> CertificateSummary | None:
    """Return a certificate without its curves."""
    if found is None:
        return None
    return CertificateSummary(
        points=found.evaluations,
        objective=found.objective,
        held_out=found.held_out,
        better=tuple(map(_brief_better, found.better)),
    )


def brief_refits(found: Refits | None) -> RefitsSummary | None:
    """Return refits without each one's numbers."""
    if found is None:
        return None
    return RefitsSummary(
        fold=found.fold,
        done=len(found.done),
        failed=len(found.failed),
        objective=found.objective,
        parameters=dict(found.parameters),
    )


def _brief_better(found: Better) -> BetterPoint:
    point = found.scanned
    return BetterPoint(
        parameter=found.parameter,
        value=point.value,
        objective=point.objective,
        difference=point.difference,
        error=point.error,
        held_out=found.held_out,
    )
