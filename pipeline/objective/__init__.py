"""Objectives: templates -> the one number that an optimisation improves.

The kinds with their options stand in ``config.quantities``, penalties in ``config.objective``. Every one has the
``signature`` ``value_of(options, inputs) -> ObjectiveValue`` and is differentiable in the templates. It never hides a
fit that failed: ``converged`` comes back with the value, and the caller refuses it. ``sensitivity`` discovers and
excludes, ``joint_significance`` discovers several signals, ``precision`` measures, ``parts`` says by which group,
``asimov_significance`` needs no fit, ``cross_entropy``, ``mean`` and ``merit`` not even a model, ``penalties`` keep
fits physical, ``weighted_sum`` adds them.
"""

from pipeline.config.objective import PENALTIES
from pipeline.config.quantities import OBJECTIVES
from pipeline.objective import (  # for what they register
    joint_significance,
    mean,
    merit,
    parts,
    penalties,
    precision,
    sensitivity,
)
from pipeline.objective.asimov_significance import counting_significance
from pipeline.objective.cross_entropy import binary_cross_entropy, categorical_cross_entropy
from pipeline.objective.signature import Inputs, Sums, value_of
from pipeline.objective.value import ObjectiveValue
from pipeline.objective.weighted_sum import total

__all__ = [
    "OBJECTIVES",
    "PENALTIES",
    "Inputs",
    "ObjectiveValue",
    "Sums",
    "binary_cross_entropy",
    "categorical_cross_entropy",
    "counting_significance",
    "joint_significance",
    "mean",
    "merit",
    "parts",
    "penalties",
    "precision",
    "sensitivity",
    "total",
    "value_of",
]
