"""Explain why the parameter of interest has no number: nothing determines it."""

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from pipeline.fit.fits import expected_information
from pipeline.fit.hypotest import poi_of
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
