"""Objectives: templates -> the one number that an optimisation improves.

Every objective has the signature ``f(model, templates, *, options) -> ObjectiveValue`` and is differentiable
in the templates. It never hides a fit that failed: ``converged`` comes back with the value, and the caller refuses
it. ``sensitivity`` discovers and excludes, ``precision`` measures, ``counting`` needs no fit, ``penalties`` keep fits
physical, ``catalogue`` names them all and adds them up.
"""

from pipeline.objective.catalogue import OBJECTIVES, PENALTIES, Objective, Term, total, weighted_sum
from pipeline.objective.counting import counting_significance
from pipeline.objective.value import ObjectiveValue

__all__ = [
    "OBJECTIVES",
    "PENALTIES",
    "Objective",
    "ObjectiveValue",
    "Term",
    "counting_significance",
    "total",
    "weighted_sum",
]
