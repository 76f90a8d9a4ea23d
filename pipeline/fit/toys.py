"""Pseudo-experiments: data drawn from a model, and fits of each, in blocks that do not depend on who makes them.

Main data are Poisson numbers, auxiliary data Gaussian or Poisson ones around the parameters that are true, as in
pyhf's frequentist toys (``pyhf.infer.calculators.ToyCalculator``; arXiv:1007.1727, section 2).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pipeline.errors import FitError
from pipeline.fit.fits import FitResult, fit, fit_with_covariance
from pipeline.fit.hypotest import poi_of
from pipeline.fit.many_fits import fits_of, fitting_at, saturated, starts
from pipeline.fit.pool import FitQueue, PooledFits
from pipeline.likelihood import HistFactory

BLOCK = 1000  # toys that are drawn and fitted together: many to keep lanes busy, few to be shared by workers
NEGATIVE = -1e-6  # a statistic below is not rounding: the free fit is in a higher minimum than the held one


class ToyExperiment(NamedTuple):
    """What is drawn and tested: data at ``truth``, the POI tested at ``tested``; with CLs there, where it is asked for.

    ``stream`` keeps the random numbers of one experiment of a run apart from those of others.
    """

    truth: Float[np.ndarray, " params"]
    tested: float
    toys: int
    seed: int
    stream: int
    with_cls: bool = False


class ToyNumbers(NamedTuple):
    """What the fits of each toy gave.

    ``poi`` and ``sigma`` are the best fit and its standard deviation by the exact Hessian, ``t`` is ``-2 ln L`` with
    the POI held at the tested value less that of the free fit, ``goodness`` that of the free fit above the saturated
    model, ``asimov`` is ``t`` of the Asimov data of the background-only fit, ``converged`` says of all fits of a toy
    that they did. ``again`` marks toys whose fits were made again, one by one.
    """

    poi: Float[np.ndarray, " toys"]
    sigma: Float[np.ndarray, " toys"]
    t: Float[np.ndarray, " toys"]
    goodness: Float[np.ndarray, " toys"]
    asimov: Float[np.ndarray, " toys"]
    converged: Bool[np.ndarray, " toys"]
    again: Bool[np.ndarray, " toys"]


def blocks_of(toys: int) -> list[int]:
    """Return the sizes of the blocks that so many toys are drawn in: all but the last are of one size."""
    count = -(-toys // BLOCK)
    size = -(-toys // count)
    return [min(size, toys - size * number) for number in range(count)]


def drawn(
    model: HistFactory, truth: Float[np.ndarray, " params"], toys: int, entropy: tuple[int, ...]
) -> Float[np.ndarray, "toys data"]:
    """Return toy data sets at ``truth``, main and auxiliary."""
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
    expected = np.asarray(model.expected_data(jnp.asarray(truth)), dtype=np.float64)
    bins, is_poisson = sum(model.bins), np.asarray(model.constraints.is_poisson)
    width = np.where(is_poisson, 0.0, np.asarray(model.dense().width))
    counted = np.concatenate([np.ones(bins, dtype=bool), is_poisson])
    data = np.tile(expected, (toys, 1))
    data[:, counted] = random.poisson(np.maximum(expected[counted], 0.0), (toys, int(counted.sum())))
    data[:, bins:] += width * random.standard_normal((toys, width.size))
    return data


def block(model: HistFactory, experiment: ToyExperiment, number: int) -> ToyNumbers:
    """Return the toys of one block of an experiment: seeded by its number, whoever makes it."""
    size, toys = blocks_of(experiment.toys)[0], blocks_of(experiment.toys)[number]
    data = drawn(model, experiment.truth, size, (experiment.seed, experiment.stream, number))
    return ToyNumbers(*(own[:toys] for own in fitted(model, experiment, data)))


def fitted(model: HistFactory, experiment: ToyExperiment, data: Float[np.ndarray, "toys data"]) -> ToyNumbers:
    """Return what the fits of data drawn at the experiment's truth give."""
    toys = data.shape[0]
    tested = [experiment.tested, 0.0] if experiment.with_cls else [experiment.tested]
    found = _fits(model, jnp.asarray(data), jnp.asarray(experiment.truth), jnp.asarray(tested))
    free, held, *background = (_part(found, number, toys) for number in range(len(tested) + 1))
    own = _numbers(model, free, held)
    for toy in np.flatnonzero(own.again):
        one = _alone(model, data[toy], held.parameters[toy], experiment.tested)
        for all_, number in zip((own.poi, own.sigma, own.t, own.goodness, own.converged), one, strict=True):
            all_[toy] = np.asarray(number)
    good = own.converged & (own.t >= NEGATIVE)
    if not experiment.with_cls:
        return own._replace(converged=good)
    without = background[0]
    asimov, converged = _asimov(model, without.parameters, experiment.tested)
    return own._replace(
        asimov=np.asarray(asimov),
        converged=good & np.asarray(without.converged) & np.asarray(converged),
    )


