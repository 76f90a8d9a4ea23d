"""Pseudo-experiments of the final model: does the interval cover, is the test statistic distributed as assumed?

What is asymptotic about the final number is that ``-2 ln L`` has the distributions of arXiv:1007.1727, of many events.
"""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import equinox as eqx
import numpy as np
from scipy import stats

from pipeline.config import Config
from pipeline.config.quantities import AsimovSignificance, Cls, Discovery, DiscoveryPValue, ExpectedLimit
from pipeline.data.names import Fold
from pipeline.errors import FitError
from pipeline.evaluate.robustness.toy_measures import (
    ONE_SIGMA,
    TAIL,
    Distribution,
    Goodness,
    Statistic,
    Toys,
    ToyTest,
    chi_squared,
    half_chi_squared,
    in_cells,
    is_covered,
    mean_of,
    of_q_tilde,
    share,
    statistic_of,
    verdict_of,
    width_of,
)
from pipeline.fit.hypotest import poi_of, q_asimov
from pipeline.fit.toys import ToyExperiment, ToyNumbers, block, blocks_of, observed_goodness
from pipeline.gradient.resident import Resident
from pipeline.gradient.sweeps import Executor
from pipeline.gradient.work import Work
from pipeline.likelihood import HistFactory
from pipeline.likelihood.workspace import Workspace

CELLS = 40  # of histograms

logger = logging.getLogger(__name__)


class ToyBlock(NamedTuple):
    """A group of no events, for the executor: the block of this number."""

    number: int
    events: int


class _Asked(NamedTuple):
    """A model, what is drawn and tested, and which part of the toys is one worker's."""

    model: HistFactory
    experiment: ToyExperiment


class FinalModel(NamedTuple):
    """The final workspace with its Asimov data, of so named events, the final number, the workspace of pseudodata."""

    fold: Fold
    spec: Workspace | None
    number: float | None
    pseudodata: Workspace | None


def toys_of(config: Config, executor: Executor, work: Work, final: FinalModel) -> Toys | None:
    """Return the toys of a run's final model, or None where none are asked for.

    Args:
        work: any of the run's; toys are spread over the same workers.

    Raises:
        FitError: hardly any toy has a fit.
    """
    count, spec = config.evaluate.toys, final.spec
    if count == 0 or spec is None:
        return None
    model = HistFactory.from_workspace(spec, check=False)
    truth, poi = np.asarray(model.initial, dtype=np.float64), poi_of(model, "evaluate.toys")
    nominal = float(truth[poi])
    run = _Runner(executor, work)
    seed = config.evaluate.toys_seed
    own = run(model, ToyExperiment(truth, nominal, count, seed, 0))
    first = _test("t_mu", own, nominal, nominal, chi_squared)
    tests, good = [first], own.converged
    if (asked := _further(config, final.number)) is not None:
        tests.append(_second(run, model, asked, (count, seed)))
    half = np.where(own.sigma > 0, own.sigma, np.nan)
    pulls = ((own.poi - nominal) / half)[good & (own.sigma > 0)]
    interval = share(own.t[good] <= 1.0, ONE_SIGMA)
    verdict, reason = verdict_of(tests, interval)
    found = Toys(
        fold=final.fold,
        seed=seed,
        tests=tuple(tests),
        interval=interval,
        bias=mean_of(own.poi[good] - nominal, 0.0),
        pull_mean=mean_of(pulls, 0.0) if pulls.size else None,
        pull_width=width_of(pulls, 1.0) if pulls.size else None,
        at_bound=int(np.sum(good)) - pulls.size,
        pulls=in_cells(pulls, np.linspace(-4.0, 4.0, CELLS + 1), stats.norm.cdf),
        goodness=None if final.pseudodata is None else _goodness(run, final.pseudodata, (count, seed)),
        verdict=verdict,
        reason=reason,
    )
    logger.info(f"toys: {count} of each kind, the interval covers {100 * interval.value:.1f} %; {reason}")
    return found


def experiments_of(config: Config) -> int:
    """Return how many experiments a run makes: the interval, the objective's test, the pseudodata's best fit."""
    tested = _further(config, 1.0) is not None
    return 1 + tested + bool(config.model.pseudodata)


