"""Explain why the parameter of interest has no number: nothing determines it, or its bounds cut the answer off."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtri
from jaxtyping import Array, Float

from pipeline.fit.fits import expected_information
from pipeline.fit.hypotest import poi_of, q_asimov, root
from pipeline.likelihood import AnyTemplates, DenseTemplates, HistFactory

SINGULAR = 1e-10  # relative eigenvalue of the information: what rounding leaves of none
SHARE = 1e-3  # of a direction, by which a parameter counts as part of it
MOST_NAMES = 4  # in a message


def undetermined(model: HistFactory, templates: AnyTemplates | None = None) -> str | None:
    """Return why no data can determine the POI, as a sentence, or None."""
    poi = poi_of(model, "parameter of interest")
    name, dense = model.parameter_names[poi], model.dense(templates)
    slope, information = (np.asarray(found) for found in _at_nominal(model, dense))
    if not slope.any():
        return (
            f"no bin depends on the parameter of interest {name!r}: the samples that it scales have no events in any "
            "channel of the fit"
        )
    free = ~np.asarray(model.fixed_parameters(dense))
    if not free[poi]:
        return f"the parameter of interest {name!r} is fixed by the measurement; let it float"
    partners = _partners(information[np.ix_(free, free)], int(np.sum(free[:poi])))
    if not partners:
        return None
    names = [n for n, is_free in zip(model.parameter_names, free, strict=True) if is_free]
    others = ", ".join(repr(names[place]) for place in partners[:MOST_NAMES])
    return (
        f"nothing determines the parameter of interest {name!r}: {others} can make up for any change of it; give what "
        "they scale different shapes, or constrain them"
    )


def _partners(information: Float[np.ndarray, "free free"], poi: int) -> list[int]:
    """Return other parameters of a direction without information that the POI is part of, the largest first."""
    width = np.sqrt(np.diagonal(information))
    if not np.isfinite(information).all() or not width[poi] > 0:
        return []
    scale = np.where(width > 0, width, 1.0)
    values, directions = np.linalg.eigh(information / np.outer(scale, scale))
    empty = directions[:, values < SINGULAR * values.max()]
    share = np.linalg.norm(empty[:, np.abs(empty[poi]) > SHARE], axis=1)
    return [int(place) for place in np.argsort(-share) if share[place] > SHARE and place != poi]


@eqx.filter_jit
def _at_nominal(
    model: HistFactory, dense: DenseTemplates
) -> tuple[Float[Array, " data"], Float[Array, "params params"]]:
    """Return how the bins change by one unit of the POI, and the expected information."""
    moved = model.initial.at[model.poi_index].add(1.0)
    slope = model.expected_data(moved, dense, False) - model.expected_data(model.initial, dense, False)
    return slope, expected_information(model, model.initial, dense)


def beyond_bounds(
    model: HistFactory, templates: AnyTemplates | None, kind: str, options: Mapping[str, Any]
) -> str | None:
    """Return why an uncertainty or a limit is not within the bounds of the POI, as a sentence, or None."""
    poi = poi_of(model, "parameter of interest")
    name, dense = model.parameter_names[poi], model.dense(templates)
    low, high = (float(bound) for bound in model.bounds[poi])
    nominal = float(model.initial[poi])
    where = f"the parameter of interest {name!r}, nominally {nominal:g}, has bounds [{low:g}, {high:g}]"
    cure = f"widen `bounds` of {name!r} in model.normfactors"
    if kind in ("poi_uncertainty", "generalised_variance") and nominal in (low, high):
        return f"{where}: at a bound the Hessian says nothing; {cure}"
    if kind == "profile_interval" and nominal in (low, high):
        return f"{where}: at a bound there is no room to look for an end of the interval; {cure}"
    if kind == "upper_limit":
        band = float(options.get("band", 0))
        level = float(options.get("level", 0.05))
        wanted = float(band - ndtri(level * jnp.exp(log_ndtr(band))))
        if not _root_of_q(model, dense, 0.0, high) >= wanted:
            return f"{where}, and its upper limit at CLs = {level:g} is above {high:g}; {cure}"
    return None


def _root_of_q(model: HistFactory, dense: DenseTemplates, truth: float, tested: float) -> float:
    return float(root(_q(model, dense, jnp.asarray(truth), jnp.asarray(tested))))


@eqx.filter_jit
def _q(
    model: HistFactory, dense: DenseTemplates, truth: Float[Array, ""], tested: Float[Array, ""]
) -> Float[Array, ""]:
    return q_asimov(model, model.initial.at[poi_of(model, "q")].set(truth), tested, dense)[0]
