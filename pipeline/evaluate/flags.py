"""What a reader has to know of a result before its number: parameters at bounds, no derivative, no improvement."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pipeline.analysis import Free, analysis_of
from pipeline.config import Config
from pipeline.data.names import INITIAL, OPTIMISED
from pipeline.data.record import EpochRecord, kept_epoch
from pipeline.data.written import Written
from pipeline.evaluate.change import change
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.robustness.certificate import Better, Certificate

SURE = 2.0  # errors: a smaller change is none
AT_BOUND = 1e-9  # of the allowed range

FlagKind = Literal["at_bound", "no_derivative", "start_kept", "within_error", "not_better", "better_nearby"]


class Flag(Written):
    """One thing to know, for programs and for readers; the parameter that it is about, if it is about one."""

    kind: FlagKind
    parameter: str | None
    text: str


def flags(config: Config, evaluation: Evaluation, records: Sequence[EpochRecord]) -> tuple[Flag, ...]:
    """Return the flags of a run."""
    return (
        *_of_change(evaluation),
        *_of_epochs(records),
        *_of_parameters(config, evaluation, records),
        *_of_certificate(config, evaluation),
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
