"""What a reader has to know of a result before its number: parameters at bounds, no derivative, no improvement.

Each flag is a sentence that a physicist understands without this program's documentation.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from pipeline.analysis import Free, analysis_of
from pipeline.config import Config
from pipeline.data.names import INITIAL, OPTIMISED
from pipeline.data.progress import Moment, checks, kept
from pipeline.data.record import EpochRecord
from pipeline.data.written import Written
from pipeline.evaluate.change import change
from pipeline.evaluate.evaluation import EvaluatedPoint, Evaluation, Number
from pipeline.evaluate.robustness.certificate import Better, Certificate
from pipeline.evaluate.yields.thin import absent_samples, noisy_bins
from pipeline.optimise.convergence import unconverged
from pipeline.optimise.plateaus import FAR

SURE = 2.0  # errors: a smaller change is none
AT_BOUND = 1e-9  # of the allowed range

VANISHED = 1e-9  # of a parameter's largest derivative in the run: below, it is none
APART = 0.1  # relative, between two numbers of the same events: beyond, it is worth a word
STILL = 1e-6  # of the allowed range: a parameter that moved less did not move

FlagKind = Literal[
    "at_bound",
    "no_derivative",
    "vanished_gradient",
    "plateau",
    "not_converged",
    "start_kept",
    "no_exact_objective",
    "within_error",
    "not_better",
    "better_nearby",
    "pyhf_apart",
    "relaxed_apart",
    "noisy_bins",
    "absent_sample",
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
        *_of_kinds(evaluation),
        *_of_epochs(config, records),
        *_of_convergence(evaluation, records),
        *_of_parameters(config, evaluation, records),
        *_of_certificate(config, evaluation),
        *_of_bins(evaluation),
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
    where = f"on {_words(found.fold)} events"
    if found.is_better is False:
        return [
            _flag(
                "not_better",
                f"The optimisation has not improved the result {where}: {_shown(found.initial)} at the start, "
                f"{_shown(found.optimised)} at the end.",
            )
        ]
    if found.value is None or found.error is None or abs(found.value) >= SURE * found.error:
        return []
    size = f"{100 * found.value:+.1f} ± {100 * found.error:.1f} %"
    return [
        _flag(
            "within_error",
            f"No improvement is shown {where}: the change, {size}, is smaller than {SURE:g} of its statistical errors.",
        )
    ]


def _of_kinds(evaluation: Evaluation) -> list[Flag]:
    """Return where numbers that should be about the same are not, at the optimised parameters."""
    rows = [row for row in evaluation.rows if row.point == OPTIMISED]
    pyhf = [
        _differing("pyhf", row.pyhf, "our likelihood", row) for row in rows if is_apart(row.pyhf, row.exact)
    ]
    relaxed = [
        _differing("smooth cuts", row.relaxed, "hard cuts", row)
        for row in rows
        if is_apart(row.relaxed, row.exact)
    ]
    found = []
    if pyhf:
        found.append(
            _flag(
                "pyhf_apart",
                f"The final number differs from the one that was optimised: {'; '.join(pyhf)}. The likelihood is no "
                "parabola there, or a parameter of the fit meets a bound; the number of pyhf, from the "
                "profile likelihood, is the one to quote.",
            )
        )
    if relaxed:
        found.append(
            _flag(
                "relaxed_apart",
                f"The optimiser saw another number than the analysis has: {'; '.join(relaxed)}. Smaller final widths "
                "and bandwidths, or optimise.values: exact, bring the two together.",
            )
        )
    return found


def is_apart(one: Number, other: Number) -> bool:
    """Return whether two numbers differ by more than is usual; a number that is missing does not."""
    if one is None or other is None:
        return False
    return abs(one - other) > APART * max(abs(one), abs(other))


def _differing(one: str, value: Number, other: str, row: EvaluatedPoint) -> str:
    return f"{_shown(value)} by {one} and {_shown(row.exact)} by {other} on {_words(row.fold)} events"


def _of_epochs(config: Config, records: Sequence[EpochRecord]) -> list[Flag]:
    if config.optimise.check_every is None:
        return []
    if not checks(records):
        why = (
            "No epoch that was checked has a number with hard cuts on training events (its fit failed), so the result "
            "is simply the last epoch."
        )
        return [_flag("no_exact_objective", why)]
    if kept(records)[:2] != (0, 0):
        return []
    why = "No epoch that was checked is better than the start, with hard cuts on training events: that is the result."
    return [_flag("start_kept", why)]


def _of_convergence(evaluation: Evaluation, records: Sequence[EpochRecord]) -> list[Flag]:
    why = unconverged(evaluation.objective, records)
    return [] if why is None else [_flag("not_converged", why)]


def _of_parameters(config: Config, evaluation: Evaluation, records: Sequence[EpochRecord]) -> list[Flag]:
    found = []
    free, moment = analysis_of(config).parameters, kept(records)
    own = [record for record in records if record.start == moment.start]
    initial, optimised = (evaluation.points[point].parameters for point in (INITIAL, OPTIMISED))
    for name, value in optimised.items():
        if all(record.gradient.get(name) == 0.0 for record in own):
            where = f"where start {moment.start} began" if moment.start else "at its start value"
            text = (
                f"{name} stayed {where}: its derivative is 0 at every epoch, so the objective does not depend on it, "
                "or no event is near it; start it elsewhere or with a larger width."
            )
            found.append(_flag("no_derivative", text, name))
        elif name in free and value != initial[name]:
            found += _at_bound(name, value, free[name])
        if why := _vanished(name, own, moment, free.get(name)):
            found.append(_flag("vanished_gradient", why, name))
    return [*found, *_of_plateaus(evaluation)]


def _at_bound(name: str, value: float, free: Free) -> list[Flag]:
    room, unit = AT_BOUND * (free.bounds[1] - free.bounds[0]), free.unit and f" {free.unit}"
    advice = "a better value may lie beyond, or the cut buys nothing: widen its range, or leave the cut out."
    text = f"{name} ended at its {{}} bound, {{:g}}{unit}: {advice}"
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
            f"The gradient of {name} vanished: up to {largest:.3g} during the run, it is {here:.3g} at the result, "
            "where no event is near it, so it could not move on; look at what it is worth elsewhere (thalweg scan), or "
            "start with larger widths."
        )
    path = [record.parameters[name] for record in own]
    allowed = free.bounds if free else None
    span = allowed[1] - allowed[0] if allowed else 1.0
    if len(path) > 1 and max(path) - min(path) <= STILL * span and path[0] not in (allowed or ()):
        return (
            f"{name} did not move: its derivative, {largest:.3g} at most, and the steps were too small to move it by "
            f"{STILL:g} of its range."
        )
    return None


def _of_plateaus(evaluation: Evaluation) -> list[Flag]:
    return [
        _flag(
            "plateau",
            f"{own.parameter} ended on a plateau: no training event that counts is within {FAR:g} widths "
            f"({FAR * own.width:.3g}) of {own.value:.6g}, so nothing pulls it to either side; start it elsewhere "
            "or with a larger width.",
            own.parameter,
        )
        for own in evaluation.plateaus
    ]


def _of_certificate(config: Config, evaluation: Evaluation) -> list[Flag]:
    certificate, free = evaluation.robustness.certificate, analysis_of(config).parameters
    return [] if certificate is None else [_nearby(certificate, found, free) for found in certificate.better]


def _of_bins(evaluation: Evaluation) -> list[Flag]:
    row = evaluation.at(OPTIMISED, evaluation.last_fold)
    where = f"on {_words(row.fold)} events"
    found = [
        _flag(
            "absent_sample",
            f"Sample {name} has no event in any channel {where}: the fit is as if it did not exist, and so is its "
            "uncertainty; loosen the selection, or give it more simulated events.",
        )
        for name in absent_samples(row.templates)
    ]
    for channel, bins, worst in noisy_bins(row.templates):
        rest = "bins {} (counted from 0) rest" if len(bins) > 1 else "bin {} (counted from 0) rests"
        text = (
            f"Channel {channel}: {rest.format(', '.join(map(str, bins)))} on few simulated events, with a statistical "
            f"error of up to {100 * worst:.0f} % {where}: use fewer or wider bins, more events, or the penalty "
            "mc_statistics."
        )
        found.append(_flag("noisy_bins", text))
    return found


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
    better = f"{value:.5g}{unit} in place of {here:.5g}{unit} is better beyond the statistical error"
    text = f"A better value of {name} lies near the result: {better}, with hard cuts {', '.join(shown)}."
    return _flag("better_nearby", text, name)


def _shown(number: Number) -> str:
    return "none" if number is None else f"{number:.5g}"


def _words(fold: str) -> str:
    return fold.replace("_", "-").replace("train", "training")


def _flag(kind: FlagKind, text: str, parameter: str | None = None) -> Flag:
    return Flag(kind=kind, parameter=parameter, text=text)
