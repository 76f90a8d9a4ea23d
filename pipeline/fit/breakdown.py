"""What an uncertainty is made of: the part of every systematic and group, by the data's shares and traditionally.

By the shares (``pipeline.fit.shares``) the parts add up in quadrature to the total. The traditional impacts beside them
need not: a group's is what is gone, in quadrature, when its parameters are fixed at their best fit, a systematic's the
shift of the parameter of interest when it is fixed one standard deviation after the fit away and all else is fitted
again. Both as in arXiv:2307.04007, sections 2 and 3.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pipeline.data.written import Written
from pipeline.errors import FitError
from pipeline.fit.fits import FitResult
from pipeline.fit.impacts import Impact, fit_to_observations, impacts_of
from pipeline.fit.shares import (
    are_among,
    combination,
    is_of_bins,
    is_of_parameters,
    squared_impacts,
    without_bin,
)
from pipeline.likelihood import HistFactory, cells_at, hessian_of, slopes_of


class GroupPart(Written):
    """A group, its parameters, and its two impacts; none by its data where no auxiliary measurement constrains it."""

    parameters: tuple[str, ...]
    impact: float | None
    traditional: float


class SystematicPart(Written):
    """A systematic: shift of the fitted parameter for its auxiliary measurement one standard deviation up; refits."""

    impact: float
    up: float | None
    down: float | None


class Breakdown(Written):
    """The total uncertainty and its parts, groups and systematics each with the largest first, that of the data before.

    Groups overlap nowhere, so the squares of their impacts are the square of the total.
    """

    total: float
    groups: dict[str, GroupPart]
    systematics: dict[str, SystematicPart]

    def without(self, names: Collection[str]) -> "Breakdown":
        """Return the same without parameters that do nothing, and groups of these alone."""
        if not names:
            return self
        left = {
            group: part.changed(parameters=tuple(own for own in part.parameters if own not in names))
            for group, part in self.groups.items()
        }
        groups = {
            name: part for name, part in left.items() if part.parameters or not self.groups[name].parameters
        }
        systematics = {name: part for name, part in self.systematics.items() if name not in names}
        return self.changed(groups=groups, systematics=systematics)


def breakdown(
    model: HistFactory,
    groups: Mapping[str, Sequence[str]],
    *,
    parameter: str | None = None,
    known: Sequence[Impact] | None = None,
) -> Breakdown:
    """Return the breakdown of a parameter's uncertainty in the fit of a model to its observations.

    Exact where these are Asimov data; with others what yields that are not linear add is in no part.

    Args:
        groups: names of parameters by group, in which one stands for all bins of a parameter of single bins; none for
            the group of the data themselves. Any other parameter with an auxiliary measurement, such as one of channels
            that joined, is a group of its own.
        parameter: whose uncertainty it is; absent: the POI.
        known: impacts on the POI that are known already; absent: they are computed.

    Raises:
        FitError: the fit did not converge.
    """
    groups = {**groups, **_others(model, groups)}
    data, best, sigma = fit_to_observations(model)
    vector = combination(model, {} if parameter is None else {parameter: 1.0}, "breakdown")
    place = int(np.argmax(vector))
    held = jnp.asarray([np.zeros(vector.size, dtype=bool), *(_held(model, own) for own in groups.values())])
    found = _linear(model, data, best, vector, held)
    squares, covariances, (variance, *others) = (np.asarray(own) for own in found)
    if not variance > 0:
        name = model.parameter_names[place]
        raise FitError(f"breakdown: the variance of {name!r} is {variance:.4g}: nothing determines it")
    parts = {
        name: GroupPart(
            parameters=tuple(own),
            impact=_impact(model, own, squares),
            traditional=math.sqrt(max(variance - other if own else other, 0.0)),
        )
        for (name, own), other in zip(groups.items(), others, strict=True)
    }
    if known is None or place != model.poi_index:
        known = impacts_of(model, data, best, sigma, _widths(model, place), place)
    return Breakdown(
        total=math.sqrt(variance),
        groups=dict(sorted(parts.items(), key=_largest_first)),
        systematics=_systematics(model, squares, covariances, known),
    )


def _others(model: HistFactory, groups: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return groups of the measured parameters that no group has, each of its own name."""
    terms, known = model.constraints, {name for own in groups.values() for name in own}
    measured = np.asarray(terms.parameter)[np.asarray(terms.is_on)]
    names = dict.fromkeys(without_bin(model.parameter_names[place]) for place in measured)
    others = [name for name in names if name not in known]
    return {name if name not in groups else f"{name} (alone)": (name,) for name in others}


