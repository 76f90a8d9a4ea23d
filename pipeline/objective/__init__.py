"""Objectives: templates -> the one number that an optimisation improves.

Every objective has the signature ``f(model, templates, *, options) -> ObjectiveValue`` and is differentiable
in the templates. It never hides a fit that failed: ``converged`` comes back with the value, and the caller refuses
it. ``sensitivity`` discovers and excludes, ``precision`` measures, ``counting`` needs no fit, ``cross_entropy``,
``mean`` and ``merit`` not even a model, ``penalties`` keep fits physical, ``catalogue`` names and adds them all.
"""

from pipeline.objective.catalogue import OBJECTIVES, PENALTIES, CatalogueEntry, Term, total, weighted_sum
from pipeline.objective.counting import counting_significance
from pipeline.objective.cross_entropy import binary_cross_entropy, categorical_cross_entropy
from pipeline.objective.value import ObjectiveValue

__all__ = [
    "OBJECTIVES",
    "PENALTIES",
    "CatalogueEntry",
    "ObjectiveValue",
    "Term",
    "binary_cross_entropy",
    "categorical_cross_entropy",
    "counting_significance",
    "total",
    "weighted_sum",
]