def _numbers(model: HistFactory, free: PooledFits, held: PooledFits) -> ToyNumbers:
    """Return what free and held fits give; to be made again where one did not converge, or the free one is higher."""
    good, t = np.array(free.converged & held.converged), np.array(2.0 * (held.nll - free.nll))
    return ToyNumbers(
        poi=np.array(free.parameters[:, poi_of(model, "toys")]),
        sigma=np.sqrt(np.maximum(np.asarray(free.variance), 0.0)),
        t=t,
        goodness=np.array(2.0 * free.nll),
        asimov=np.full(t.size, np.nan),
        converged=good,
        again=~good | (t < NEGATIVE),
    )


def _part(found: PooledFits, number: int, toys: int) -> PooledFits:
    own: PooledFits = jax.tree.map(lambda every: every[number * toys : (number + 1) * toys], found)
    return own


@eqx.filter_jit
def _fits(
    model: HistFactory,
    data: Float[Array, "toys data"],
    truth: Float[Array, " params"],
    tested: Float[Array, " tested"],
) -> PooledFits:
    """Return free fits of all data, then those with the POI held at each of some values."""
    fitting, number = fitting_at(model, truth), jnp.arange(data.shape[0], dtype=jnp.int32)
    begin = [starts(model, fitting, data), *(starts(model, fitting, data, value) for value in tested)]
    is_held = np.repeat(np.arange(len(begin)) > 0, data.shape[0])
    which = jnp.tile(number, len(begin))
    return fits_of(model, FitQueue(data, which, jnp.concatenate(begin), jnp.asarray(is_held)))


@eqx.filter_jit
def _asimov(
    model: HistFactory, background: Float[Array, "toys params"], tested: Float[Array, ""] | float
) -> tuple[Float[Array, " toys"], Bool[Array, " toys"]]:
    """Return ``t`` on the Asimov data of each background-only fit: one fit, for the free one is the truth itself."""
    data = jax.vmap(lambda own: model.expected_data(own))(background)
    begin = background.at[:, poi_of(model, "toys")].set(tested)
    which, is_held = jnp.arange(data.shape[0], dtype=jnp.int32), jnp.ones(data.shape[0], dtype=bool)
    found = fits_of(model, FitQueue(data, which, begin, is_held))
    return 2.0 * found.nll, found.converged


@eqx.filter_jit
def _alone(
    model: HistFactory,
    data: Float[Array, " data"],
    start: Float[Array, " params"],
    tested: Float[Array, ""] | float,
) -> tuple[Array, Array, Array, Array, Array]:
    """Return the numbers of one toy by fits that look for the lowest of several minima."""
    dense, poi = model.dense(), poi_of(model, "toys")
    fixed = model.fixed_parameters(dense)
    free, variance = fit_with_covariance(model, data, [poi], init=start, fixed=fixed)
    held = fit(model, data, init=start.at[poi].set(tested), fixed=fixed.at[poi].set(True))
    goodness = free.twice_nll + 2.0 * saturated(model, data, dense)
    t = held.twice_nll - free.twice_nll
    return free.parameters[poi], jnp.sqrt(variance[0, 0]), t, goodness, free.converged & held.converged


def observed_goodness(model: HistFactory) -> tuple[Float[np.ndarray, " params"], float, int]:
    """Return the best fit to the model's own observations, its saturated goodness of fit, and the degrees of freedom.

    These are the bins and constraint terms less the free parameters.

    Raises:
        FitError: the fit did not converge.
    """
    found, goodness, free = _observed(model)
    if not bool(found.converged):
        raise FitError(f"the fit of the observations of toys: {found.describe(model.parameter_names)}")
    terms = sum(model.bins) + int(np.sum(np.asarray(model.constraints.is_on)))
    fixed_terms = np.asarray(model.constraints.is_on & ~free[model.constraints.parameter])
    freedom = terms - int(fixed_terms.sum()) - int(np.sum(np.asarray(free)))
    return np.asarray(found.parameters, dtype=np.float64), float(goodness), max(freedom, 1)


@eqx.filter_jit
def _observed(model: HistFactory) -> tuple[FitResult, Float[Array, ""], Bool[Array, " params"]]:
    dense = model.dense()
    data = model.data()
    found = fit(model, data)
    free = ~(model.fixed_parameters(dense) | found.flat)
    return found, found.twice_nll + 2.0 * saturated(model, data, dense), free
