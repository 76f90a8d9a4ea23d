"""A pyhf specification as a log-density in JAX, with the templates as arguments.

``specification`` reads the workspace, ``parameters`` orders its parameters as pyhf does, ``layout`` says where each
number stands, ``stacked`` holds the numbers in a few arrays, ``interpolation`` holds pyhf's codes, ``terms`` the
densities, ``model`` puts them together, and ``derivatives`` gives gradient and Hessian.
"""

from pipeline.likelihood.derivatives import Derivatives, derivatives
from pipeline.likelihood.histfactory import AnyTemplates, HistFactory
from pipeline.likelihood.stacked import DenseTemplates, StackedTemplates
from pipeline.likelihood.workspace import MODIFIERS, Specification, patched, templates_from_workspace

__all__ = [
    "MODIFIERS",
    "AnyTemplates",
    "DenseTemplates",
    "Derivatives",
    "HistFactory",
    "Specification",
    "StackedTemplates",
    "derivatives",
    "patched",
    "templates_from_workspace",
]
