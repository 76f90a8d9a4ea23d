"""The names of the widths that an analysis asks for, and those that a configuration gives."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
from jax.typing import ArrayLike

from pipeline.analysis import Analysis, WeightFactor
from pipeline.analysis.systematics import declared
from pipeline.config import Config
from pipeline.containers import Columns, Parameters
from pipeline.data import store
from pipeline.errors import ConfigError, nearest
from pipeline.gradient.compiled import in_precision, mixed_as_numpy_does
from pipeline.gradient.work import Work
from pipeline.relax import Relaxed
from pipeline.relax.widths import Asked, Width, named_like
from pipeline.templates.variations import Observer, families

EVENTS = 2  # of the chunk that shows which widths an analysis asks for; only its shape is looked at


class Asking(Relaxed):
    """The smooth operations, which write down the names of the widths that they are asked for."""

    names: set[str] = eqx.field(kw_only=True)
    answer: float = eqx.field(default=1.0, kw_only=True)

    def _width(self, asked: Asked) -> Width:
        width = asked.width
        if width is not None and not isinstance(width, str):
            return width
        name = width if isinstance(width, str) else named_like(asked.threshold, self.thresholds)
        if name is None:
            return super()._width(asked)
        self.names.add(name)
        return self.answer


def missing_names(config: Config, work: Work, parameters: Mapping[str, ArrayLike]) -> set[str]:
    """Return the names of the widths that an analysis asks for and a configuration does not give.

    Raises:
        ConfigError: a width is given that nothing asks for; the message has the name and the nearest ones.
    """
    asked = _asked(work, parameters)
    for fault in _of_nothing(config, work, asked):
        raise ConfigError(fault)
    return asked - set(config.widths)


def faults(config: Config, work: Work, parameters: Mapping[str, ArrayLike]) -> Iterator[str]:
    """Yield a message for each width that nothing asks for."""
    yield from _of_nothing(config, work, _asked(work, parameters))


def _of_nothing(config: Config, work: Work, asked: set[str]) -> Iterator[str]:
    known = asked | set(work.problem.analysis.parameters)
    for name in config.widths:
        if name not in known:
            yield (
                f"widths.{name}: no free parameter of {config.analysis.target}, and nothing in its `observe` asks for "
                f"a width of this name; {nearest(name, known) if known else 'it asks for none, remove the key'}"
            )


def _asked(work: Work, parameters: Mapping[str, ArrayLike]) -> set[str]:
    """Return the names of the widths that an analysis asks for.

    They are found by tracing its selection of each sample, without events.
    """
    problem, names = work.problem, set[str]()
    found, free = problem.analysis, {name: np.asarray(value) for name, value in parameters.items()}

    def observed(
        variations: tuple[str, ...], free: dict[str, jax.Array], arrays: dict[str, jax.Array]
    ) -> list[tuple[Mapping[str, jax.Array], Mapping[str, jax.Array]]]:
        with mixed_as_numpy_does():
            p, c = Parameters(in_precision(problem, free)), Columns(in_precision(problem, arrays))
            relax = Asking({}, thresholds=p.arrays, names=names)
            seen = families(Observer(found, problem.binnings, p, relax), variations, c)
        return [(family.weights, family.values) for family in seen]

    seen: list[object] = []
    factors = [name for name, variation in declared(found).items() if isinstance(variation, WeightFactor)]
    for group in work.groups:
        variations = tuple(name for name in group.variations if name in factors)
        file = next(file for file in group.files if file.events)
        stored = store.column_types(Path(file.path))
        if (variations, stored) not in seen:  # others of the same columns ask for the same
            seen.append((variations, stored))
            jax.eval_shape(functools.partial(observed, variations), free, _shapes(stored, found))
    return names


def _shapes(
    types: Mapping[str, tuple[np.dtype, tuple[int, ...]]], analysis: Analysis
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the columns of a chunk, those that a stage without a derivative makes among them."""
    made = analysis.simulated.outputs if analysis.simulated else ()
    every = {**{name: (np.dtype(np.float64), ()) for name in made}, **types}
    return {name: jax.ShapeDtypeStruct((EVENTS, *shape), dtype) for name, (dtype, shape) in every.items()}
