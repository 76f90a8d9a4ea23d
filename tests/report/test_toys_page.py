"""The page of a run with toys: its sentence, its numbers, its figure."""

import numpy as np
import pytest
from scipy import stats
from test_report import CUTS, evaluation_of, provenances_of, records_of, run  # noqa: F401  # a fixture

from pipeline import report
from pipeline.evaluate.robustness.brief import brief_toys
from pipeline.evaluate.robustness.toy_measures import (
    Goodness,
    Toys,
    ToyTest,
    chi_squared,
    in_cells,
    mean_of,
    share,
    verdict_of,
    width_of,
)

TOYS = 4000


@pytest.fixture(scope="module")
def toys():
    """Pulls of a normal distribution, and their squares as the statistic."""
    pulls = np.random.default_rng(2).standard_normal(TOYS)
    test = ToyTest(
        statistic="t_mu", truth=1.0, tested=1.0, toys=TOYS, again=3, failed=7,
        tail=share(chi_squared(pulls**2) > 0.95, 0.05), limit=None,
        distribution=in_cells(pulls**2, np.linspace(0.0, 10.0, 11), chi_squared),
    )  # fmt: skip
    interval = share(pulls**2 <= 1, 0.6827)
    verdict, reason = verdict_of([test], interval)
    return Toys(
        fold="held_out", seed=1, tests=(test,), interval=interval, bias=mean_of(0.1 * pulls, 0.0),
        pull_mean=mean_of(pulls, 0.0), pull_width=width_of(pulls, 1.0), at_bound=0,
        pulls=in_cells(pulls, np.linspace(-4, 4, 9), stats.norm.cdf), verdict=verdict, reason=reason,
        goodness=Goodness(
            value=12.5, degrees_of_freedom=10, p_value=0.25, error=0.01, asymptotic=0.2530, toys=TOYS, failed=0
        ),
    )  # fmt: skip


def test_the_page_says_what_toys_say(run, toys, tmp_path):  # noqa: F811
    evaluation = evaluation_of(run)
    evaluation = evaluation.changed(robustness=evaluation.robustness.changed(toys=toys))
    where = {"page": tmp_path / "p.html", "figures": tmp_path / "figures"}
    report.write(run, records_of(**CUTS), evaluation, provenances_of(run), **where)
    page = where["page"].read_text()
    assert f"The asymptotic number is {toys.reason}." in page
    assert "12.5 for 10 degrees of freedom" in page
    assert "<td>0.2500 ± 0.0100</td><td>0.2530</td>" in page
    assert "7 without a fit are left out" in page
    assert {path.suffix for path in where["figures"].glob("toys.*")} == {".csv", ".pdf", ".svg"}


def test_the_summary_has_all_but_the_histograms(toys):
    found = brief_toys(toys).as_json()
    assert found["tests"][0]["tail"]["expected"] == 0.05
    assert found["verdict"] == toys.verdict
    assert "pulls" not in found
    assert "distribution" not in found["tests"][0]
