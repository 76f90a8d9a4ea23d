"""A pyhf specification as a log-density in JAX, with the templates as arguments.

``workspace`` reads one, ``checks`` and ``structure`` what it must be, ``parameters`` orders its parameters as pyhf
does, ``layout`` says where each number stands and ``multipliers`` what multiplies, ``stacked`` holds the numbers in a
few arrays, ``interpolation`` pyhf's codes, ``terms`` the densities, ``histfactory`` puts them together, and
``derivatives`` gives gradient and Hessian, ``bordered`` the latter without the parameters of single bins.
"""

from pipeline.likelihood.bordered import Bordered, Factor, inverse_free
from pipeline.likelihood.cells import cells_at
from pipeline.likelihood.derivatives import Derivatives, derivatives, hessian_of, slopes_of
from pipeline.likelihood.histfactory import AnyTemplates, HistFactory
from pipeline.likelihood.patches import patched
from pipeline.likelihood.stacked import DenseTemplates, StackedTemplates
from pipeline.likelihood.workspace import MODIFIERS, Specification, templates_from_workspace

__all__ = [
    "MODIFIERS",
    "AnyTemplates",
    "Bordered",
    "DenseTemplates",
    "Derivatives",
    "Factor",
    "HistFactory",
    "Specification",
    "StackedTemplates",
    "cells_at",
    "derivatives",
    "hessian_of",
    "inverse_free",
    "patched",
    "slopes_of",
    "templates_from_workspace",
]
