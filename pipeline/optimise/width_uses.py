"""What the relaxed operations of an analysis act on, in some training events: for widths that are to be found."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool

from pipeline.analysis import WeightFactor
from pipeline.analysis.systematics import declared, factors
from pipeline.containers import Columns, Parameters
from pipeline.gradient.chunks import cut, parted
from pipeline.gradient.compiled import in_precision, mixed_as_numpy_does
from pipeline.gradient.work import Group, Layout, Work
from pipeline.optimise.width_names import Asking
from pipeline.relax.widths import Asked, Width
from pipeline.templates.variations import Observer, observe

EVENTS, FILES = 4096, 8  # looked at of each sample: so many events, of at most so many files, far apart
HARD = 1e-12  # the width of the operations meanwhile: what an operation acts on is as with hard cuts
CUTS = ("greater", "less", "between")
WidthCall = tuple[str, str, int]  # a name, an operation, and its place among the calls with that name


class Use(NamedTuple):
    """What one call acted on in events of one sample: of a cut how far above the threshold, else scores or values."""

    values: np.ndarray
    there: Bool[np.ndarray, "..."]
    of_events: bool


class _Watching(Asking):
    """The operations, nearly hard, which write down what the widths of each wanted name are for."""

    wanted: frozenset[str] = eqx.field(kw_only=True)
    uses: dict[WidthCall, list[Use]] = eqx.field(kw_only=True)
    events: int = eqx.field(kw_only=True)
    calls: Iterator[int] = eqx.field(kw_only=True)

    def _width(self, asked: Asked) -> Width:
        self.names.clear()
        answer = super()._width(asked)
        for name in self.names & self.wanted:
            values, there = jnp.asarray(asked.x), asked.mask
            if asked.operation in CUTS:
                values, there = values - jnp.asarray(asked.threshold), asked.objects
            call = name, asked.operation, next(self.calls)
            answer = HARD + self._noted(call, values, jnp.asarray(True if there is None else there))
        return answer

    def _noted(self, call: WidthCall, values: jax.Array, there: jax.Array) -> jax.Array:
        """Write down a call, also where it is inside vmap or jit; 0, which it is part of the program by."""

        def note(seen: Any, real: Any) -> np.ndarray:
            found, mask = np.asarray(seen, dtype=np.float64), np.asarray(real, dtype=bool)
            outside = np.broadcast_shapes(
                found.shape[: found.ndim - values.ndim], mask.shape[: mask.ndim - there.ndim]
            )
            self.uses.setdefault(call, []).append(Use(found, mask, self.events in found.shape[:1]))
            return np.zeros(outside)

        kind = jax.ShapeDtypeStruct((), np.float64)
        nothing: jax.Array = jax.pure_callback(note, kind, values, there, vmap_method="expand_dims")
        return nothing


def uses_of(
    work: Work, parameters: Mapping[str, ArrayLike], wanted: frozenset[str]
) -> dict[WidthCall, list[Use]]:
    """Return what the calls with the wanted widths act on, in some events of each sample."""
    uses: dict[WidthCall, list[Use]] = {}
    for group, most in _some_of_each_sample(work):
        _watch(work, group, most, parameters, wanted, uses)
    return uses


def _watch(
    work: Work,
    group: Group,
    most: int,
    parameters: Mapping[str, ArrayLike],
    wanted: frozenset[str],
    uses: dict[WidthCall, list[Use]],
) -> None:
    """Observe the first events of a group, its weight variations too, and add what the calls act on."""
    problem, columns = work.problem, _first_events(group, most)
    known = declared(problem.analysis)
    wanted_factors = {n: v for n in group.variations if isinstance(v := known[n], WeightFactor)}
    with mixed_as_numpy_does():
        p = Parameters(in_precision(problem, dict(parameters)))
        c = Columns(in_precision(problem, columns))
        relax = _Watching(
            {},
            thresholds=p.arrays,
            names=set(),
            wanted=wanted,
            uses=uses,
            events=len(c.weight),
            calls=itertools.count(),
        )
        seen = observe(Observer(problem.analysis, problem.binnings, p, relax), c)
        varied = factors(problem.analysis, wanted_factors, p, c, relax)
        jax.block_until_ready((seen, varied))


def _some_of_each_sample(work: Work) -> Iterator[tuple[Group, int]]:
    """Yield groups of one file each, a few of every sample and far apart, and how many events of it to look at."""
    samples: dict[str, list[Group]] = {}
    for group in work.groups:
        alone = (group._replace(files=(file,)) for file in group.files if file.events)
        samples.setdefault(group.sample, []).extend(alone)
    for groups in samples.values():
        places = np.unique(np.linspace(0, len(groups) - 1, FILES).round().astype(int))
        yield from ((groups[place], EVENTS // len(places)) for place in places)


def _first_events(group: Group, most: int) -> dict[str, jax.Array]:
    """Return the columns of the first events of a group."""
    columns, factor = parted(Columns(next(cut(group, Layout(most)))))
    real = np.asarray(factor) != 0
    return {name: jnp.asarray(np.asarray(array)[real]) for name, array in columns.arrays.items()}


def trained(
    work: Work, parameters: Mapping[str, ArrayLike], uses: Mapping[WidthCall, Sequence[Use]]
) -> set[str]:
    """Return the names whose calls act on other values where the analysis's free arrays are others."""
    arrays = {n for n, v in parameters.items() if np.ndim(v)} - {b.parameter for b in work.problem.binnings}
    if not (arrays and uses):
        return set()
    others = {n: 1.5 * np.asarray(v) + 0.1 if n in arrays else v for n, v in parameters.items()}
    again = dict[WidthCall, list[Use]]()
    _watch(work, *next(_some_of_each_sample(work)), others, frozenset(call[0] for call in uses), again)
    return {
        call[0]
        for call, seen in again.items()
        if seen[0].of_events and not np.array_equal(seen[0].values, uses[call][0].values, equal_nan=True)
    }
