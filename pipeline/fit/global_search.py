"""The lowest minimum that can be seen: a fit, a look around along each systematic, and a fit from what is lower.

Interpolation makes ``-2 ln L`` of a nuisance parameter a function with kinks, and far from the data, as in a test
of a hypothesis that is many sigma off, with several minima. An optimiser finds and uses such a wrong one: a fit that
stops there makes any hypothesis look excluded. What is seen from a minimum is no proof that there is no lower one.

Along one parameter only its own samples change, so a look at all of them costs what a few gradients cost, and the
memory of a few templates.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pipeline.fit.newton import FitOptions, FitProblem, NewtonState, descend
from pipeline.likelihood.layout import Moves
from pipeline.likelihood.terms import poisson_logpdf

OFFSETS = np.array([-3.0, -2.0, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0, 3.0])
"""Where to look along a systematic: its templates are those at -1, 0 and 1."""
RESTARTS = 5
AT_ONCE = 16  # parameters looked along together: that much memory, and some vectorisation
LOWER = 1e-4  # in -ln L: a difference that is not of rounding, and of no meaning for a result


class _Search(eqx.Module):
    best: NewtonState
    start: Float[Array, " params"]
    found: Bool[Array, ""]
    fits: Int[Array, ""]


def minimise(problem: FitProblem, options: FitOptions) -> NewtonState:
    """The final state of the fit with the lowest ``-ln L``."""
    if problem.model.layout.moves.parameter.size == 0:
        return descend(problem, options)

    def search(seen: _Search) -> _Search:
        state = descend(eqx.tree_at(lambda p: p.init, problem, seen.start), options)
        better = (seen.fits == 0) | (state.point.nll < seen.best.point.nll)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state, seen.best)
        start, lowest = _lowest(problem, best.point.parameters)
        return _Search(best, start, lowest < best.point.nll - LOWER, seen.fits + 1)

    none = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), eqx.filter_eval_shape(descend, problem, options)
    )
    first = _Search(none, problem.init, jnp.ones((), dtype=bool), jnp.zeros((), dtype=jnp.int32))
    found: _Search = jax.lax.while_loop(lambda seen: seen.found & (seen.fits < RESTARTS), search, first)
    return found.best


def _lowest(
    problem: FitProblem, centre: Float[Array, " params"]
) -> tuple[Float[Array, " params"], Float[Array, ""]]:
    """The lowest point along any free systematic from a point, and ``-ln L`` there."""
    model, moves = problem.model, problem.model.layout.moves
    look = _Look.from_point(problem, centre)
    bounds = model.bounds[moves.parameter]
    every = jnp.broadcast_to(
        jnp.asarray(OFFSETS, dtype=centre.dtype)[:, None], (OFFSETS.size, bounds.shape[0])
    )
    offsets = jnp.clip(every, bounds[None, :, 0], bounds[None, :, 1])
    held = problem.fixed[moves.parameter]
    rise = jax.lax.map(lambda at: jnp.where(held, jnp.inf, look.rise(at)), offsets)
    offset, row = jnp.unravel_index(jnp.argmin(jnp.where(jnp.isfinite(rise), rise, jnp.inf)), rise.shape)
    place = moves.parameter[row]
    point = centre.at[place].set(jnp.where(problem.fixed[place], centre[place], offsets[offset, row]))
    nll = problem.nll(point)
    return point, jnp.where(jnp.isfinite(nll), nll, jnp.inf)


class _Look(eqx.Module):
    """What is needed to see ``-ln L`` with one parameter moved, the others where they are."""

    problem: FitProblem
    centre: Float[Array, " params"]
    rates: Float[Array, " bins"]
    product: Float[Array, "samples_and_none bins"]
    content: Float[Array, "samples_and_none bins"]
    factors: Float[Array, "norms channels"]
    shifts: Float[Array, "shapes_and_none bins"]
    terms: Float[Array, " auxdata"]

    @classmethod
    def from_point(cls, problem: FitProblem, centre: Float[Array, " params"]) -> "_Look":
        """At a point; what the samples and rows that are filled up hold is 0."""
        model, dense, layout = problem.model, problem.dense, problem.model.layout
        factors = model.factors(centre[layout.norm_parameter], dense)
        shifts = model.shifts(centre[layout.shape_parameter], dense)
        product = model.product(factors)[:, layout.channel] * jnp.prod(model.multipliers(centre), axis=0)
        content = dense.nominal + model.sum(shifts)
        none = jnp.zeros((1, content.shape[1]), dtype=content.dtype)
        return cls(
            problem,
            centre,
            jnp.sum(product * content, axis=0),
            jnp.concatenate([product, none]),
            jnp.concatenate([content, none]),
            factors,
            jnp.concatenate([shifts, none]),
            model.constraint_logpdf(centre, problem.data[content.shape[1] :], dense),
        )

    def rise(self, at: Float[Array, " moved"]) -> Float[Array, " moved"]:
        """How much ``-ln L`` rises where each parameter alone is moved to its value in ``at``."""
        model, dense, layout = self.problem.model, self.problem.dense, self.problem.model.layout
        values = self.centre.at[layout.moves.parameter].set(at)
        one = jnp.ones((1, self.factors.shape[1]), dtype=at.dtype)
        moved = model.factors(values[layout.norm_parameter], dense)
        ratio = jnp.concatenate([moved / jnp.where(self.factors == 0, 1.0, self.factors), one])
        shifts = model.shifts(values[layout.shape_parameter], dense)
        shifts = jnp.concatenate([shifts, self.shifts[-1:]]) - self.shifts
        observed = self.problem.data[: self.rates.size]
        terms = model.constraint_logpdf(values, self.problem.data[self.rates.size :], dense) - self.terms
        before = jnp.sum(poisson_logpdf(observed, self.rates))

        def of_one(rows: Moves) -> Float[Array, ""]:
            product, content = self.product[rows.sample], self.content[rows.sample]
            changed = product * (
                ratio[rows.norm][:, layout.channel] * (content + shifts[rows.shape]) - content
            )
            rates = self.rates + jnp.sum(changed, axis=0)
            return before - jnp.sum(poisson_logpdf(observed, rates)) - terms[rows.term]

        rises: Float[Array, " moved"] = jax.lax.map(of_one, layout.moves, batch_size=AT_ONCE)
        return rises
