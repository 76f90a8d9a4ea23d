"""The central stage of an epoch: summed templates -> likelihood, fits, the objective, and its derivative."""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from pipeline.analysis import analysis_of
from pipeline.config import Config
from pipeline.config.objective import OfNuisanceParameters
from pipeline.config.quantities import Merit, UncertaintyPart
from pipeline.containers import Parameters as Free
from pipeline.containers import Templates
from pipeline.data.written import Written
from pipeline.errors import ConfigError, FitError, Noting
from pipeline.fit.poi import undetermined
from pipeline.gradient.suspects import suspects
from pipeline.gradient.sweeps import Centre, FreeValues
from pipeline.likelihood import HistFactory
from pipeline.likelihood.configured.estimates import lacking
from pipeline.likelihood.configured.pruning import Decision, Pruned
from pipeline.likelihood.configured.specifier import FitYields, Specifier
from pipeline.objective import Inputs, Sums, total
from pipeline.objective.bounds import beyond_bounds
from pipeline.templates.axes import Axes, sums


class Described(Written):
    """Name of an objective, its label and unit in tables, and whether less of it is better or more."""

    kind: str
    label: str
    unit: str
    sense: Literal["minimise", "maximise"]

    def is_better(self, after: float, before: float) -> bool:
        """Return whether a number is better than another."""
        return after < before if self.sense == "minimise" else after > before


class Evaluated(NamedTuple):
    """The objective, what is minimised (penalties included) and its derivatives: through templates, and the rest."""

    objective: float
    minimised: float
    slopes: Templates
    direct: FreeValues


class Judge(NamedTuple):
    """The compiled evaluation of templates, with what is pruned of the systematics.

    ``pruned`` is a decision that holds for all templates; without one it is made of each templates' own.
    """

    evaluate: Callable[[Templates, FreeValues, Pruned | None], Evaluated]
    decide: Callable[[Templates], Decision | None]
    pruned: Pruned | None = None

    def __call__(self, templates: Templates, parameters: FreeValues) -> Evaluated:
        """Return the objective of templates, with its derivatives.

        Raises:
            FitError: there is none.
        """
        own = self.pruned
        if own is None and (decision := self.decide(templates)) is not None:
            own = decision.pruned
        return self.evaluate(templates, parameters, own)

    def decided(self, decision: Decision | None) -> "Judge":
        """Return the same with a decision that holds."""
        return self if decision is None else self._replace(pruned=decision.pruned)


def centre(config: Config, axes: Axes, specifier: Specifier | None = None) -> Centre:
    """Return, compiled, the objective of templates with the derivative of what is minimised, penalties included."""
    return centre_of(judge(config, axes, specifier))


def centre_of(judged: Judge) -> Centre:
    """Return what the gradient needs of an evaluation."""

    def evaluate(templates: Templates, parameters: FreeValues) -> tuple[float, Templates, FreeValues]:
        found = judged(templates, parameters)
        return found.objective, found.slopes, found.direct

    return evaluate


def judge(config: Config, axes: Axes, specifier: Specifier | None = None) -> Judge:
    """Return, compiled, the evaluation of templates.

    Only an analysis's own figure of merit looks at the parameters too.

    Args:
        specifier: structure of the likelihood, where the caller has made it; absent: it is made here.
    """
    specifier = specifier or Specifier.of_run(config, axes)
    objective = config.objective_of_parameters

    def loss(given: _Given, model: HistFactory | None, pruned: Pruned | None) -> tuple[jax.Array, Any]:
        in_fit = None
        if specifier is not None and given.in_fit is not None:
            in_fit = specifier.stacked(given.in_fit, pruned)
        merit = functools.partial(_merit, config, given.parameters)
        return total(objective, Inputs(model, in_fit, sums(given.others, axes, config), merit))

    compiled = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))

    def evaluate(templates: Templates, parameters: FreeValues, pruned: Pruned | None) -> Evaluated:
        given = _Given(
            None if specifier is None else specifier.side_by_side(templates),
            _without(templates, specifier),
            parameters if config.objective.is_merit else {},
        )
        model = None if specifier is None else specifier.model
        traced, tables = jax.tree.map(jnp.asarray, (given, pruned))
        (value, result), slopes = compiled(traced, model, tables)
        if not (bool(result.converged) and math.isfinite(float(value))):
            raise FitError(
                f"objective {config.objective.kind}: {_why(config, specifier, axes, templates, result)}"
            )
        found = _by_channel(slopes, specifier, templates)
        return Evaluated(float(result.value), float(value), found, slopes.parameters)

    def decide(templates: Templates) -> Decision | None:
        found = None if specifier is None else specifier.decided(templates)
        if found is not None:
            _require_kept(config, found)
        return found

    return Judge(evaluate, decide)


