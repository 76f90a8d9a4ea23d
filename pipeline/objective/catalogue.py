"""The objectives and penalties by their names in the configuration, and sums of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.likelihood import AnyTemplates, HistFactory
from pipeline.objective.counting import asimov_significance
from pipeline.objective.cross_entropy import cross_entropy
from pipeline.objective.mean import mean
from pipeline.objective.merit import Sums, merit
from pipeline.objective.penalties import expected_events, mc_statistics, overconstrained, pulls
from pipeline.objective.precision import generalised_variance, inferno, poi_uncertainty, profile_interval
from pipeline.objective.sensitivity import cls, discovery, discovery_p_value, upper_limit
from pipeline.objective.value import ObjectiveValue


@dataclass(frozen=True)
class CatalogueEntry:
    """An objective with the direction of improvement and its name in tables."""

    function: Callable[..., ObjectiveValue]
    sense: Literal["minimise", "maximise"]
    label: str
    unit: str = ""
    of_sums: bool = False  # of channels that are not in the fit, instead of model and templates

    @property
    def sign(self) -> float:
        """Factor that makes it something to minimise."""
        return -1.0 if self.sense == "maximise" else 1.0


@dataclass(frozen=True)
class Term:
    """An objective, or a penalty, with its options and its weight in a sum."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0


NO_SUMS: Sums = MappingProxyType({})


def weighted_sum(
    model: HistFactory | None, templates: AnyTemplates | None, *, terms: Sequence[Term], sums: Sums = NO_SUMS
) -> ObjectiveValue:
    """``sum_i w_i v_i`` of objectives, each as something to minimise: those to maximise enter negated.

    As good as the worst of its fits: converged where all are, with the largest EDM and gradient norm.
    """
    parts = [value_of(term, model, templates, sums) for term in terms]
    signs = [OBJECTIVES[term.kind].sign * term.weight for term in terms]
    values = [sign * part.value for sign, part in zip(signs, parts, strict=True)]
    return _together(jnp.sum(jnp.stack(values)), parts)


def value_of(
    term: Term, model: HistFactory | None, templates: AnyTemplates | None, sums: Sums = NO_SUMS
) -> ObjectiveValue:
    """An objective by its name, with its options; those of sums need no model."""
    entry = OBJECTIVES[term.kind]
    if entry.of_sums:
        return entry.function(sums, **term.options)
    if entry.function is weighted_sum:
        return weighted_sum(model, templates, sums=sums, **term.options)
    return entry.function(model, templates, **term.options)


def total(
    model: HistFactory | None,
    templates: AnyTemplates | None,
    *,
    objective: Term,
    penalties: Sequence[Term] = (),
    sums: Sums = NO_SUMS,
) -> tuple[Float[Array, ""], ObjectiveValue]:
    """What is minimised, objective and weighted penalties; and the objective alone, with the worst state of all."""
    found = value_of(objective, model, templates, sums)
    extra = [PENALTIES[term.kind](model, templates, **term.options) for term in penalties]
    loss = OBJECTIVES[objective.kind].sign * found.value
    for term, penalty in zip(penalties, extra, strict=True):
        loss = loss + term.weight * penalty.value
    return loss, _together(found.value, [found, *extra])


def _together(value: Float[Array, ""], parts: Sequence[ObjectiveValue]) -> ObjectiveValue:
    """One value with the worst state of several fits."""
    worst = jax.tree.map(lambda *states: jnp.max(jnp.stack(states)), *parts)
    converged = jnp.all(jnp.stack([part.converged for part in parts]))
    return ObjectiveValue(value, converged, worst.edm, worst.gradient_norm, worst.steps)


OBJECTIVES: dict[str, CatalogueEntry] = {
    "poi_uncertainty": CatalogueEntry(
        poi_uncertainty, "minimise", "uncertainty on the parameter of interest"
    ),
    "profile_interval": CatalogueEntry(
        profile_interval, "minimise", "half of the profile-likelihood interval"
    ),
    "generalised_variance": CatalogueEntry(generalised_variance, "minimise", "generalised variance"),
    "inferno": CatalogueEntry(inferno, "minimise", "expected variance"),
    "discovery": CatalogueEntry(discovery, "maximise", "expected discovery significance", "sigma"),
    "discovery_p_value": CatalogueEntry(discovery_p_value, "minimise", "logarithm of the expected p-value"),
    "cls": CatalogueEntry(cls, "minimise", "logarithm of the expected CLs"),
    "upper_limit": CatalogueEntry(upper_limit, "minimise", "expected upper limit"),
    "asimov_significance": CatalogueEntry(
        asimov_significance, "maximise", "Asimov counting significance", "sigma"
    ),
    "cross_entropy": CatalogueEntry(cross_entropy, "minimise", "cross-entropy", of_sums=True),
    "mean": CatalogueEntry(mean, "minimise", "mean over events", of_sums=True),
    "merit": CatalogueEntry(merit, "minimise", "figure of merit", of_sums=True),
    "weighted_sum": CatalogueEntry(weighted_sum, "minimise", "weighted sum of objectives"),
}
"""The objectives by their name in the configuration."""

PENALTIES: dict[str, Callable[..., ObjectiveValue]] = {
    "overconstrained": overconstrained,
    "pulls": pulls,
    "expected_events": expected_events,
    "mc_statistics": mc_statistics,
}
"""The penalties by their name in the configuration."""
