"""A pyhf specification as a log-density in JAX, with the templates as arguments.

``specification`` reads the workspace, ``parameters`` orders its parameters as pyhf does, ``layout`` says
where each number of the templates goes, ``interpolation`` holds pyhf's codes, ``terms`` the densities, ``model``
puts them together, and ``derivatives`` gives gradient and Hessian.
"""

from pipeline.likelihood.derivatives import Derivatives, derivatives
from pipeline.likelihood.model import DenseTemplates, HistFactory
from pipeline.likelihood.specification import MODIFIERS, Templates, patched, templates_from_workspace

__all__ = [
    "MODIFIERS",
    "DenseTemplates",
    "Derivatives",
    "HistFactory",
    "Templates",
    "derivatives",
    "patched",
    "templates_from_workspace",
]