def _require_kept(config: Config, decision: Decision) -> None:
    """Raise where nothing is left of what the objective is about.

    Raises:
        FitError: a parameter that it names is pruned, or all of a group whose part of an uncertainty it is.
    """
    cure = "lower model.pruning, or give it thresholds of 0 by `pruning` of the systematic"
    gone = set(decision.gone)
    for penalty in config.objective.penalties:
        watched = set(penalty.parameters or ()) if isinstance(penalty, OfNuisanceParameters) else set()
        if lost := sorted(watched & gone):
            raise FitError(
                f"objective: penalty {penalty.kind}: model.pruning leaves nothing of {lost[0]!r}; {cure}"
            )
    for part in config.objective_of_parameters.parts:
        sources = set(part.sources or ()) if isinstance(part, UncertaintyPart) else set()
        named = sorted((part.parameter_names - sources) & gone)
        if named:
            raise FitError(f"objective {part.kind}: model.pruning leaves nothing of {named[0]!r}; {cure}")
        if sources and sources <= gone:
            raise FitError(
                f"objective {part.kind}: model.pruning leaves nothing of {', '.join(map(repr, sorted(sources)))}, and "
                f"the part is 0; {cure}"
            )


class _Given(NamedTuple):
    """What the loss is a function of: channels in the fit side by side, the others by name, parameters."""

    in_fit: FitYields | None
    others: Templates
    parameters: FreeValues


def _without(templates: Templates, specifier: Specifier | None) -> Templates:
    """Return the channels that are not in the fit; all of them where there is none."""
    names = [name for name in templates.yields if specifier is None or name not in specifier.regions]
    return Templates(
        {name: templates.yields[name] for name in names}, {name: templates.sumw2[name] for name in names}
    )


def _by_channel(slopes: _Given, specifier: Specifier | None, templates: Templates) -> Templates:
    """Return the derivative with respect to every channel, in the templates' order."""
    found = slopes.others
    if specifier is not None and slopes.in_fit is not None:
        fitted = specifier.apart(slopes.in_fit)
        found = Templates({**found.yields, **fitted.yields}, {**found.sumw2, **fitted.sumw2})
    return Templates(
        {name: found.yields[name] for name in templates.yields},
        {name: found.sumw2[name] for name in templates.sumw2},
    )


def described(config: Config) -> Described:
    """Return how the objective of a run is called."""
    quantity, found = config.objective.quantity, analysis_of(config)
    own = found.merit_label, found.merit_unit
    label, unit = own if isinstance(quantity, Merit) else (quantity.title, quantity.unit)
    return Described(kind=quantity.kind, label=label, unit=unit, sense=quantity.sense)


def _why(config: Config, specifier: Specifier | None, axes: Axes, templates: Templates, result: Any) -> str:
    """Return why there is no number."""
    if specifier is None or not config.objective.needs_fit:
        return f"its value {float(result.value):.6g} is not finite; do any events pass?"
    model, spec = specifier.model, specifier.stacked(specifier.side_by_side(templates))
    if reason := lacking(config, axes, templates) or undetermined(model, spec):
        return reason
    for part in config.objective.parts:
        if reason := beyond_bounds(part, model, spec):
            return reason
    return (
        f"the fit did not converge: value {float(result.value):.6g}, EDM {float(result.edm):.3g}, gradient norm "
        f"{float(result.gradient_norm):.3g} after {int(result.steps)} steps. {suspects(templates, axes)}. Is there a "
        "bin with hardly any events?"
    )


def _merit(config: Config, parameters: FreeValues, of: Sums) -> jax.Array:
    found = analysis_of(config)
    with Noting(f"in {type(found).__name__}.merit(p, sums)"):
        value = jnp.asarray(found.merit(Free(parameters), of))
    if value.shape:
        raise ConfigError(
            f"{type(found).__name__}.merit(p, sums) returns an array of shape {value.shape}; it must return one number"
        )
    return value
