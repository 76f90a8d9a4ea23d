"""What a reader has to know of a result before its number: parameters at bounds, no derivative, no improvement."""

from collections.abc import Sequence
from typing import Literal

from pipeline.analysis import analysis_of
from pipeline.config import Config
from pipeline.data.names import INITIAL, OPTIMISED
from pipeline.data.record import EpochRecord, kept_epoch
from pipeline.data.written import Written
from pipeline.evaluate.change import change
from pipeline.evaluate.evaluation import Evaluation

SURE = 2.0  # errors: a smaller change is none
AT_BOUND = 1e-9  # of the allowed range

FlagKind = Literal["at_bound", "no_derivative", "start_kept", "within_error", "not_better"]


class Flag(Written):
    """One thing to know, for programs and for readers; the parameter that it is about, if it is about one."""

    kind: FlagKind
    parameter: str | None
    text: str


def flags(config: Config, evaluation: Evaluation, records: Sequence[EpochRecord]) -> tuple[Flag, ...]:
    """Return the flags of a run."""
    return (*_of_change(evaluation), *_of_epochs(records), *_of_parameters(config, evaluation, records))


def flags_of_all(
    config: Config, evaluation: Evaluation, optimisations: Sequence[Sequence[EpochRecord]]
) -> tuple[Flag, ...]:
    """Return the flags of a run: what is true of every optimisation once, the others with the fold they are about."""
    if not evaluation.folds:
        return flags(config, evaluation, optimisations[0])
    found = [
        flags(config, evaluation.changed(points={**evaluation.points, OPTIMISED: own.optimised}), records)
        for own, records in zip(evaluation.folds, optimisations, strict=True)
    ]
    everywhere = tuple(flag for flag in found[0] if all(flag in own for own in found))
    return everywhere + tuple(
        flag.changed(text=f"fold {number}: {flag.text}")
        for number, own in enumerate(found, start=1)
        for flag in own
        if flag not in everywhere
    )


def _of_change(evaluation: Evaluation) -> list[Flag]:
    found = change(evaluation)
    if found.is_better is False:
        return [_flag("not_better", f"no improvement on {_words(found.fold)} events")]
    if found.value is None or found.error is None or abs(found.value) >= SURE * found.error:
        return []
    size = f"{100 * found.value:+.1f} ± {100 * found.error:.1f} %"
    return [
        _flag(
            "within_error", f"no improvement shown: {size} on {_words(found.fold)} events is within its error"
        )
    ]


def _of_epochs(records: Sequence[EpochRecord]) -> list[Flag]:
    if not any(record.check for record in records) or kept_epoch(records):
        return []
    return [_flag("start_kept", "no epoch that was checked is better than the start, which is kept")]


def _of_parameters(config: Config, evaluation: Evaluation, records: Sequence[EpochRecord]) -> list[Flag]:
    found = []
    free = analysis_of(config).parameters
    initial, optimised = (evaluation.points[point].parameters for point in (INITIAL, OPTIMISED))
    for name, value in optimised.items():
        if all(record.gradient.get(name) == 0.0 for record in records):
            text = f"{name}: its derivative is 0 at every epoch, so it stayed where it was"
            found.append(_flag("no_derivative", text, name))
        elif name in free and value != initial[name]:
            bounds, unit = free[name].bounds, free[name].unit and f" {free[name].unit}"
            room = AT_BOUND * (bounds[1] - bounds[0])
            for side, bound in zip(("lower", "upper"), bounds, strict=True):
                if abs(value - bound) <= room:
                    text = (
                        f"{name} is at its {side} bound, {bound:g}{unit}: perhaps a better value lies beyond"
                    )
                    found.append(_flag("at_bound", text, name))
    return found


def _words(fold: str) -> str:
    return fold.replace("_", "-").replace("train", "training")


def _flag(kind: FlagKind, text: str, parameter: str | None = None) -> Flag:
    return Flag(kind=kind, parameter=parameter, text=text)
