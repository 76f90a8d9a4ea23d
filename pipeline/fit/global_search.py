"""The lowest minimum that can be seen: a fit, a look around along each systematic, and a fit from what seems lower.

Interpolation makes ``-2 ln L`` of a nuisance parameter a function with kinks, and far from the data, as in a test
of a hypothesis that is many sigma off, with several minima. An optimiser finds and uses such a wrong one: a fit that
stops there makes any hypothesis look excluded. What is seen from a minimum is no proof that there is no lower one.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pipeline.fit.look import lowest_in_sight
from pipeline.fit.newton import FitOptions, FitProblem, NewtonState, descend

RESTARTS = 5
LOWER = 1e-4  # in -ln L: a difference that is not of rounding, and of no meaning for a result


class _Search(eqx.Module):
    best: NewtonState
    start: Float[Array, " params"]
    found: Bool[Array, ""]
    fits: Int[Array, ""]


def minimise(problem: FitProblem, options: FitOptions) -> NewtonState:
    """Return the final state of the fit with the lowest ``-ln L``."""
    layout = problem.model.layout
    if layout.shape_sample.size + layout.norm_sample.size == 0:
        return descend(problem, options)

    def search(seen: _Search) -> _Search:
        state = descend(eqx.tree_at(lambda p: p.init, problem, _from(problem, seen.start)), options)
        better = (seen.fits == 0) | (state.point.nll < seen.best.point.nll)
        best = jax.lax.cond(better, lambda: state, lambda: seen.best)
        start, lowest = lowest_in_sight(problem, best.point)
        return _Search(best, start, better & (lowest < best.point.nll - LOWER), seen.fits + 1)

    none = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), eqx.filter_eval_shape(descend, problem, options)
    )
    first = _Search(none, problem.init, jnp.ones((), dtype=bool), jnp.zeros((), dtype=jnp.int32))
    found: _Search = jax.lax.while_loop(lambda seen: seen.found & (seen.fits < RESTARTS), search, first)
    return found.best


def _from(problem: FitProblem, start: Float[Array, " params"]) -> Float[Array, " params"]:
    return jnp.where(problem.fixed, problem.init, start)
