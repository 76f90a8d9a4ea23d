"""A pyhf specification as a log-density in JAX, with the templates as arguments.

``specification`` reads the workspace, ``parameters`` orders its parameters as pyhf does, ``layout`` says
where each number of the templates goes, ``interpolation`` holds pyhf's codes, ``model`` puts them together.
"""

from pipeline.likelihood.model import DenseTemplates, HistFactory
from pipeline.likelihood.specification import MODIFIERS, Templates, templates_from_workspace

__all__ = ["MODIFIERS", "DenseTemplates", "HistFactory", "Templates", "templates_from_workspace"]
