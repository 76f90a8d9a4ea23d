"""Thalweg: a whole analysis, optimised by gradient descent.

The flow, left to right; each folder imports only from the ones before it::

    config -> data -> columns -> templates -> likelihood -> fit -> objective       forward
    optimise <- gradient (two sweeps over the processes of a cluster)              the derivative runs back
    evaluate -> report                                                             hard cuts, held-out events, pyhf

``relax`` is the toolkit of differentiable operations (usable alone), ``analysis`` the contract a physicist implements,
``containers`` the values on the arrows, ``simulate`` makes events where there are none, ``cli`` has one verb per stage,
and ``Run`` is a run from Python. Importing this package changes no setting of JAX or pyhf. Its messages go to the
standard library's logger ``pipeline``, which prints nothing until a program says where.
"""

import importlib
import importlib.abc
import importlib.machinery
import logging
import sys
from types import ModuleType

__version__ = "0.1.0"

FROM_PYTHON = {
    "LivePlot": "pipeline.report.live",
    "Run": "pipeline.cli.run",
    "simple_settings": "pipeline.cli.simple",
    "value_and_grad": "pipeline.cli.run",
}
MOVED = {"pipeline.hypotest": "pipeline.fit.hypotest", "pipeline.programs": "pipeline.simulate.program"}


class _FormerPaths(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Public modules by the path they had before, for analyses that import them so."""

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A module that has moved, loaded from where it is now."""
        del path, target
        return importlib.machinery.ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """A module of the former name, with all that the other has."""
        found = ModuleType(spec.name, f"Moved to `{MOVED[spec.name]}`.")
        now = vars(importlib.import_module(MOVED[spec.name]))
        vars(found).update({name: value for name, value in now.items() if not name.startswith("__")})
        return found

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to run."""


def __getattr__(name: str) -> object:
    """``Run`` and what goes with it, which take a second to import."""
    if name in FROM_PYTHON:
        return getattr(importlib.import_module(FROM_PYTHON[name]), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")


class _Extras(importlib.abc.MetaPathFinder):
    """Finds nothing; a package of an extra that is not installed is told by name, with the cure."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Say which extra is missing, where this package asks for it."""
        del target
        if path is None:
            importlib.import_module("pipeline.errors").refuse_missing(fullname)


sys.meta_path += [_FormerPaths(), _Extras()]
logging.getLogger(__name__).addHandler(logging.NullHandler())
