"""Fit, test and upper limit of a given workspace."""

import math
import time
from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float, Int

from pipeline.errors import FitError
from pipeline.evaluate.workspaces.given import GivenWorkspace
from pipeline.evaluate.workspaces.results import FittedValue, WorkspaceFit, WorkspaceLimit, WorkspaceTest
from pipeline.fit import FitResult, FitStatus, fit_with_covariance
from pipeline.fit.hypotest import HypoTest, hypotest
from pipeline.fit.poi import undetermined
from pipeline.likelihood import HistFactory

Found = TypeVar("Found")

LIMIT_PRECISION = 1e-8  # relative, of an upper limit
LARGEST_CORRELATION = 1 - 1e-9  # of two parameters that make up for each other, to rounding
MOST_DOUBLINGS = 60  # of the range in which a limit is looked for


def fitted(given: GivenWorkspace) -> WorkspaceFit:
    """Fit a workspace, with the covariance of all parameters.

    Raises:
        FitError: the fit did not converge; the message has its status, or says what determines nothing.
    """
    program, compiling = _compiled(_fit, given.model, given.data)
    started = time.perf_counter()
    found, covariance = jax.block_until_ready(program(given.model, given.data))
    running = time.perf_counter() - started
    _require_convergence(given, found)
    flat = np.asarray(found.flat)
    width = np.where(flat, 0.0, np.sqrt(np.diagonal(np.asarray(covariance))))
    model = given.model
    fixed = np.asarray(model.fixed_parameters())
    held = np.select([fixed, np.asarray(found.at_bounds), flat], ["fixed", "at bound", "no effect"], "")
    free = np.flatnonzero((held == "") & (width > 0))
    chosen = np.asarray(covariance)[np.ix_(free, free)] / np.outer(width[free], width[free])
    _require_directions(given, width, free, chosen)
    return WorkspaceFit(
        status=FitStatus(int(found.status)).name.lower(),
        steps=int(found.steps),
        twice_nll=float(found.twice_nll),
        edm=float(found.edm),
        gradient_norm=float(found.gradient_norm),
        bins_below_zero=tuple(np.flatnonzero(np.asarray(found.negative)).tolist()),
        poi=None if model.poi_index is None else given.names[model.poi_index],
        is_asimov=given.is_asimov,
        parameters=tuple(
            FittedValue(
                name=name, value=value, uncertainty=sigma, start=start, bounds=tuple(bounds), held=why
            )
            for name, value, sigma, start, bounds, why in zip(
                given.names,
                found.parameters.tolist(),
                width.tolist(),
                model.initial.tolist(),
                model.bounds.tolist(),
                held.tolist(),
                strict=True,
            )
        ),
        correlated=tuple(given.names[place] for place in free),
        correlation=tuple(map(tuple, chosen.tolist())),
        seconds_compiling=compiling,
        seconds=running,
    )


def cls_of(given: GivenWorkspace, poi: int, mu: float) -> WorkspaceTest:
    """Test the hypothesis POI = ``mu`` with ``q~_mu`` and asymptotic distributions.

    Raises:
        FitError: one of the fits did not converge.
    """
    test, compiling = _test_of(given)
    started = time.perf_counter()
    found = test(mu)
    return WorkspaceTest(
        poi=given.names[poi],
        mu=mu,
        is_asimov=given.is_asimov,
        cls=math.exp(found.log_cls),
        clsb=math.exp(found.log_clsb),
        clb=math.exp(found.log_clb),
        cls_expected=tuple(np.exp(np.asarray(found.log_cls_expected)).tolist()),
        seconds_compiling=compiling,
        seconds=time.perf_counter() - started,
    )


