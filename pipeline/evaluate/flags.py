"""What a reader has to know of a result before its number: parameters at bounds, no derivative, no improvement."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pipeline.analysis import Free, analysis_of
from pipeline.config import Config
from pipeline.data.names import INITIAL, OPTIMISED
from pipeline.data.progress import Moment, checks, kept
from pipeline.data.record import EpochRecord
from pipeline.data.written import Written
from pipeline.evaluate.change import change
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.robustness.certificate import Better, Certificate
from pipeline.optimise.plateaus import FAR

SURE = 2.0  # errors: a smaller change is none
AT_BOUND = 1e-9  # of the allowed range

VANISHED = 1e-9  # of a parameter's largest derivative in the run: below, it is none
STILL = 1e-6  # of the allowed range: a parameter that moved less did not move

FlagKind = Literal[
    "at_bound",
    "no_derivative",
    "vanished_gradient",
    "plateau",
    "start_kept",
    "no_exact_objective",
    "within_error",
    "not_better",
    "better_nearby",
]


class Flag(Written):
    """One thing to know, for programs and for readers; the parameter that it is about, if it is about one."""

    kind: FlagKind
    parameter: str | None
    text: str


def flags(config: Config, evaluation: Evaluation, records: Sequence[EpochRecord]) -> tuple[Flag, ...]:
    """Return the flags of a run."""
    return (
        *_of_change(evaluation),
        *_of_epochs(config, records),
        *_of_parameters(config, evaluation, records),
        *_of_certificate(config, evaluation),
    )


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


def _of_epochs(config: Config, records: Sequence[EpochRecord]) -> list[Flag]:
    if config.optimise.check_every is None:
        return []
    if not checks(records):
        why = "no check had an exact objective on training events, so the last epoch is kept"
        return [_flag("no_exact_objective", why)]
    if kept(records)[:2] != (0, 0):
        return []
    return [_flag("start_kept", "no epoch that was checked is better than the start, which is kept")]


def _of_parameters(config: Config, evaluation: Evaluation, records: Sequence[EpochRecord]) -> list[Flag]:
    found = []
    free, moment = analysis_of(config).parameters, kept(records)
    own = [record for record in records if record.start == moment.start]
    initial, optimised = (evaluation.points[point].parameters for point in (INITIAL, OPTIMISED))
    for name, value in optimised.items():
        if all(record.gradient.get(name) == 0.0 for record in own):
            where = f"where start {moment.start} began" if moment.start else "where it was"
            text = f"{name}: its derivative is 0 at every epoch, so it stayed {where}"
            found.append(_flag("no_derivative", text, name))
        elif name in free and value != initial[name]:
            found += _at_bound(name, value, free[name])
        if why := _vanished(name, own, moment, free.get(name)):
            found.append(_flag("vanished_gradient", why, name))
    return [*found, *_of_plateaus(evaluation)]


def _at_bound(name: str, value: float, free: Free) -> list[Flag]:
    room, unit = AT_BOUND * (free.bounds[1] - free.bounds[0]), free.unit and f" {free.unit}"
    text = f"{name} is at its {{}} bound, {{:g}}{unit}: perhaps a better value lies beyond"
    bounds = zip(("lower", "upper"), free.bounds, strict=True)
    return [
        _flag("at_bound", text.format(side, bound), name)
        for side, bound in bounds
        if abs(value - bound) <= room
    ]


def _vanished(name: str, own: Sequence[EpochRecord], moment: Moment, free: Free | None) -> str | None:
    """Return what is to be said where a derivative was there and is not any more, or never was large enough.

    Args:
        own: the records of the start that is kept.
        moment: the epoch that is kept; where that is the end, the last record stands for it.
    """
    slopes = [abs(record.gradient.get(name, 0.0)) for record in own]
    largest, here = max(slopes), slopes[min(moment.epoch, len(own) - 1)]
    if largest == 0:
        return None
    if here <= VANISHED * largest:
        return (
            f"{name}: its derivative, up to {largest:.3g} during the run, is {here:.3g} at the epoch that is kept: no "
            "event is near it there; look at what it is worth elsewhere (thalweg scan), or start with larger widths"
        )
    path = [record.parameters[name] for record in own]
    allowed = free.bounds if free else None
    span = allowed[1] - allowed[0] if allowed else 1.0
    if len(path) > 1 and max(path) - min(path) <= STILL * span and path[0] not in (allowed or ()):
        return (
            f"{name}: its derivative, {largest:.3g} at most, and the steps were too small to move it by {STILL:g} of "
            "its range"
        )
    return None


def _of_plateaus(evaluation: Evaluation) -> list[Flag]:
    return [
        _flag(
            "plateau",
            f"{own.parameter} is on a plateau: no training event that counts is within {FAR:g} widths "
            f"({FAR * own.width:.3g}) of {own.value:.6g}; start elsewhere or with a larger width",
            own.parameter,
        )
        for own in evaluation.plateaus
    ]


def _of_certificate(config: Config, evaluation: Evaluation) -> list[Flag]:
    certificate, free = evaluation.robustness.certificate, analysis_of(config).parameters
    return [] if certificate is None else [_nearby(certificate, found, free) for found in certificate.better]


def _nearby(certificate: Certificate, found: Better, free: Mapping[str, Free]) -> Flag:
    """Return the flag of a point that is better along one parameter."""
    name, value = found.parameter, found.scanned.value
    unit = free[name].unit and f" {free[name].unit}"
    numbers = [("training", certificate.objective, found.scanned.objective)]
    numbers += (
        [("held-out", certificate.held_out, found.held_out)] if certificate.held_out is not None else []
    )
    shown = (f"{a:.5g} → {'none' if b is None else f'{b:.5g}'} on {fold} events" for fold, a, b in numbers)
    here = next(curve.centre for curve in certificate.curves if curve.parameter == name)
    better = f"{value:.5g}{unit} is better than {here:.5g}{unit} beyond its error"
    return _flag("better_nearby", f"{name}: {better}, exact cuts: {', '.join(shown)}", name)


def _words(fold: str) -> str:
    return fold.replace("_", "-").replace("train", "training")


def _flag(kind: FlagKind, text: str, parameter: str | None = None) -> Flag:
    return Flag(kind=kind, parameter=parameter, text=text)
