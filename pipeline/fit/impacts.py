"""What the nuisance parameters do: how much the data constrain each, and what each does to the POI.

By the project's own fit, whose Hessian is exact; ``tests/test_nuisance.py`` compares it with cabinetry.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pipeline.data.written import Written
from pipeline.errors import FitError
from pipeline.fit.fits import FitResult, FitStatus, covariance, fit
from pipeline.fit.hypotest import poi_of
from pipeline.fit.interval import NO_EVENTS, End, Interval, Rise, end_of
from pipeline.fit.poi import undetermined
from pipeline.likelihood import HistFactory
from pipeline.likelihood.workspace import Workspace


class Impact(Written):
    """One nuisance parameter: pull and constraint in its widths before the fit, and shifts of the POI.

    No shift where the likelihood has no value: a bin would expect fewer than no events there.
    """

    label: str
    pull: float
    constraint: float
    up: float | None
    down: float | None

    @property
    def size(self) -> float:
        """The larger shift of the two."""
        return max((abs(shift) for shift in (self.up, self.down) if shift is not None), default=0.0)


def impacts(spec: Workspace, widths_before: Mapping[str, float]) -> list[Impact]:
    """Return the impact of each nuisance parameter on the fit of a workspace to its own data, the largest first.

    The shifts are those of the POI when the parameter is fixed one standard deviation after the fit up or down
    and everything else is fitted again.

    Args:
        widths_before: standard deviation before the fit of each parameter to look at, by name; the per-bin
            statistical ones are many, and each alone is small.

    Raises:
        FitError: a fit did not converge.
    """
    model, data, best, sigma = _fitted(spec)
    return impacts_of(model, data, best, sigma, widths_before, poi_of(model, "impacts"))


def impacts_of(
    model: HistFactory,
    data: Float[Array, " data"],
    best: FitResult,
    sigma: Float[Array, " params"],
    widths_before: Mapping[str, float],
    place: int,
) -> list[Impact]:
    """Return the impacts on the parameter at a place, see ``impacts``, around a fit."""
    found = []
    for name, width in widths_before.items():
        index = model.parameter_names.index(name)
        up, down = (_shift(model, data, best, index, sign * sigma[index], place) for sign in (+1, -1))
        pull = float((best.parameters[index] - model.initial[index]) / width)
        constraint = float(sigma[index] / width)
        found.append(Impact(label=name, pull=pull, constraint=constraint, up=up, down=down))
    return sorted(found, key=lambda impact: -impact.size)


def best_fit(spec: Workspace) -> tuple[list[float], list[float], float]:
    """Return parameters of the fit of a workspace to its own data, their standard deviations, and -2 ln L there.

    Raises:
        FitError: the fit did not converge.
    """
    _, _, best, sigma = _fitted(spec)
    return best.parameters.tolist(), sigma.tolist(), float(best.twice_nll)


class Profile:
    """-2 ln L of a workspace's own data against the POI, everything else fitted, by the project's likelihood.

    Raises:
        FitError: the fit did not converge.
    """

    def __init__(self, spec: Workspace) -> None:
        self._model, self._data, self._best, self._sigma = _fitted(spec)
        self.poi = poi_of(self._model, "profile")
        self.truth = float(self._best.parameters[self.poi])
        self.lowest = float(self._best.twice_nll)

    @property
    def guess(self) -> float:
        """Roughly how far an end of the interval is from the best fit."""
        sigma = float(self._sigma[self.poi])
        return sigma if 0 < sigma < math.inf else max(abs(self.truth), 1.0)

    def twice_nll(self, poi: float) -> float | None:
        """Return the profile at a value of the POI, also beyond its bounds; None where there is no likelihood.

        Raises:
            FitError: the fit did not converge.
        """
        found = self._at(poi, self._best.parameters)
        return None if found is None else float(found.twice_nll)

    def interval(self) -> Interval:
        """Return where -2 ln L has risen by 1, on both sides and whatever the bounds of the POI.

        Raises:
            FitError: a fit did not converge, or nothing determines the POI.
        """
        return Interval(*(self._end(sign) for sign in (-1.0, 1.0)))

    def _end(self, sign: float) -> End:
        found = end_of(self._rise(sign), self.guess)
        if found is None:
            name = self._model.parameter_names[self.poi]
            raise FitError(
                undetermined(self._model)
                or f"-2 ln L does not rise by 1 {'below' if sign < 0 else 'above'} {name} = {self.truth:.6g}"
            )
        return found

    def _rise(self, sign: float) -> Rise:
        """Return the rise on one side; each fit starts where the one before it ended."""
        latest = self._best.parameters

        def rise(distance: float) -> float | None:
            nonlocal latest
            found = self._at(self.truth + sign * distance, latest)
            if found is None:
                return None
            latest = found.parameters
            return float(found.twice_nll) - self.lowest

        return rise

    def _at(self, poi: float, start: Float[Array, " params"]) -> FitResult | None:
        return held_fit(self._model, self._data, {self.poi: poi}, start)


def held_fit(
    model: HistFactory, data: Float[Array, " data"], held: Mapping[int, float], start: Float[Array, " params"]
) -> FitResult | None:
    """Return the fit with parameters held, by their places, also beyond their bounds.

    None where there is no likelihood, as where a bin would expect fewer than no events.

    Raises:
        FitError: the fit did not converge.
    """
    places = np.asarray([*held])
    begin = start.at[places].set(jnp.asarray([*held.values()], dtype=start.dtype))
    found = _fit(model, data, begin, model.fixed.at[places].set(True))
    if int(found.status) == FitStatus.NOT_FINITE:
        return None
    rates = np.asarray(_rates(model, _converged(model, found).parameters))
    return found if rates.min() >= NO_EVENTS * np.abs(rates).max() else None


def widths_before(model: Any, prefit_uncertainties: Iterable[float]) -> dict[str, float]:
    """Return standard deviations before the fit of a pyhf model's constrained parameters but those of single bins."""
    names = model.config.par_names
    per_bin = {
        name
        for parameter in model.config.par_order
        if not model.config.param_set(parameter).is_scalar
        for name in names[model.config.par_slice(parameter)]
    }
    chosen = zip(names, prefit_uncertainties, strict=True)
    return {name: float(width) for name, width in chosen if width > 0 and name not in per_bin}


