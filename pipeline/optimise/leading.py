"""Which systematic uncertainties an optimisation observes: those that matter most for its objective.

With L the objective, T_v the templates of a systematic's variations, n the nominal and e its relative size of now,

    impact = sum_v dL/dT_v (T_v - n)        what L would lose, to first order, without the systematic
    drift  = sum_v dL/dT_v (T_v' - e n')    what L changes in one update because e does; ' is after the update

For an uncertainty sigma^2 = sum_k impact_k^2 the first is the k-th share of sigma. A systematic is worth |impact| plus
|drift| times the updates until the next choice. Both take the derivative that an epoch has anyway; the drift takes one
more forward sweep.
"""

import logging
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pipeline.config import Config, NormPlusShapeSystematic
from pipeline.containers import Templates
from pipeline.data.datasets import NOMINAL
from pipeline.data.record import Leading
from pipeline.errors import FitError
from pipeline.gradient.held import HeldTemplates, Watched, needed
from pipeline.gradient.sweeps import Executor, FreeValues, Step, forward
from pipeline.gradient.work import Work
from pipeline.templates.axes import Axes, affecting_in_fit
from pipeline.templates.binning import binnings_of
from pipeline.templates.fill import Widths

logger = logging.getLogger(__name__)
MOST_NAMES = 8  # in a line of the log
KEPT = 0.9  # of what the best ones are worth: another choice is another program, a minute of compiling


class Chosen(NamedTuple):
    """What a state knows of the last choice: which of the shape systematics lead, and the templates of that moment."""

    leads: Bool[np.ndarray, " systematics"]
    before: Mapping[str, Float[np.ndarray, "samples variations bins"]]


def is_partial(config: Config) -> bool:
    """Return whether the optimisation leaves systematics out at all."""
    leading = config.optimise.leading
    if leading == "all" or not config.model.is_fitted:
        return False
    shapes = len(_shapes(config))
    return shapes > 0 and leading < (shapes if isinstance(leading, int) else 1.0)


def is_choice(config: Config, epoch: int) -> bool:
    """Return whether an epoch observes all, and the leading ones are chosen after it."""
    return epoch % config.optimise.leading_every == 0


def undecided(config: Config) -> Chosen | None:
    """Return an empty choice, before the first one; None where all are observed."""
    if not is_partial(config):
        return None
    return Chosen(np.zeros(0, dtype=bool), {b.channel: np.zeros((0, 0, 0)) for b in binnings_of(config)})


def held(config: Config, axes: Axes, chosen: Chosen) -> HeldTemplates:
    """Return what the epochs after a choice observe and hold."""
    named = zip(_shapes(config).values(), chosen.leads, strict=True)
    rows = [row for own, leads in named if leads for row in own]
    return HeldTemplates(needed(axes, rows), axes, chosen.before)


def choose(
    config: Config,
    executor: Executor,
    work: Work,
    step: Step,
    former: Chosen,
    after: FreeValues,
    widths: Widths,
) -> tuple[Chosen, Leading]:
    """Return the systematics that lead from here on, and what is recorded of them.

    Args:
        former: the last choice, which stays where the best ones are hardly worth more.
        step: at the parameters before the update, with all systematics.
        after: the parameters after it, where the next epoch begins; held templates are those of this point.
    """
    try:
        there = forward(executor, work, after, widths)
    except FitError:  # the next epoch will say so, or halve the update
        there = step.templates
    worth = worths(config, work.axes, step, there)
    leads = _kept(former.leads, _first(worth, config.optimise.leading), worth)
    total = float(np.sum(worth))
    share = float(np.sum(worth[leads])) / total if total > 0 else 1.0
    names = list(_shapes(config))
    by_worth = [names[place] for place in np.argsort(-worth, kind="stable") if leads[place]]
    more = f" and {len(by_worth) - MOST_NAMES} more" if len(by_worth) > MOST_NAMES else ""
    logger.info(
        f"observed from here on: {len(by_worth)} of {len(worth)} systematics with templates, "
        f"{100 * share:.1f} % of what all are worth: {', '.join(by_worth[:MOST_NAMES])}{more}"
    )
    yields = {channel: np.asarray(array) for channel, array in there.yields.items()}
    return Chosen(leads, yields), Leading(names=tuple(by_worth), of=len(worth), share=share)


def worths(config: Config, axes: Axes, step: Step, there: Templates) -> Float[np.ndarray, " systematics"]:
    """Return the worth of every shape systematic of the model, see the module."""
    nothing = HeldTemplates(
        Watched((), ()), axes, {c: np.asarray(a) for c, a in step.templates.yields.items()}
    )
    still, updates = nothing.completed(there), config.optimise.leading_every
    here = nothing.before
    drifted = {c: np.asarray(array) - still.yields[c] for c, array in there.yields.items()}
    found = []
    for rows in _shapes(config).values():
        impact = drift = 0.0
        for process, variation in rows:
            row, nominal = axes.row(process, variation), axes.row(process, NOMINAL)
            for channel, slopes in step.slopes.yields.items():
                slope = np.asarray(slopes)[row]
                impact += float(np.sum(slope * (here[channel][row] - here[channel][nominal])))
                drift += float(np.sum(slope * drifted[channel][row]))
        found.append(abs(impact) + updates * abs(drift))
    return np.array(found)


def _first(worth: Float[np.ndarray, " systematics"], leading: object) -> Bool[np.ndarray, " systematics"]:
    """Return the largest, so many or so large a share of all; of equal ones those that the model names first."""
    order = np.argsort(-worth, kind="stable")
    number = leading
    if isinstance(leading, float):
        total = np.cumsum(worth[order])
        number = 1 + int(np.searchsorted(total, leading * total[-1]))
    found = np.zeros(len(worth), dtype=bool)
    found[order[:number]] = True
    return found


def _kept(
    former: Bool[np.ndarray, " former"],
    best: Bool[np.ndarray, " systematics"],
    worth: Float[np.ndarray, " systematics"],
) -> Bool[np.ndarray, " systematics"]:
    """Return the former ones where they are about as few and worth about as much as the best."""
    if not former.size or KEPT * np.sum(former) > np.sum(best):
        return best
    return former if np.sum(worth[former]) >= KEPT * np.sum(worth[best]) else best


def _shapes(config: Config) -> dict[str, list[tuple[str, str]]]:
    """Return the systematics with templates of their own, each with the (process, variation) of these."""
    return {
        systematic.name: [
            (process, name)
            for process in config.data.samples
            if systematic in affecting_in_fit(config, process)
            for name in (systematic.up, systematic.down)
            if name is not None
        ]
        for systematic in config.model.systematics
        if isinstance(systematic, NormPlusShapeSystematic)
    }
