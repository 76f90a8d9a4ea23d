"""What the nuisance parameters do: how much the data constrain each, and what each does to the POI.

By the project's own fit, whose Hessian is exact; `tests/test_nuisance.py` compares it with cabinetry.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pipeline.errors import FitError
from pipeline.fit import FitResult, FitStatus, covariance, fit
from pipeline.likelihood import HistFactory


class Impact(NamedTuple):
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


def impacts(spec: Mapping[str, Any], widths_before: Mapping[str, float]) -> list[Impact]:
    """Impact of each nuisance parameter on the fit of a workspace to its own data, the largest first.

    The shifts are those of the POI when the parameter is fixed one standard deviation after the fit up or down
    and everything else is fitted again.

    Arguments:
        widths_before: standard deviation before the fit of each parameter to look at, by name; the per-bin
            statistical ones are many, and each alone is small.

    Raises:
        FitError: a fit did not converge.
    """
    model, data, best, sigma = _fitted(spec)
    found = []
    for name, width in widths_before.items():
        index = model.parameter_names.index(name)
        shifts = [_shift(model, data, best, index, sign * sigma[index]) for sign in (+1, -1)]
        pull = (best.parameters[index] - model.initial[index]) / width
        found.append(Impact(name, float(pull), float(sigma[index] / width), *shifts))
    return sorted(found, key=lambda impact: -impact.size)


def best_fit(spec: Mapping[str, Any]) -> tuple[list[float], list[float], float]:
    """Parameters of the fit of a workspace to its own data, their standard deviations, and -2 ln L there.

    Raises:
        FitError: the fit did not converge.
    """
    _, _, best, sigma = _fitted(spec)
    return best.parameters.tolist(), sigma.tolist(), float(best.twice_nll)


def widths_before(model: Any, prefit_uncertainties: Iterable[float]) -> dict[str, float]:
    """Standard deviations before the fit of a pyhf model's constrained parameters but those of single bins."""
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
    spec: Mapping[str, Any],
) -> tuple[HistFactory, Float[Array, " data"], FitResult, Float[Array, " params"]]:
    """The model and data of a workspace, the best fit, and the standard deviations there."""
    model = HistFactory.from_workspace(spec)
    data = model.data()
    best = _converged(model, _fit(model, data, model.initial, model.fixed))
    return model, data, best, jnp.sqrt(jnp.diagonal(_covariance(model, best.parameters, data)))


@eqx.filter_jit
def _fit(
    model: HistFactory,
    data: Float[Array, " data"],
    start: Float[Array, " params"],
    fixed: Bool[Array, " params"],
) -> FitResult:
    return fit(model, data, init=start, fixed=fixed)


@eqx.filter_jit
def _covariance(
    model: HistFactory, parameters: Float[Array, " params"], data: Float[Array, " data"]
) -> Float[Array, "params params"]:
    return covariance(model, parameters, data)


def _shift(
    model: HistFactory, data: Float[Array, " data"], best: FitResult, index: int, by: Float[Array, ""]
) -> float | None:
    start = best.parameters.at[index].add(by)
    found = _fit(model, data, start, model.fixed.at[index].set(True))
    if int(found.status) == FitStatus.NOT_FINITE:
        return None
    moved = _converged(model, found)
    return float(np.asarray(moved.parameters - best.parameters)[model.poi_index])


def _converged(model: HistFactory, result: FitResult) -> FitResult:
    if not bool(result.converged):
        raise FitError(f"ranking of nuisance parameters: {result.describe(model.parameter_names)}")
    return result
