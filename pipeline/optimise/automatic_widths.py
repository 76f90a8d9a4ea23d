"""Widths that a configuration leaves out: from the training events themselves, and how many these are.

A cut of width ``w`` changes a yield by about half of its variance times the slope of the density. For values of spread
``s`` and ``n`` events that is below the yield's statistical error where w < s n^(-1/4). A cut ends below that, which is
hard for all that the sample can tell, and starts wide enough that events are near.

- Cuts: from s / 4, or more where fewer than 5 % of the values lie within seven widths of the start value, to
  s n^(-1/4) / 2. ``s`` is half the distance between the quantiles of 16 and 84 % of all samples, each of which counts
  as much as another. Where the values are of few kinds, such as numbers of jets, from a half to a tenth of the smallest
  distance between two kinds.
- Choices among objects: from a quarter to a twentieth of the median distance between neighbours in size.
- Choices by free numbers alone, without events: from 1 to 0.1 of the logits.

A name that several operations use gets the smallest of each.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from pipeline.config import Anneal, Config
from pipeline.containers import Columns, Parameters
from pipeline.data import datasets
from pipeline.data.run_files import ColumnFiles
from pipeline.errors import ConfigError
from pipeline.gradient.chunks import cut, parted
from pipeline.gradient.compiled import in_precision, mixed_as_numpy_does
from pipeline.gradient.work import Group, Layout, Work, prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.width_names import Asking, missing_names
from pipeline.relax.arrays import Mask, RealArrays
from pipeline.relax.widths import Width
from pipeline.templates.variations import Observer, observe

logger = logging.getLogger(__name__)

EVENTS = 4096  # looked at of each sample
HARD = 1e-12  # the width of the operations meanwhile: what an operation acts on is as with hard cuts
SPREAD = (0.15865, 0.84135)  # quantiles one standard deviation from the middle of a Gaussian
CUT_INITIAL, CUT_FINAL = 0.25, 0.5  # of the spread; the latter times n^(-1/4)
NEAR, REACH = (
    0.05,
    7.0,
)  # this share of the values is so near the start, in initial widths: the slope there is 1e-3
KINDS = 20  # different values at most, for which the distance between them counts
KIND_INITIAL, KIND_FINAL = 0.5, 0.1  # of the smallest distance between two kinds
CHOICE_INITIAL, CHOICE_FINAL = 0.25, 0.05  # of the distance between objects
LOGIT = Anneal(initial=1.0, final=0.1)


class _Use(NamedTuple):
    """What one operation of one sample acted on; ``threshold`` is that of a cut."""

    operation: str
    values: np.ndarray
    there: Bool[np.ndarray, "..."]
    threshold: np.ndarray | None


class _Watching(Asking):
    """The operations, nearly hard, which write down what the widths of each wanted name are for."""

    wanted: frozenset[str] = eqx.field(kw_only=True)
    seen: dict[str, list[_Use]] = eqx.field(kw_only=True)

    def _width(
        self,
        operation: str,
        width: str | Width | None,
        x: RealArrays,
        threshold: object = None,
        mask: Mask = None,
    ) -> Width:
        self.names.clear()
        answer = super()._width(operation, width, x, threshold, mask)
        for name in self.names & self.wanted:
            cuts = operation in ("greater", "less", "between")
            at = threshold if cuts and isinstance(threshold, jax.Array | np.ndarray) else None

            def note(x: Any, there: Any, at: Any, name: str = name) -> None:
                use = _Use(operation, np.asarray(x, dtype=np.float64), np.asarray(there, dtype=bool), at)
                self.seen.setdefault(name, []).append(use)

            # By a callback, since an analysis may call the operation inside vmap or jit.
            jax.debug.callback(note, jnp.asarray(x), True if mask is None else jnp.asarray(mask), at)
        return answer


def with_widths(config: Config, work: Work, parameters: Mapping[str, ArrayLike]) -> Config:
    """Return the configuration with a width for every name that its analysis asks for, and say which were found.

    They depend on the configuration and the events of ``work`` alone, those of training, not on their order.

    Args:
        parameters: where the optimisation starts.

    Raises:
        ConfigError: a width is given that nothing asks for, or is missing where none can be found.
    """
    missing = missing_names(config, work, parameters)
    if not missing:
        return config
    uses = {} if work.problem.analysis.simulated else _uses(work, parameters, frozenset(missing))
    found: dict[str, Anneal] = {}
    for name in sorted(missing):
        width = _smallest([_width_of(use, work.events) for use in _of_one_operation(uses.get(name, []))])
        if width is None:
            raise ConfigError(
                f"widths: {config.analysis.target} asks for the width {name!r}, which is not given, and no training "
                f"event shows what its size should be; add widths.{name}: {{initial: ..., final: ...}}"
            )
        found[name] = width
        logger.info(f"widths.{name}: from {width.initial:.3g} to {width.final:.3g}, from the training events")
    return config.with_widths(found)


def of_run(config: Config, columns: ColumnFiles) -> Config:
    """Return the configuration with the widths of its optimisation, of the first one where there are several."""
    training = datasets.training(config, datasets.optimisations(config)[0])
    return with_widths(config, prepare_work(config, columns, training), initial_parameters(config))


def _uses(work: Work, parameters: Mapping[str, ArrayLike], wanted: frozenset[str]) -> dict[str, list[_Use]]:
    """Return what the operations with the wanted widths act on, in the first events of each sample."""
    problem, seen = work.problem, dict[str, list[_Use]]()
    for group in {group.sample: group for group in reversed(work.groups)}.values():
        with mixed_as_numpy_does():
            p = Parameters(in_precision(problem, dict(parameters)))
            c = Columns(in_precision(problem, _first_events(group)))
            relax = _Watching({}, thresholds=p.arrays, names=set(), answer=HARD, wanted=wanted, seen=seen)
            observe(Observer(problem.analysis, problem.binnings, p, relax), c)
        jax.effects_barrier()
    return seen


def _first_events(group: Group) -> dict[str, jax.Array]:
    """Return the columns of the first events of a group."""
    columns, factor = parted(Columns(next(cut(group, Layout(EVENTS)))))
    real = np.asarray(factor) != 0
    return {name: jnp.asarray(np.asarray(array)[real]) for name, array in columns.arrays.items()}


def _of_one_operation(uses: Sequence[_Use]) -> list[list[_Use]]:
    """Return the uses by operation and threshold: the samples' belong together."""
    found: dict[tuple[str, object], list[_Use]] = {}
    for use in uses:
        at = None if use.threshold is None else np.asarray(use.threshold).tobytes()
        found.setdefault((use.operation, at), []).append(use)
    return list(found.values())


