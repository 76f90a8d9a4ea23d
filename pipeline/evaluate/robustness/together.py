"""What an evaluation adds about the result's robustness, as far as the configuration asks for it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.config import Config
from pipeline.data import datasets
from pipeline.data.fingerprint import fingerprint_of
from pipeline.data.names import OPTIMISED, POLISHED, Fold, Point
from pipeline.data.store import Folder
from pipeline.data.written import Written
from pipeline.evaluate.robustness.certificate import Certificate, ExactLooks, certificate
from pipeline.evaluate.robustness.polish import Move, polished
from pipeline.evaluate.robustness.refits import Refits, SavedRefits, refits
from pipeline.evaluate.robustness.toy_measures import Toys
from pipeline.gradient.halves import of_optimisation
from pipeline.gradient.loss import Judge, judge
from pipeline.gradient.sweeps import Executor, FreeValues
from pipeline.gradient.work import Work, prepare_work
from pipeline.optimise.pruning import decision_at

logger = logging.getLogger(__name__)


class Robustness(Written):
    """The certificate of the optimised point, the moves to the polished one, refits, toys; None: not asked for."""

    certificate: Certificate | None = None
    moves: tuple[Move, ...] | None = None
    refits: Refits | None = None
    toys: Toys | None = None


class Judged(NamedTuple):
    """The events of every fold, and the compiled objective of their templates."""

    works: Mapping[Fold, Work]
    judge: Judge

    @property
    def last(self) -> Fold:
        """The fold that a result is judged on."""
        return [*self.works][-1]


def looks_around(
    config: Config, executor: Executor, train: Work, judged: Judge, result: FreeValues
) -> ExactLooks:
    """Return how points around a result are looked at: with what is pruned there, so that none jumps."""
    work, judged = of_optimisation(config, train, judged)
    asked = config.evaluate.certificate or config.evaluate.refits
    decision = decision_at(config, executor, work, result, judged) if asked else None
    return ExactLooks(config, executor, work, judged.decided(decision))


def with_polished(
    looks: ExactLooks, points: Mapping[Point, FreeValues]
) -> tuple[dict[Point, FreeValues], tuple[Move, ...] | None]:
    """Return the points and, where the configuration asks for it, the polished one; and the moves to that."""
    if not looks.config.evaluate.polish:
        return dict(points), None
    found = polished(looks, points[OPTIMISED])
    logger.info(f"polished: {len(found.moves)} moves to what is better beyond its error")
    return {**points, POLISHED: found.parameters}, found.moves


def robustness_of(
    looks: ExactLooks,
    columns: Sequence[tuple[str, Path]],
    events: Judged,
    optimised: FreeValues,
    moves: tuple[Move, ...] | None,
) -> Robustness:
    """Return what is asked for about the robustness of the optimised point."""
    return Robustness(
        certificate=_certificate(looks, optimised, events) if looks.config.evaluate.certificate else None,
        moves=moves,
        refits=_refits(looks, columns, events) if looks.config.evaluate.refits else None,
    )


def _certificate(looks: ExactLooks, parameters: FreeValues, events: Judged) -> Certificate | None:
    held_out = events.works[events.last] if len(events.works) > 1 else None
    found = certificate(looks, parameters, held_out)
    if found is not None:
        where = f"{found.evaluations} points along {len(found.curves)} parameters"
        logger.info(f"certificate: {where}, better beyond the error along {len(found.better)}")
    return found


def _refits(looks: ExactLooks, columns: Sequence[tuple[str, Path]], events: Judged) -> Refits:
    """Return the refits; their work is that of an optimisation, without what further models vary."""
    train, unseen = prepare_work(looks.config, columns, datasets.TRAIN), events.works[events.last]
    own = events.judge if train.axes == unseen.axes else judge(looks.config, train.axes)
    saved = SavedRefits(Folder(looks.config.run).refits, fingerprint_of(looks.config, columns))
    return refits(looks.config, looks.executor, train, own, (events.last, unseen, events.judge), saved)
