"""The POI's interval by pyhf: MINOS where it is valid, else pyhf's own profile; in agreement with our likelihood."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import iminuit
import numpy as np
import pyhf

from pipeline.errors import FitError
from pipeline.evaluate.by_pyhf.conditional import held_fit, is_physical, twice_nll
from pipeline.evaluate.by_pyhf.state import PyhfData, minuit, pyhf_with
from pipeline.fit.impacts import Profile
from pipeline.fit.interval import End, Interval, end_of

APART = 0.01  # relative to half of the interval
SAME = 1e-3  # in -2 ln L: half a thousandth of a standard deviation at an end
DOUBTS = ("at_{}_limit", "at_{}_max_fcn", "{}_new_min")  # flags of iminuit's MError, of each side


class Fitted(NamedTuple):
    """pyhf's free fit, by iminuit: values and uncertainties in the model's order, and iminuit's own object."""

    bestfit: np.ndarray
    uncertainty: np.ndarray
    correlation: np.ndarray
    twice_nll: float
    minuit: iminuit.Minuit
    poi_index: int

    @property
    def poi(self) -> float:
        """The fitted parameter of interest."""
        return float(self.bestfit[self.poi_index])

    @property
    def poi_uncertainty(self) -> float:
        """Its uncertainty by iminuit's Hessian."""
        return float(self.uncertainty[self.poi_index])


def valid_fit(
    model: pyhf.Model, data: PyhfData, strategies: Sequence[int], *, widen: bool = True
) -> Fitted | None:
    """Return pyhf's fit by the first of Minuit's strategies that calls its minimum valid; None where none does.

    Args:
        widen: first without bounds of the POI. At a bound or near it Minuit's derivatives are those of its own
            transformation, and its uncertainty is of nothing.
    """
    declared = [(float(low), float(high)) for low, high in model.config.suggested_bounds()]
    wide = list(declared)
    wide[model.config.poi_index] = _allowed(model, declared[model.config.poi_index])
    for bounds in (wide, declared) if widen else (declared,):
        for strategy in strategies:
            with pyhf_with(minuit(strategy=strategy)):
                if (found := _fit(model, data, bounds)) is not None:
                    return found
    return None


def _allowed(model: pyhf.Model, declared: tuple[float, float]) -> tuple[float, float]:
    """Return the bounds of the POI as wide as no bin expects fewer than no events, the nuisance parameters nominal."""
    start = np.asarray(model.config.suggested_init(), dtype=float)
    moved = start.copy()
    moved[model.config.poi_index] += 1.0
    rates, further = (
        np.asarray(model.expected_data(p.tolist(), include_auxdata=False)) for p in (start, moved)
    )
    slopes, nominal = further - rates, float(start[model.config.poi_index])
    rises, falls = slopes > 0, slopes < 0
    low = nominal - np.min(rates[rises] / slopes[rises], initial=math.inf)
    high = nominal + np.min(rates[falls] / -slopes[falls], initial=math.inf)
    return min(float(low), declared[0]), max(float(high), declared[1])


def _fit(model: pyhf.Model, data: PyhfData, bounds: list[tuple[float, float]]) -> Fitted | None:
    try:
        values, correlation, lowest, result = pyhf.infer.mle.fit(
            data,
            model,
            par_bounds=bounds,
            return_uncertainties=True,
            return_correlations=True,
            return_fitted_val=True,
            return_result_obj=True,
        )
    except (pyhf.exceptions.FailedMinimization, AttributeError):  # the latter: Minuit gave pyhf no covariance
        return None
    table, place = np.asarray(values, dtype=float), model.config.poi_index
    found = Fitted(
        table[:, 0], table[:, 1], np.asarray(correlation, dtype=float), float(lowest), result.minuit, place
    )
    return found if math.isfinite(found.twice_nll) and is_physical(model, table[:, 0].tolist()) else None


def poi_interval(model: pyhf.Model, data: PyhfData, fitted: Fitted, ours: Profile) -> Interval:
    """Return both ends of the POI's profile-likelihood interval by pyhf, which ``ours`` has to confirm.

    MINOS where iminuit calls both sides valid and met no limit, and our likelihood has the same ends; else both ends
    by pyhf's fits with the POI held, from several starts, beyond the POI's bounds where the model allows it.

    Raises:
        FitError: pyhf's interval is not that of our likelihood, or there is none.
    """
    exact = ours.interval()
    found = _minos(fitted)
    if found is None or _apart(found, exact) > APART:
        found = _profiled(model, data, fitted, exact)
    if math.isnan(found.half) or _apart(found, exact) > APART:
        raise FitError(_disagreement(model, data, ours, found, exact))
    return found