def _smallest(found: Sequence[Anneal | None]) -> Anneal | None:
    own = [width for width in found if width is not None]
    if not own:
        return None
    final = min(width.final for width in own)
    return Anneal(initial=max(final, min(width.initial for width in own)), final=final)


def _width_of(uses: Sequence[_Use], events: int) -> Anneal | None:
    """Return the width of one operation; None where its values, of all samples, do not differ."""
    if uses[0].threshold is not None or uses[0].operation in ("greater", "less", "between"):
        return _of_cut(uses, events)
    if uses[0].operation == "mixture" and uses[0].values.ndim < 2:
        return LOGIT
    distance = _distance_between_objects(uses)
    if distance is None:
        return None
    if uses[0].operation == "sort":  # in the inverse unit
        return Anneal(initial=CHOICE_INITIAL / distance, final=CHOICE_FINAL / distance)
    return Anneal(initial=CHOICE_INITIAL * distance, final=CHOICE_FINAL * distance)


def _of_cut(uses: Sequence[_Use], events: int) -> Anneal | None:
    own = [_present(use) for use in uses]
    own = [values for values in own if values.size]
    if not own:
        return None
    values = np.concatenate(own)
    shares = np.concatenate([np.full(some.size, 1 / some.size) for some in own])
    kinds = np.unique(values)
    if kinds.size < 2:
        return None
    if kinds.size <= KINDS:
        distance = np.diff(kinds).min()
        return Anneal(initial=KIND_INITIAL * distance, final=KIND_FINAL * distance)
    low, high = _quantiles(values, shares, SPREAD)
    spread = (high - low) / 2 or values.std()
    final = CUT_FINAL * spread * events**-0.25
    starts = [np.asarray(use.threshold).ravel() for use in uses if use.threshold is not None]
    near = [_quantiles(abs(values - start), shares, (NEAR,))[0] / REACH for start in np.unique(starts)]
    initial = max(CUT_INITIAL * spread, final, *near)
    return Anneal(initial=initial, final=final)


def _present(use: _Use) -> Float[np.ndarray, " values"]:
    there = np.broadcast_to(use.there, use.values.shape) & np.isfinite(use.values)
    present: np.ndarray = use.values[there]
    return present


def _quantiles(
    values: Float[np.ndarray, " values"], weights: Float[np.ndarray, " values"], at: Sequence[float]
) -> list[float]:
    """Return weighted quantiles: values, none in between, so that the same events give the same bits."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order]) / weights.sum()
    places = np.minimum(np.searchsorted(below, np.asarray(at)), values.size - 1)
    return [float(value) for value in values[order][places]]


def _distance_between_objects(uses: Sequence[_Use]) -> float | None:
    """Return the median distance between neighbours in size in an event; None where there are never two."""
    distances = []
    for use in uses:
        there = np.broadcast_to(use.there, use.values.shape) & np.isfinite(use.values)
        ordered = np.sort(np.where(there, use.values, np.nan), axis=-1)  # NaN last
        steps = np.diff(ordered, axis=-1).ravel()
        distances.append(steps[np.isfinite(steps) & (steps > 0)])
    every = np.concatenate(distances)
    return float(np.median(every)) if every.size else None
