"""The one signature of objectives and penalties: ``value_of(options, inputs) -> ObjectiveValue``."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from jaxtyping import Array, Float

from pipeline.config.kinds import Kind
from pipeline.likelihood import AnyTemplates, HistFactory
from pipeline.objective.value import ObjectiveValue

Sums = Mapping[str, Float[Array, " bins"]]
"""The channels that are not in the fit, by name."""
NO_SUMS: Sums = MappingProxyType({})


def _no_merit(sums: Sums) -> Float[Array, ""]:
    raise ValueError("objective 'merit': there is no analysis whose merit(p, sums) it could be")


class Inputs(NamedTuple):
    """What an objective is a function of: a model and its templates, sums over events, the analysis's own merit."""

    model: HistFactory | None = None
    templates: AnyTemplates | None = None
    sums: Sums = NO_SUMS
    merit: Callable[[Sums], Float[Array, ""]] = _no_merit

    @property
    def fit(self) -> tuple[HistFactory, AnyTemplates]:
        """Model and templates, for what needs them."""
        if self.model is None or self.templates is None:
            raise ValueError("an objective of the fit needs a model and its templates; give both")
        return self.model, self.templates


@functools.singledispatch
def value_of(options: Kind, inputs: Inputs) -> ObjectiveValue:
    """Return the number of an objective or penalty, differentiable in what it is made of.

    Each kind registers its function, ``@value_of.register``, in the module that explains it. ``converged`` comes back
    with the value: no objective hides a fit that failed.
    """
    raise NotImplementedError(
        f"no function is registered for {type(options).__name__}; see 'Adding an objective' in CONTRIBUTING.md"
    )