def _fitted(
    spec: Workspace,
) -> tuple[HistFactory, Float[Array, " data"], FitResult, Float[Array, " params"]]:
    """Return the model and data of a workspace, the best fit, and the standard deviations there."""
    model = HistFactory.from_workspace(spec)
    return model, *fit_to_observations(model)


def fit_to_observations(
    model: HistFactory,
) -> tuple[Float[Array, " data"], FitResult, Float[Array, " params"]]:
    """Return the observations of a model, the best fit, and the standard deviations there.

    Raises:
        FitError: the fit did not converge, or nothing determines the POI.
    """
    data = model.data()
    best = _fit(model, data, model.initial, model.fixed)
    poi = model.poi_index
    if poi is not None and not bool(best.converged & ~best.flat[poi]) and (reason := undetermined(model)):
        raise FitError(reason)
    _converged(model, best)
    return data, best, jnp.sqrt(jnp.diagonal(_covariance(model, best.parameters, data)))


@eqx.filter_jit
def _fit(
    model: HistFactory,
    data: Float[Array, " data"],
    start: Float[Array, " params"],
    fixed: Bool[Array, " params"],
) -> FitResult:
    return fit(model, data, init=start, fixed=fixed)


@eqx.filter_jit
def _rates(model: HistFactory, parameters: Float[Array, " params"]) -> Float[Array, " bins"]:
    return model.expected_data(parameters, include_auxdata=False)


@eqx.filter_jit
def _covariance(
    model: HistFactory, parameters: Float[Array, " params"], data: Float[Array, " data"]
) -> Float[Array, "params params"]:
    return covariance(model, parameters, data)


def pair_covariance(
    model: HistFactory,
    parameters: Float[Array, " params"],
    data: Float[Array, " data"],
    places: Int[np.ndarray, " chosen"],
) -> Float[np.ndarray, "chosen chosen"]:
    """Return the covariance of some parameters at a fitted point."""
    whole = np.asarray(_covariance(model, parameters, data))
    found: Float[np.ndarray, "chosen chosen"] = whole[np.ix_(places, places)]
    return found


def _shift(
    model: HistFactory,
    data: Float[Array, " data"],
    best: FitResult,
    index: int,
    by: Float[Array, ""],
    place: int,
) -> float | None:
    start = best.parameters.at[index].add(by)
    found = _fit(model, data, start, model.fixed.at[index].set(True))
    if int(found.status) == FitStatus.NOT_FINITE:
        return None
    moved = _converged(model, found)
    return float(np.asarray(moved.parameters - best.parameters)[place])


def _converged(model: HistFactory, result: FitResult) -> FitResult:
    if not bool(result.converged):
        raise FitError(f"profile of the likelihood: {result.describe(model.parameter_names)}")
    return result
