"""The lowest minimum that can be seen: a fit, a look around along each systematic, and a fit from what seems lower.

Interpolation makes ``-2 ln L`` of a nuisance parameter a function with kinks, and far from the data, as in a test
of a hypothesis that is many sigma off, with several minima. An optimiser finds and uses such a wrong one: a fit that
stops there makes any hypothesis look excluded. What is seen from a minimum is no proof that there is no lower one; a
small model is fitted from a few points elsewhere, too.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pipeline.fit.look import LOWER, PLACES, look_around, start_at
from pipeline.fit.newton import FitOptions, FitProblem, NewtonState, descend
from pipeline.fit.starting import TRIED, elsewhere

RESTARTS = 5  # from what a look shows
SMALL = 24  # parameters but for gammas: of so few a handful of points is a sample, and a fit costs next to nothing
ELSEWHERE = 4  # further starts of a small model, two standard deviations and the bounds of what is free apart


class _Search(eqx.Module):
    best: NewtonState
    start: Float[Array, " params"]
    tried: Bool[Array, "places kept"]
    found: Bool[Array, ""]
    looks: Int[Array, ""]
    others: Int[Array, ""]


def minimise(problem: FitProblem, options: FitOptions) -> NewtonState:
    """Return the final state of the fit with the lowest ``-ln L``."""
    layout = problem.model.layout
    if layout.shape_sample.size + layout.norm_sample.size == 0:
        return descend(problem, options)
    others = ELSEWHERE if problem.model.multiplying.kept.size <= SMALL else 0

    def search(seen: _Search) -> _Search:
        state = descend(eqx.tree_at(lambda p: p.init, problem, _from(problem, seen.start)), options)
        is_first = (seen.looks == 0) & (seen.others == 0)
        better = is_first | (state.point.nll < seen.best.point.nll - LOWER)
        best = jax.lax.cond(better, lambda: state, lambda: seen.best)
        view, response = look_around(problem, best.point)
        tried = seen.tried & ~better
        open_places = view.worth_a_fit & ~tried
        lowest = jnp.argmin(jnp.where(open_places, view.rises, jnp.inf))
        place, row = jnp.unravel_index(lowest, view.rises.shape)
        follows = jnp.any(open_places) & (seen.looks < RESTARTS - 1)
        seen_start = start_at(problem, best.point, response, place, row)
        here = best.point.parameters
        other = jnp.where(best.point.inert, here, elsewhere(problem.model, here, TRIED + seen.others))
        return _Search(
            best,
            jnp.where(follows, seen_start, other),
            tried.at[place, row].set(True),
            follows | (seen.others < others),
            seen.looks + follows.astype(jnp.int32),
            seen.others + (~follows).astype(jnp.int32),
        )

    none = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), eqx.filter_eval_shape(descend, problem, options)
    )
    untried = jnp.zeros((PLACES.size, problem.model.multiplying.kept.size), dtype=bool)
    zero = jnp.zeros((), dtype=jnp.int32)
    first = _Search(none, problem.init, untried, jnp.ones((), dtype=bool), zero, zero)
    found: _Search = jax.lax.while_loop(lambda seen: seen.found, search, first)
    return found.best


def _from(problem: FitProblem, start: Float[Array, " params"]) -> Float[Array, " params"]:
    return jnp.where(problem.fixed, problem.init, start)
