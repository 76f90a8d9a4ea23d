"""A pyhf specification as a log-density in JAX, with the templates as arguments.

``workspace`` reads the workspace, ``paramsets`` orders its parameters as pyhf does, ``layout`` says
where each number of the templates goes, ``interpolation`` holds pyhf's codes, ``terms`` the densities, ``histfactory``
puts them together, and ``derivatives`` gives gradient and Hessian.
"""

from pipeline.likelihood.derivatives import Derivatives, derivatives
from pipeline.likelihood.histfactory import DenseTemplates, HistFactory
from pipeline.likelihood.workspace import MODIFIERS, patched, templates_from_workspace

__all__ = [
    "MODIFIERS",
    "DenseTemplates",
    "Derivatives",
    "HistFactory",
    "derivatives",
    "patched",
    "templates_from_workspace",
]
