"""The lowest minimum that can be seen: a fit, a look around along each shape parameter, and a fit from what is lower.

Template interpolation makes ``-2 ln L`` of a shape parameter a function with kinks, and far from the data, as in a test
of a hypothesis that is many sigma off, with several minima. An optimiser finds and uses such a wrong one: a fit that
stops there makes any hypothesis look excluded. What is seen from a minimum is no proof that there is no lower one.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pipeline.fit.newton import FitOptions, FitProblem, NewtonState, descend

OFFSETS = np.array([-3.0, -2.0, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0, 3.0])
"""Where to look along a shape parameter: its templates are those at -1, 0 and 1."""
RESTARTS = 5
LOWER = 1e-4  # in -ln L: a difference that is not of rounding, and of no meaning for a result


class _Search(eqx.Module):
    best: NewtonState
    start: Float[Array, " params"]
    found: Bool[Array, ""]
    fits: Int[Array, ""]


def minimise(problem: FitProblem, options: FitOptions) -> NewtonState:
    """The final state of the fit with the lowest ``-ln L``."""
    shapes = problem.model.layout.histosys_parameter
    if shapes.size == 0:
        return descend(problem, options)

    def search(seen: _Search) -> _Search:
        state = descend(eqx.tree_at(lambda p: p.init, problem, seen.start), options)
        better = (seen.fits == 0) | (state.point.nll < seen.best.point.nll)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state, seen.best)
        start, lowest = _lowest(problem, best.point.parameters, shapes)
        return _Search(best, start, lowest < best.point.nll - LOWER, seen.fits + 1)

    none = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), eqx.filter_eval_shape(descend, problem, options)
    )
    first = _Search(none, problem.init, jnp.ones((), dtype=bool), jnp.zeros((), dtype=jnp.int32))
    found: _Search = jax.lax.while_loop(lambda seen: seen.found & (seen.fits < RESTARTS), search, first)
    return found.best


def _lowest(
    problem: FitProblem, centre: Float[Array, " params"], shapes: Int[Array, " histosys"]
) -> tuple[Float[Array, " params"], Float[Array, ""]]:
    """The lowest point along any free shape parameter from a point, and ``-ln L`` there."""
    offsets = jnp.asarray(OFFSETS, dtype=centre.dtype)
    bounds = problem.model.bounds

    def at(parameter: Int[Array, ""], offset: Float[Array, ""]) -> tuple[Array, Array]:
        moved = centre.at[parameter].set(jnp.clip(offset, bounds[parameter, 0], bounds[parameter, 1]))
        point = jnp.where(problem.fixed, centre, moved)
        nll = problem.nll(point)
        return point, jnp.where(jnp.isfinite(nll), nll, jnp.inf)

    points, values = jax.vmap(lambda p: jax.vmap(lambda o: at(p, o))(offsets))(shapes)
    points, values = points.reshape(-1, centre.size), values.reshape(-1)
    lowest = jnp.argmin(values)
    return points[lowest], values[lowest]