def first_block(spec: Workspace, toys: int) -> Callable[[], ToyNumbers]:
    """Return what draws and fits a block of so many toys of a workspace, by which their cost is measured."""
    model = HistFactory.from_workspace(spec, check=False)
    truth = np.asarray(model.initial, dtype=np.float64)
    nominal = float(truth[poi_of(model, "evaluate.toys")])
    experiment = ToyExperiment(truth, nominal, toys, 0, 0)
    return lambda: block(model, experiment, 0)


class _Runner(NamedTuple):
    """Makes experiments on an executor, each process some of the blocks."""

    executor: Executor
    work: Work

    def __call__(self, model: HistFactory, experiment: ToyExperiment) -> ToyNumbers:
        """Return the toys of all blocks, in their order."""
        groups = tuple(ToyBlock(n, size) for n, size in enumerate(blocks_of(experiment.toys)))
        shared = self.work._replace(groups=cast(Any, groups))
        found = self.executor.sweep(_of_block, shared, _Asked(model, experiment))
        joined = ToyNumbers(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
        if not joined.converged.any():
            raise FitError(
                "evaluate.toys: no toy has a fit that converged; is there a bin with hardly any events, or a parameter "
                "that nothing determines?"
            )
        return joined


def _of_block(_: Resident, group: Any, __: Work, asked: _Asked) -> ToyNumbers:
    return block(asked.model, asked.experiment, group.number)


def _further(config: Config, limit: float | None) -> tuple[Statistic, float, float | None] | None:
    """Return statistic, tested value and level of the objective's own test, where it is one."""
    for part in config.objective.parts:
        if isinstance(part, Discovery | DiscoveryPValue | AsimovSignificance):
            return "q_0", 0.0, None
        if isinstance(part, Cls):
            return "q_mu_tilde", part.mu, TAIL
        if isinstance(part, ExpectedLimit) and limit is not None and len(config.objective.parts) == 1:
            return "q_mu_tilde", limit, part.level
    return None


def _second(
    run: _Runner,
    model: HistFactory,
    asked: tuple[Statistic, float, float | None],
    drawn: tuple[int, int],
) -> ToyTest:
    """Return the test that the objective makes: toys at the tested value, so many of a seed."""
    (statistic, tested, level), (count, seed) = asked, drawn
    truth = np.asarray(model.initial.at[poi_of(model, "evaluate.toys")].set(tested), dtype=np.float64)
    own = run(model, ToyExperiment(truth, tested, count, seed, 1, level is not None))
    if statistic == "q_0" or level is None:
        return _test(statistic, own, tested, tested, half_chi_squared)
    q_a, _ = _expected_q(model, tested)
    return _test(statistic, own, tested, tested, lambda q: of_q_tilde(q, float(q_a)), level)


@eqx.filter_jit
def _expected_q(model: HistFactory, tested: float) -> Any:
    """Return ``q_mu`` of background-only Asimov data, and whether its fit converged."""
    truth = model.initial.at[poi_of(model, "evaluate.toys")].set(0.0)
    found, held = q_asimov(model, truth, tested, model.dense())
    return found, held.converged


def _test(
    statistic: Statistic,
    own: ToyNumbers,
    truth: float,
    tested: float,
    distribution: Distribution,
    level: float | None = None,
) -> ToyTest:
    good = own.converged
    q = statistic_of(statistic, own, tested)[good]
    tail = np.asarray(distribution(q) > 1.0 - TAIL)
    return ToyTest(
        statistic=statistic,
        truth=truth,
        tested=tested,
        toys=q.size,
        again=int(own.again.sum()),
        failed=int((~good).sum()),
        tail=share(tail, TAIL),
        limit=None if level is None else share(is_covered(own, tested, level)[good], 1.0 - level),
        distribution=in_cells(
            q, np.concatenate([[-1e-9], np.linspace(0.0, 10.0, CELLS + 1)[1:]]), distribution
        ),
    )


def _goodness(run: _Runner, spec: Workspace, drawn: tuple[int, int]) -> Goodness:
    count, seed = drawn
    model = HistFactory.from_workspace(spec, check=False)
    best, value, freedom = observed_goodness(model)
    poi = float(best[poi_of(model, "evaluate.toys")])
    own = run(model, ToyExperiment(best, poi, count, seed, 2))
    beyond = share(own.goodness[own.converged] >= value, float(stats.chi2.sf(value, freedom)))
    return Goodness(
        value=value,
        degrees_of_freedom=freedom,
        p_value=beyond.value,
        error=beyond.error,
        asymptotic=beyond.expected,
        toys=int(own.converged.sum()),
        failed=int((~own.converged).sum()),
    )
