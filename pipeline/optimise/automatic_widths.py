"""Widths that a configuration leaves out: from the training events themselves, and how many these are.

A cut of width ``w`` changes a yield by about half of its variance times the slope of the density. For values of spread
``s`` and ``n`` events that is below the yield's statistical error where w < s n^(-1/4). A cut ends below that, which is
hard for all that the sample can tell, and starts wide enough that events are near.

- Cuts: from s / 4, or more where fewer than 5 % of the values lie within seven widths of the start, to s n^(-1/4) / 2.
  ``s`` is half the distance between the quantiles of 16 and 84 % of all samples, each of which counts as much as
  another. A number that many events share far from all others, such as -999, does not count. Where the values are of
  few kinds, such as numbers of jets, from a half to a tenth of the smallest distance between two kinds.
- Choices among objects: from a quarter to a twentieth of the median distance between neighbours in size.
- Choices by free numbers alone, without events: from 1 to 0.1 of the logits.

A name that several operations use gets the smallest of each. What free arrays make, such as the output of a network,
has no spread of its own before they are trained: there widths must be given.
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from pipeline.config import Anneal, Config
from pipeline.data import datasets
from pipeline.data.run_files import ColumnFiles
from pipeline.errors import ConfigError
from pipeline.gradient.work import Work, prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.width_names import missing_names
from pipeline.optimise.width_uses import CUTS, Use, trained, uses_of

logger = logging.getLogger(__name__)

SPREAD = (0.15865, 0.84135)  # quantiles one standard deviation from the middle of a Gaussian
CUT_INITIAL, CUT_FINAL = 0.25, 0.5  # of the spread; the latter times n^(-1/4)
NEAR = 0.05  # this share of the values is within REACH initial widths of the start
REACH = 7.0  # widths: the slope of a logistic cut is 1e-3 of its largest there
SHARED, FAR = 0.01, 10.0  # a number that this share has, so many spreads from all others, stands for none
KINDS, PER_KIND = 20, 20  # different values at most, and values of each on average at least, that are kinds
SAME = 1e-6  # of the range: values as near as that are of one kind
KIND_INITIAL, KIND_FINAL = 0.5, 0.1  # of the smallest distance between two kinds
CHOICE_INITIAL, CHOICE_FINAL = 0.25, 0.05  # of the distance between objects
LOGIT = Anneal(initial=1.0, final=0.1)


def with_all_widths(config: Config, work: Work, parameters: Mapping[str, ArrayLike]) -> Config:
    """Return the configuration with a width for every name that its analysis asks for.

    They depend on the configuration and the events of ``work`` alone, those of training, not on their order.

    Args:
        parameters: where the optimisation starts.

    Raises:
        ConfigError: a width is given that nothing asks for, or is missing where none can be found.
    """
    missing = missing_names(config, work, parameters)
    if not missing:
        return config
    uses = {} if work.problem.analysis.simulated else uses_of(work, parameters, frozenset(missing))
    untrained = trained(work, parameters, uses)
    found: dict[str, Anneal] = {}
    for name in sorted(missing):
        width = _smallest(
            [_width_of(call[1], seen, work.events) for call, seen in uses.items() if call[0] == name]
        )
        if width is None or name in untrained:
            why = "what it acts on is made by free arrays, which are not trained yet"
            if name not in untrained:
                why = "none of the first training events shows what its size should be"
            raise ConfigError(
                f"widths: {config.analysis.target} asks for the width {name!r}, which is not given, and {why}; add "
                f"widths.{name}: {{initial: ..., final: ...}}"
            )
        found[name] = width
    return config.with_widths(found)


def told(before: Config, after: Config) -> None:
    """Say which widths were found."""
    for name in sorted(after.widths.keys() - before.widths.keys()):
        width = after.widths[name]
        logger.info(f"widths.{name}: from {width.initial:.3g} to {width.final:.3g}, from the training events")


def of_run(config: Config, columns: ColumnFiles) -> Config:
    """Return the configuration with the widths of its optimisation, of the first one where there are several."""
    training = datasets.training(config, datasets.optimisations(config)[0])
    return with_all_widths(config, prepare_work(config, columns, training), initial_parameters(config))


def _smallest(found: Sequence[Anneal | None]) -> Anneal | None:
    own = [width for width in found if width is not None]
    if not own:
        return None
    final = min(width.final for width in own)
    return Anneal(initial=max(final, min(width.initial for width in own)), final=final)


def _width_of(operation: str, uses: Sequence[Use], events: int) -> Anneal | None:
    """Return the width of one call; None where its values, of all samples, do not differ."""
    if operation in CUTS:
        return _of_cut(uses, events)
    if not any(use.of_events for use in uses):
        return LOGIT
    distance = _distance_between_objects(uses)
    if distance is None:
        return None
    if operation == "sort":  # in the inverse unit
        return Anneal(initial=CHOICE_INITIAL / distance, final=CHOICE_FINAL / distance)
    return Anneal(initial=CHOICE_INITIAL * distance, final=CHOICE_FINAL * distance)


def _of_cut(uses: Sequence[Use], events: int) -> Anneal | None:
    own = [values for values in map(_present, uses) if values.size]
    if not own:
        return None
    values = np.concatenate(own)
    shares = np.concatenate([np.full(some.size, 1 / some.size) for some in own])
    kinds = np.unique(values)
    apart = np.diff(kinds)[np.diff(kinds) > SAME * (kinds[-1] - kinds[0])]
    if not apart.size:
        return None
    if apart.size < KINDS and values.size >= PER_KIND * (apart.size + 1):
        return Anneal(initial=KIND_INITIAL * apart.min(), final=KIND_FINAL * apart.min())
    chosen = _is_real(values)
    values, shares = values[chosen], shares[chosen]
    low, high = _quantiles(values, shares, SPREAD)
    spread = (high - low) / 2 or values.std()
    if not spread:
        return None
    final = CUT_FINAL * spread * events**-0.25
    near = _quantiles(abs(values), shares, (NEAR,))[0] / REACH
    return Anneal(initial=max(CUT_INITIAL * spread, final, near), final=final)


def _is_real(values: Float[np.ndarray, " values"]) -> Bool[np.ndarray, " values"]:
    """Return which values are not a number that many share far from all others, such as -999."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    rare = counts[place] <= max(1.0, SHARED * values.size)
    if not rare.any():
        return np.ones_like(rare)
    others = values[rare]
    low, high = np.quantile(others, SPREAD)
    reach = FAR * (high - low) / 2
    return np.asarray(rare | ((values >= others.min() - reach) & (values <= others.max() + reach)))


def _present(use: Use) -> Float[np.ndarray, " values"]:
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


def _distance_between_objects(uses: Sequence[Use]) -> float | None:
    """Return the median distance between neighbours in size in an event; None where there are never two."""
    distances = []
    for use in uses:
        there = np.broadcast_to(use.there, use.values.shape) & np.isfinite(use.values)
        ordered = np.sort(np.where(there, use.values, np.nan), axis=-1)  # NaN last
        steps = np.diff(ordered, axis=-1).ravel()
        distances.append(steps[np.isfinite(steps) & (steps > 0)])
    every = np.concatenate(distances)
    return float(np.median(every)) if every.size else None
