"""The central stage of an epoch: summed templates -> likelihood, fits, the objective, and its derivative."""

import functools
import math
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from pipeline.analysis import analysis_of
from pipeline.config import Config, Objective, Penalty, WeightedTerm
from pipeline.containers import Parameters as Free
from pipeline.containers import Templates
from pipeline.data.written import Written
from pipeline.errors import ConfigError, FitError, Noting
from pipeline.fit.poi import beyond_bounds, undetermined
from pipeline.gradient.suspects import suspects
from pipeline.gradient.sweeps import Centre, Parameters
from pipeline.likelihood import HistFactory
from pipeline.objective import OBJECTIVES, Term, total
from pipeline.templates.axes import Axes
from pipeline.templates.specification import specification, structure, sums


class Described(Written):
    """Name of an objective, its label and unit in tables, and whether less of it is better or more."""

    kind: str
    label: str
    unit: str
    sense: Literal["minimise", "maximise"]

    def is_better(self, after: float, before: float) -> bool:
        """Whether a number is better than another."""
        return after < before if self.sense == "minimise" else after > before


def centre(config: Config, axes: Axes) -> Centre:
    """Templates -> the objective, and the derivative of what is minimised (penalties included); compiled once.

    Only an analysis's own figure of merit looks at the parameters too.
    """

    def loss(given: tuple[Templates, Parameters], model: HistFactory | None) -> tuple[jax.Array, Any]:
        templates, parameters = given
        return total(
            model,
            {} if model is None else specification(templates, axes, config),
            objective=_term(config, config.objective, parameters),
            penalties=[_term(config, penalty, parameters) for penalty in config.objective.penalties],
            sums=sums(templates, axes, config),
        )

    compiled = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))

    def evaluate(templates: Templates, parameters: Parameters) -> tuple[float, Templates, Parameters]:
        seen = parameters if config.objective.is_merit else {}
        model = _model(config, axes, templates) if config.model.is_fitted else None
        (value, result), (cotangent, direct) = compiled(jax.tree.map(jnp.asarray, (templates, seen)), model)
        if not (bool(result.converged) and math.isfinite(float(value))):
            raise FitError(f"objective {config.objective.kind}: {_why(config, axes, templates, result)}")
        return float(result.value), cotangent, direct

    return evaluate


def described(config: Config) -> Described:
    """How the objective of a run is called."""
    kind = config.objective.kind
    entry, found = OBJECTIVES[kind], analysis_of(config)
    label, unit = (found.merit_label, found.merit_unit) if kind == "merit" else (entry.label, entry.unit)
    return Described(kind=kind, label=label, unit=unit, sense=entry.sense)


def _model(config: Config, axes: Axes, templates: Templates) -> HistFactory:
    """The structure of the likelihood; its templates are arguments of what is compiled."""
    spec = structure(templates, axes, config)
    return HistFactory.from_workspace(spec, constraint_widths=config.model.constraint_widths, check=False)


def _why(config: Config, axes: Axes, templates: Templates, result: Any) -> str:
    """Why there is no number."""
    if not config.objective.needs_fit:
        return f"its value {float(result.value):.6g} is not finite; do any events pass?"
    model, spec = _model(config, axes, templates), specification(templates, axes, config)
    if reason := undetermined(model, spec):
        return reason
    for term in config.objective.terms or (config.objective,):
        if reason := beyond_bounds(model, spec, term.kind, term.options):
            return reason
    return (
        f"the fit did not converge: value {float(result.value):.6g}, EDM {float(result.edm):.3g}, gradient norm "
        f"{float(result.gradient_norm):.3g} after {int(result.steps)} steps. {suspects(templates, axes)}. Is there a "
        "bin with hardly any events?"
    )


def _term(config: Config, section: Objective | Penalty | WeightedTerm, parameters: Parameters) -> Term:
    """A section of the configuration as the objectives' own."""
    options = section.options
    if isinstance(section, Objective) and section.terms:
        options["terms"] = tuple(_term(config, term, parameters) for term in section.terms)
    if section.kind == "merit":
        options["function"] = functools.partial(_merit, config, parameters)
    return Term(section.kind, options, section.weight if isinstance(section, Penalty | WeightedTerm) else 1.0)


def _merit(config: Config, parameters: Parameters, of: dict[str, jax.Array]) -> jax.Array:
    found = analysis_of(config)
    with Noting(f"in {type(found).__name__}.merit(p, sums)"):
        value = jnp.asarray(found.merit(Free(parameters), of))
    if value.shape:
        raise ConfigError(
            f"{type(found).__name__}.merit(p, sums) returns an array of shape {value.shape}; it must return one number"
        )
    return value