def _minos(fitted: Fitted) -> Interval | None:
    """Return MINOS where both of its sides are ends of the interval; None where iminuit has any doubt."""
    with pyhf_with(minuit()):
        try:
            fitted.minuit.minos(fitted.poi_index)
        except RuntimeError:  # no valid minimum to start from
            return None
    error = fitted.minuit.merrors[fitted.minuit.parameters[fitted.poi_index]]
    if not (error.is_valid and error.lower_valid and error.upper_valid):
        return None
    if any(getattr(error, flag.format(side)) for flag in DOUBTS for side in ("lower", "upper")):
        return None
    if not (-math.inf < error.lower < 0 < error.upper < math.inf):
        return None
    return Interval(End(-error.lower, "minos"), End(error.upper, "minos"))


def _profiled(model: pyhf.Model, data: PyhfData, fitted: Fitted, exact: Interval) -> Interval:
    """Return both ends by pyhf's fits with the POI held, first looked for where our likelihood has them."""
    best = min(fitted.twice_nll, twice_nll(model, data, model.config.suggested_init()))
    ends = []
    for sign, guess in ((-1.0, exact.down.distance), (1.0, exact.up.distance)):
        rise = _Rise(model, data, fitted, sign, best)
        end = end_of(rise, guess or exact.half)
        if end is None:
            raise FitError(
                f"pyhf's -2 ln L does not rise by 1 {'below' if sign < 0 else 'above'} {model.config.poi_name} = "
                f"{fitted.poi:.6g}: nothing determines it"
            )
        ends.append(end)
    return Interval(*ends)


class _Rise:
    """pyhf's -2 ln L on one side of the best fit, above that at it; a fit starts where the last one ended, and anew."""

    def __init__(self, model: pyhf.Model, data: PyhfData, fitted: Fitted, sign: float, best: float) -> None:
        self._model, self._data, self._sign, self._best = model, data, sign, best
        self._poi = fitted.poi
        self._latest = fitted.bestfit.tolist()

    def __call__(self, distance: float) -> float | None:
        nominal = self._model.config.suggested_init()
        poi = self._poi + self._sign * distance
        found = held_fit(self._model, self._data, poi, [self._latest, nominal])
        if found is None or not found.is_physical:
            return None
        self._latest = found.parameters
        return found.twice_nll - self._best


def _apart(one: Interval, other: Interval) -> float:
    """Return how far the ends of two intervals are apart, relative to half of the second."""
    if one.half != one.half or [end.method == "bound" for end in one] != [e.method == "bound" for e in other]:
        return math.inf
    return max(abs(a.distance - b.distance) for a, b in zip(one, other, strict=True)) / other.half


def _disagreement(model: pyhf.Model, data: PyhfData, ours: Profile, found: Interval, exact: Interval) -> str:
    """Return which of the two likelihoods' fits is not at the minimum where pyhf's interval ends."""
    name, half = model.config.poi_name, exact.half
    text = (
        f"the interval of {name} is {_shown(found)} by pyhf but {_shown(exact)} by our likelihood "
        f"({100 * APART:g} % of its half width is allowed)"
    )
    if math.isnan(found.half) and math.isnan(half):
        return (
            f"no side of the interval of {name} has an end: on both a bin would expect fewer than no events"
        )
    for end, sign in zip(found, (-1.0, 1.0), strict=True):
        poi = ours.truth + sign * end.distance
        theirs, here = held_fit(model, data, poi), ours.twice_nll(poi)
        if theirs is None or here is None or abs(theirs.twice_nll - here) <= SAME:
            continue
        worse = "pyhf" if theirs.twice_nll > here else "ours"
        return (
            f"{text}: at {name} = {poi:.6g} -2 ln L is {theirs.twice_nll:.6g} by pyhf's fit and {here:.6g} by ours, "
            f"so the fit of {worse} is not at the minimum"
        )
    return f"{text}, and their fits agree there: -2 ln L rises by 1 in several places"


def _shown(interval: Interval) -> str:
    down, up = interval.signed
    return f"{down:+.4g} {up:+.4g}"
