"""pyhf's fit with the POI held, from several starts: its minimisers stay in the valley that they start in."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyhf

from pipeline.errors import FitError
from pipeline.evaluate.by_pyhf.state import PyhfData, minuit, pyhf_with
from pipeline.fit.interval import NO_EVENTS

OFFSETS = tuple(n / 4 for n in range(-12, 13))  # of a shape parameter, where a fit may start
RESTARTS = 5  # from a lower point seen along a shape parameter
LOWER = 1e-4  # in -2 ln L: of no meaning for a result


class ConditionalMinimum(NamedTuple):
    """The lowest -2 ln L found, its parameters, and whether every bin has a rate there that is possible."""

    twice_nll: float
    parameters: list[float]
    is_physical: bool


def held_fit(
    model: pyhf.Model, data: PyhfData, poi: float, starts: Sequence[Sequence[float]] = ()
) -> ConditionalMinimum | None:
    """Return the best of pyhf's fits with the POI held, from several starts.

    ``fixed_poi_fit`` begins at each of ``starts`` (none: at the nominal parameters), and at what is lower
    along shape parameters. None where the likelihood has no value at any of the starts. The POI may be beyond
    its bounds.

    Raises:
        FitError: no fit ended, from none of the starts.
    """
    given = [list(start) for start in starts] or [model.config.suggested_init()]
    for start in given:
        start[model.config.poi_index] = poi
    with pyhf_with(pyhf.optimize.scipy_optimizer()):
        given += _lowest_along(model, data, given[0])
        there = [start for start in given if math.isfinite(twice_nll(model, data, start))]
        if not there:
            return None
        found = [fit for start in there if (fit := _fitted(model, data, poi, start)) is not None]
        if not found:
            name = model.config.poi_name
            raise FitError(f"pyhf's fit at {name} = {poi:.6g} failed from each of {len(there)} starts")
        return _looked_around(model, data, poi, min(found, key=_order))


def twice_nll(model: pyhf.Model, data: PyhfData, parameters: Sequence[float]) -> float:
    """Return -2 ln L by pyhf; infinite where it has no value."""
    found = float(-2 * model.logpdf(parameters, data)[0])
    return found if math.isfinite(found) else math.inf


def _order(found: ConditionalMinimum) -> tuple[bool, float]:
    """Return what orders minima: physical ones first, as a likelihood with fewer than no events means nothing."""
    return not found.is_physical, found.twice_nll


def _fitted(model: pyhf.Model, data: PyhfData, poi: float, start: list[float]) -> ConditionalMinimum | None:
    """Return the fit from one start by SciPy, or by iminuit where SciPy fails; itself where nothing is left to fit."""
    fixed = list(model.config.suggested_fixed())
    fixed[model.config.poi_index] = True
    if all(fixed):
        return _held(model, data, start)
    bounds = list(model.config.suggested_bounds())
    bounds[model.config.poi_index] = (poi - 1.0, poi + 1.0)  # pyhf wants a held parameter within bounds too
    start = np.clip(start, *np.transpose(bounds)).tolist()
    for optimizer in (pyhf.optimize.scipy_optimizer(), minuit()):
        with pyhf_with(optimizer):
            try:
                fitted = pyhf.infer.mle.fixed_poi_fit(poi, data, model, start, bounds)
            except pyhf.exceptions.FailedMinimization:
                continue
            found = _held(model, data, [float(value) for value in fitted])
            if math.isfinite(found.twice_nll):
                return found
    return None


def _held(model: pyhf.Model, data: PyhfData, parameters: list[float]) -> ConditionalMinimum:
    return ConditionalMinimum(twice_nll(model, data, parameters), parameters, is_physical(model, parameters))


def is_physical(model: pyhf.Model, parameters: Sequence[float]) -> bool:
    """Return whether no bin expects fewer than no events: in a bin without data that would even be rewarded."""
    rates = np.asarray(model.expected_data(list(parameters), include_auxdata=False))
    return bool(rates.min() >= NO_EVENTS * abs(rates).max())


def _looked_around(
    model: pyhf.Model, data: PyhfData, poi: float, found: ConditionalMinimum
) -> ConditionalMinimum:
    """Return the fit, or one from a point that is lower along a shape parameter."""
    for _ in range(RESTARTS):
        lower = _lowest_along(model, data, found.parameters)
        if not lower or twice_nll(model, data, lower[0]) > found.twice_nll - LOWER:
            break
        again = _fitted(model, data, poi, lower[0])
        if again is None or _order(again) >= _order(found):
            break
        found = again
    return found


def _lowest_along(model: pyhf.Model, data: PyhfData, centre: Sequence[float]) -> list[list[float]]:
    """Return a list of the lowest point along any free shape parameter; empty without one."""
    shapes = sorted({name for name, kind in model.config.modifiers if kind == "histosys"})
    places = [model.config.par_slice(name).start for name in shapes]
    free = [place for place in places if not model.config.suggested_fixed()[place]]
    bounds = model.config.suggested_bounds()
    along = [_moved(centre, place, float(np.clip(x, *bounds[place]))) for place in free for x in OFFSETS]
    return [min(along, key=lambda point: twice_nll(model, data, point))] if along else []


def _moved(parameters: Sequence[float], place: int, value: float) -> list[float]:
    moved = list(parameters)
    moved[place] = value
    return moved