def _impact(model: HistFactory, members: Sequence[str], squares: Float[np.ndarray, " data"]) -> float | None:
    """Return the impact of a group by its data, none for one that has none."""
    own = np.asarray(is_of_parameters(model, members) if members else is_of_bins(model))
    return math.sqrt(math.fsum(squares[own])) if own.any() else None


def _held(model: HistFactory, members: Sequence[str]) -> Bool[np.ndarray, " params"]:
    """Return what is fixed for a group's traditional impact; for that of the data all that is constrained."""
    if members:
        return are_among(model, members)
    held = np.zeros(model.initial.size, dtype=bool)
    held[np.asarray(model.constraints.parameter)[np.asarray(model.constraints.is_on)]] = True
    return held


def _largest_first(entry: tuple[str, GroupPart]) -> tuple[bool, float]:
    """Return the key by which groups are sorted, the data's first."""
    _, part = entry
    return bool(part.parameters), -max(part.impact or 0.0, part.traditional)


def _widths(model: HistFactory, place: int) -> dict[str, float]:
    """Return the widths before the fit of the parameters with a constraint term, but those of single bins."""
    terms, widths = model.constraints, np.asarray(model.dense().width)
    alone = np.asarray(terms.is_on & ~terms.is_poisson & ~terms.follows_width)
    fixed = np.asarray(model.fixed)
    return {
        model.parameter_names[index]: float(width)
        for index, width, is_alone in zip(terms.parameter.tolist(), widths, alone, strict=True)
        if is_alone and index != place and not fixed[index]
    }


def _systematics(
    model: HistFactory,
    squares: Float[np.ndarray, " data"],
    covariances: Float[np.ndarray, " params"],
    known: Sequence[Impact],
) -> dict[str, SystematicPart]:
    """Return the parts of single systematics."""
    found = {}
    for own in known:
        square = float(np.sum(squares[np.asarray(is_of_parameters(model, [own.label]))]))
        sign = math.copysign(1.0, covariances[model.parameter_names.index(own.label)])
        found[own.label] = SystematicPart(impact=sign * math.sqrt(square), up=own.up, down=own.down)
    return dict(sorted(found.items(), key=lambda entry: -abs(entry[1].impact)))


@eqx.filter_jit
def _linear(
    model: HistFactory,
    data: Float[Array, " data"],
    best: FitResult,
    vector: Float[Array, " params"],
    held: Bool[Array, "cases params"],
) -> tuple[Float[Array, " data"], Float[Array, " params"], Float[Array, " cases"]]:
    """Return squared impacts and covariances at a fit, and the variance with each set of parameters held.

    The first set is that of the impacts.
    """
    dense = model.dense()
    _, cells = cells_at(model, best.parameters, data, dense)
    slopes = slopes_of(model, best.parameters, cells, data, dense)
    free = ~(model.fixed | best.at_bounds | best.flat)

    def solution(own: Bool[Array, " params"]) -> Float[Array, " params"]:
        hessian = hessian_of(model, cells, slopes, dense, free & ~own)
        return hessian.solve(jnp.where(free & ~own, vector, 0.0))

    solutions = jax.lax.map(solution, held)
    squares = squared_impacts(model, dense, best.parameters, data, solutions[0])
    return squares, solutions[0], solutions @ vector