def limited(given: GivenWorkspace, poi: int, level: float) -> WorkspaceLimit:
    """Find the upper limits on the POI at CLs = ``level``: where tests as those of ``cls_of`` cross it.

    Raises:
        FitError: a fit did not converge, or a limit is above the upper bound of the POI.
    """
    test, compiling = _test_of(given)
    started = time.perf_counter()
    known: dict[float, Float[np.ndarray, " limits"]] = {}

    def above(mu: float) -> Float[np.ndarray, " limits"]:
        """Return logarithms of CLs over the level, observed first."""
        if mu not in known:
            found = test(mu)
            known[mu] = np.array([found.log_cls, *found.log_cls_expected.tolist()]) - math.log(level)
        return known[mu]

    low, high = _bracket(given, poi, level, above)
    limits = [
        scipy.optimize.toms748(lambda mu, row=row: above(mu)[row], low, high, rtol=LIMIT_PRECISION)
        for row in range(above(low).size)
    ]
    return WorkspaceLimit(
        poi=given.names[poi],
        level=level,
        is_asimov=given.is_asimov,
        observed=limits[0],
        expected=tuple(limits[1:]),
        seconds_compiling=compiling,
        seconds=time.perf_counter() - started,
    )


def _bracket(
    given: GivenWorkspace, poi: int, level: float, above: Callable[[float], Float[np.ndarray, " limits"]]
) -> tuple[float, float]:
    """Return values of the POI between which all limits lie: from none on, doubled until all tests exclude."""
    least, most = (float(bound) for bound in given.model.bounds[poi])
    low = max(least, 0.0)
    name, allowed = given.names[poi], f"bounds [{least:g}, {most:g}]"
    if not np.all(above(low) > 0):
        raise FitError(
            f"limit on {name}: CLs is below {level:g} already at {low:g}, the lower end of {allowed}"
        )
    high = min(most, low + max(1.0, abs(float(given.model.initial[poi]))))
    for _ in range(MOST_DOUBLINGS):
        if np.all(above(high) < 0):
            return low, high
        if high == most:
            break
        high = min(most, low + 2 * (high - low))
    raise FitError(
        f"limit on {name}: CLs is still above {level:g} at {high:g}; its {allowed} end there, widen them in the "
        "measurement of the workspace"
    )


def _test_of(given: GivenWorkspace) -> tuple[Callable[[float], HypoTest], float]:
    """Return the test of a value of the POI, compiled once, and the seconds of that."""
    program, seconds = _compiled(hypotest, given.model, given.data, jnp.asarray(1.0))

    def test(mu: float) -> HypoTest:
        found = program(given.model, given.data, jnp.asarray(mu))
        if not bool(found.converged):
            why = undetermined(given.model) or (
                "one of its fits, with the parameter free, held at this value and at 0, finds no minimum: does a bin "
                "with events expect none there? `fit --fix` shows each"
            )
            raise FitError(f"test of {given.names[given.model.poi_index or 0]} = {mu:g}: {why}")
        return found

    return test, seconds


def _compiled(function: Callable[..., Found], *arguments: object) -> tuple[Callable[..., Found], float]:
    """Return the program of a function for such arguments, and the seconds of making it."""
    started = time.perf_counter()
    program: Callable[..., Found] = eqx.filter_jit(function).lower(*arguments).compile()  # type: ignore[attr-defined]
    return program, time.perf_counter() - started


def _fit(model: HistFactory, data: Float[Array, " data"]) -> tuple[FitResult, Float[Array, "params params"]]:
    return fit_with_covariance(model, data, range(model.initial.size))


def _require_directions(
    given: GivenWorkspace,
    width: Float[np.ndarray, " params"],
    free: Int[np.ndarray, " free"],
    correlation: Float[np.ndarray, "free free"],
) -> None:
    """Refuse a fit in which parameters make up for each other."""
    if not np.all(np.isfinite(width)):
        raise FitError(
            "the Hessian of -ln L at the best fit is not positive definite: parameters make up for each other; hold "
            "some of them by --fix"
        )
    apart = np.abs(correlation) - np.eye(free.size)
    if free.size and apart.max() > LARGEST_CORRELATION:
        one, other = (given.names[free[place]] for place in np.unravel_index(np.argmax(apart), apart.shape))
        raise FitError(
            f"nothing tells {one!r} from {other!r}: they make up for each other; hold one by --fix"
        )


def _require_convergence(given: GivenWorkspace, found: FitResult) -> None:
    if bool(found.converged):
        return
    poi = given.model.poi_index
    floats = poi is not None and not bool(given.model.fixed_parameters()[poi])
    reason = undetermined(given.model) if floats else None
    raise FitError(reason or f"{found.describe(given.names)}; no number of it is to be believed")
