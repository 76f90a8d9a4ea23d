"""A likelihood with coefficients of a theory against pyhf's: at fixed coefficients the two are one model."""

import itertools
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import pyhf
from jaxtyping import Float

from pipeline.config import Config
from pipeline.errors import FitError
from pipeline.evaluate.by_pyhf.state import PyhfData, pyhf_with
from pipeline.evaluate.evaluation import AtCoefficients
from pipeline.fit.impacts import held_fit
from pipeline.likelihood import HistFactory
from pipeline.likelihood.configured.at_coefficients import at_coefficients
from pipeline.likelihood.configured.specifier import Specifier

DENSITIES_APART = 1e-9  # relative, of ln L at one point: rounding
MINIMA_APART = (
    1e-4  # in -2 ln L, of two fits: a hundredth of a standard deviation squared, SciPy's own precision
)
MOST_CORNERS = 3  # coefficients whose corners are looked at


def compared(config: Config, specifier: Specifier, model: HistFactory) -> tuple[AtCoefficients, ...]:
    """Return both likelihoods at the nominal coefficients, at the ends of each and halfway, and at the corners.

    Args:
        model: of templates with hard cuts, ``run_workspace.likelihood``.

    Raises:
        FitError: the two differ, or a fit failed.
    """
    if model.initial.size == len(config.model.theory):
        return ()  # nothing is left that pyhf could fit
    return tuple(_at(config, specifier, model, point) for point in grid(config))


def grid(config: Config) -> Iterator[dict[str, float]]:
    """Yield the points of coefficients that are looked at."""
    nominal = {own.name: own.nominal for own in config.model.theory}
    yield nominal
    for own in config.model.theory:
        for end in own.bounds:
            for share in (0.5, 1.0):
                yield {**nominal, own.name: own.nominal + share * (end - own.nominal)}
    if 1 < len(nominal) <= MOST_CORNERS:
        for ends in itertools.product(*(own.bounds for own in config.model.theory)):
            yield dict(zip(nominal, ends, strict=True))


def _at(
    config: Config, specifier: Specifier, model: HistFactory, coefficients: dict[str, float]
) -> AtCoefficients:
    words = ", ".join(f"{name} = {value:.4g}" for name, value in coefficients.items())
    spec = pyhf.Workspace(at_coefficients(model, specifier, config, coefficients))
    theirs = spec.model(poi_name=None)
    data = spec.data(theirs)
    point, twice = _fitted(theirs, data, words)
    names = model.parameter_names
    places = {names.index(name): value for name, value in coefficients.items()}
    own = dict(zip(theirs.config.par_names, np.asarray(point), strict=True)) | coefficients
    here = jnp.asarray([float(own[name]) for name in names])
    observed = model.data()
    with pyhf_with(pyhf.optimize.scipy_optimizer()):
        their_density = float(theirs.logpdf(point, data)[0])
    density = float(model.logpdf(here, observed))
    found = held_fit(model, observed, places, model.initial)
    if found is None:
        raise FitError(f"model.theory: there is no likelihood at {words}, inside the bounds; narrow them")
    ours, apart = float(found.twice_nll), density - their_density
    if abs(apart) > DENSITIES_APART * abs(density) or ours > float(twice) + MINIMA_APART:
        raise FitError(
            f"model.theory: at {words} ln L of our likelihood is {density:.12g} and pyhf's {their_density:.12g} at one "
            f"point, and -2 ln L of the fits {ours:.9g} and {float(twice):.9g}; they should be the same: report it"
        )
    return AtCoefficients(coefficients=coefficients, ours=ours, pyhf=float(twice), density_apart=apart)


def _fitted(theirs: pyhf.Model, data: PyhfData, words: str) -> tuple[Float[np.ndarray, " params"], float]:
    """Return pyhf's best fit and its -2 ln L: by SciPy, or, where that does not end, by Minuit."""
    failed: Exception | None = None
    for optimizer in (pyhf.optimize.scipy_optimizer(), pyhf.optimize.minuit_optimizer()):
        with pyhf_with(optimizer):
            try:
                point, twice = pyhf.infer.mle.fit(data, theirs, return_fitted_val=True)
                return np.asarray(point), float(twice)
            except pyhf.exceptions.FailedMinimization as error:
                failed = error
    raise FitError(
        f"model.theory: pyhf's fit at {words} failed, by SciPy and by Minuit: {failed}; narrow the coefficients' bounds"
    )
