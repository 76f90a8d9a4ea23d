"""What the optimisation changed: the relative change of the final number, and its statistical uncertainty."""

from typing import Literal

import numpy as np

from pipeline.data.names import INITIAL, OPTIMISED, Fold
from pipeline.data.written import Written
from pipeline.evaluate.evaluation import Evaluation, Number


class Change(Written):
    """The final number before and after, and ``value``, after / before - 1, with its standard deviation ``error``.

    There is no change where the start has no number, or 0, and no error without a bootstrap of at least two samples.
    """

    by: Literal["exact", "pyhf"]
    fold: Fold
    initial: Number
    optimised: Number
    value: Number
    error: Number
    replicas: int
    failed_replicas: int
    is_better: bool | None

    def __str__(self) -> str:
        """Return both numbers and the change in words."""
        where = f"{'pyhf' if self.by == 'pyhf' else 'exact cuts'}, {self.fold.replace('_', '-')} events"
        if self.initial is None or self.optimised is None:
            return f"{where}: no number at the {'start' if self.initial is None else 'result'}"
        both = f"{where}: {self.initial:.4g} -> {self.optimised:.4g}"
        if self.value is None:
            return both
        error = "" if self.error is None else f" +- {100 * self.error:.1f}"
        return f"{both}, {100 * self.value:+.1f}{error} %"


def change(evaluation: Evaluation) -> Change:
    """Return the change on the held-out events, or on all where none are held out.

    By pyhf, or with exact cuts for an objective that is none of the fit.
    """
    fold = evaluation.last_fold
    before, after = (evaluation.at(point, fold) for point in (INITIAL, OPTIMISED))
    by: Literal["exact", "pyhf"] = "exact" if after.pyhf is None else "pyhf"
    initial, optimised = before.of(by), after.of(by)
    changes = _resampled(evaluation)
    return Change(
        by=by,
        fold=fold,
        initial=initial,
        optimised=optimised,
        value=optimised / initial - 1 if initial and optimised is not None else None,
        error=float(changes.std(ddof=1)) if len(changes) > 1 else None,
        replicas=len(changes),
        failed_replicas=_replicas(evaluation) - len(changes),
        is_better=_is_better(evaluation, initial, optimised),
    )


def _is_better(evaluation: Evaluation, initial: Number, optimised: Number) -> bool | None:
    if initial is None or optimised is None:
        return None
    return evaluation.objective.is_better(optimised, initial)


def _replicas(evaluation: Evaluation) -> int:
    made = evaluation.bootstrap
    return 0 if made is None else made.failed + len(made.values[INITIAL])


def _resampled(evaluation: Evaluation) -> np.ndarray:
    """Return the change with exact cuts on each sample of the bootstrap in which the start has a number, and not 0."""
    if evaluation.bootstrap is None:
        return np.empty(0)
    before, after = (np.array(evaluation.bootstrap.values[point]) for point in (INITIAL, OPTIMISED))
    return np.asarray(after[before != 0] / before[before != 0] - 1)
