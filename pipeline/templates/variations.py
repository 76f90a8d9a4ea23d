"""Observe the events of a chunk under the nominal conditions and every systematic variation."""

import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from pipeline.analysis import Analysis, WeightFactor, systematics
from pipeline.analysis.declarations import WEIGHT as WEIGHT
from pipeline.analysis.declarations import shape_of, shaped
from pipeline.containers import Columns, Observation, Parameters
from pipeline.data.datasets import NOMINAL
from pipeline.errors import ConfigError, Noting, nearest
from pipeline.relax import Exact, Relaxed, status
from pipeline.templates.binning import Binning

SHARES_MAY_MISS = 1e-5  # what rounding in single precision does to shares that add up to 1


class Varied(NamedTuple):
    """Variations that change the same columns, to the same types: what the columns are under each."""

    variations: tuple[str, ...]
    changed: dict[str, Array]  # columns [variations, events, ...]


class Observer(NamedTuple):
    """What looks at events: an analysis and its bins, at one point, with one kind of operations."""

    analysis: Analysis
    binnings: Sequence[Binning]
    parameters: Parameters
    relax: Exact | Relaxed


class Family(NamedTuple):
    """Variations that change the same columns, and what is observed under them.

    A value is the observable [variations, events], or the shares in the bins [variations, events, bins]; without its
    first axis where the variations cannot change it.
    """

    variations: tuple[str, ...]
    changed: dict[str, Array]  # columns [variations, events, ...]
    weights: dict[str, Array]  # [variations, events] per channel
    values: dict[str, Array]


def families(observer: Observer, variations: Sequence[str], columns: Columns) -> list[Family]:
    """Return observations under the nominal conditions and the variations, in families.

    The family with the nominal comes first, and all are made at once.
    """
    nominal, *others = rows_of(observer.analysis, variations, columns)
    seen = (Family(*rows, *observe_rows(observer, columns, rows.changed)) for rows in others)
    return [of_weight(observer, variations, columns, nominal), *seen]


def rows_of(analysis: Analysis, variations: Sequence[str], columns: Columns) -> list[Varied]:
    """Return the columns under every variation that changes some, those of the weight alone first, with the nominal.

    Variations that change the same columns, to the same types, are observed together: with ``vmap``, all that does not
    depend on those columns is computed once.
    """
    known = systematics.declared(analysis)
    varied = {NOMINAL: columns}
    for name in variations:
        if not isinstance(variation := known[name], WeightFactor):
            varied[name] = systematics.changed(analysis, name, columns, variation.changed)
    own = ((WEIGHT, columns.weight.dtype),)
    members: dict[tuple[tuple[str, Any], ...], list[str]] = {own: []}
    for name, arrays in varied.items():
        changed = tuple((n, a.dtype) for n, a in arrays.arrays.items() if a is not columns.arrays[n])
        members.setdefault(changed or own, []).append(name)
    return [
        Varied(
            tuple(names),
            {column: jnp.stack([varied[v].arrays[column] for v in names]) for column, _ in kinds},
        )
        for kinds, names in members.items()
    ]


def of_weight(observer: Observer, variations: Sequence[str], columns: Columns, rows: Varied) -> Family:
    """Return the nominal and the variations of the weight alone.

    One selection serves all of them, and factors make further rows.
    """
    known = systematics.declared(observer.analysis)
    wanted = {n: v for n in variations if isinstance(v := known[n], WeightFactor)}
    factors = systematics.factors(observer.analysis, wanted, observer.parameters, columns, observer.relax)
    weights, values = observe_rows(observer, columns, rows.changed)
    if factors:
        stacked = _stacked(list(factors.values()), columns.weight)
        weights = {channel: jnp.concatenate([of, of[:1] * stacked]) for channel, of in weights.items()}
    return Family((*rows.variations, *factors), rows.changed, weights, values)


def _stacked(
    factors: Sequence[Float[ArrayLike, "*events"]], weight: Float[Array, " events"]
) -> Float[Array, "variations events"]:
    """Return factors as one array, made before it is used: each channel would compute all of them by itself."""

    def row(factor: Float[ArrayLike, "*events"]) -> Float[Array, " events"]:
        typed = jnp.asarray(factor, dtype=weight.dtype if isinstance(factor, numbers.Real) else None)
        return jnp.broadcast_to(typed, weight.shape)

    rows: Array = jax.lax.optimization_barrier(jnp.stack([row(factor) for factor in factors]))
    return rows


def observe(observer: Observer, columns: Columns) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return weights and values of each channel; one that only counts has no value."""
    analysis, events = observer.analysis, columns.weight.shape
    with Noting(f"in {type(analysis).__name__}.observe(p, c, relax)"):
        seen = analysis.observe(observer.parameters, columns, observer.relax)
    found = {b.channel: _observation(analysis, seen, b, events) for b in observer.binnings}
    weights = {channel: o.weight for channel, o in found.items()}
    values = {channel: o.value if o.shares is None else _valid(o.shares) for channel, o in found.items()}
    return weights, {channel: value for channel, value in values.items() if value is not None}


def _valid(shares: Float[Array, "events bins"]) -> Float[Array, "events bins"]:
    """Return the shares, or NaN for events whose shares are impossible.

    No share may be below 0, and they may not add up to more than 1.
    """
    bad = jnp.any(shares < -SHARES_MAY_MISS, axis=-1) | (jnp.sum(shares, axis=-1) > 1 + SHARES_MAY_MISS)
    return jnp.where(bad[..., None], jnp.nan, shares)


def bad_columns(rows: Varied) -> Iterator[str]:
    """Yield what is not finite in the columns of variations."""
    for name, arrays in rows.changed.items():
        for variation, array in zip(rows.variations, arrays, strict=True):
            bad = int(jnp.sum(~jnp.isfinite(array)))
            if bad:
                yield f"column {name!r} of variation {variation!r} holds {bad} values that are not finite"


def bad_observables(binnings: Sequence[Binning], family: Family) -> Iterator[str]:
    """Yield what is not finite in what is observed under variations."""
    for binning in binnings:
        yield from _bad_observable(family, binning)


def check_variations(analysis: Analysis, sample: str, names: tuple[str, ...]) -> None:
    """Raise where the model names a variation of a sample that the analysis does not define."""
    known = analysis.variation_names
    for name in names:
        if name not in known or name == NOMINAL:
            raise ConfigError(
                f"model.systematics: {type(analysis).__name__} has no variation {name!r}, nor has sample {sample!r} "
                f"one in data.samples.{sample}.variations; {nearest(name, known)}"
            )


def _bad_observable(family: Family, binning: Binning) -> Iterator[str]:
    weights, values = family.weights[binning.channel], family.values.get(binning.channel, jnp.zeros(1))
    found = status(values if binning.shares is None else values.sum(axis=-1), weights)
    for row, variation in enumerate(family.variations):
        nan, bad = (int(n if n.ndim == 0 else n[row]) for n in (found.nan_values, found.bad_weights))
        events = f"of {weights.shape[-1]} events in channel {binning.channel!r}, variation {variation!r}"
        if nan and binning.shares is not None:
            yield f"the shares are below 0, add up to more than 1 or are NaN for {nan} {events}"
        elif nan:
            yield f"the value is NaN for {nan} {events}, also where the weight is 0"
        if bad:
            yield f"the weight is not finite for {bad} {events}"


def observe_rows(
    observer: Observer, columns: Columns, changed: dict[str, Float[Array, "variations ..."]]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return weights [variations, events] and values of each channel, the values [events] where they cannot vary."""

    def one(arrays: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        return observe(observer, columns.replace(**arrays))

    return jax.vmap(one, out_axes=(0, None if tuple(changed) == (WEIGHT,) else 0))(changed)


def _observation(
    analysis: Analysis, observations: Mapping[str, Observation], binning: Binning, events: tuple[int, ...]
) -> Observation:
    """Return the observation of a channel, which must have the bins of the configuration."""
    where, name = f"channels.{binning.channel}: ", type(analysis).__name__
    if not isinstance(observations, Mapping):
        raise ConfigError(
            f"{name}.observe() returns a {type(observations).__name__}; it must return {{channel: Observation}}"
        )
    if binning.channel not in observations:
        raise ConfigError(f"{where}{name} observes no such channel; {nearest(binning.channel, observations)}")
    found = observations[binning.channel]
    if not isinstance(found, Observation):
        raise ConfigError(f"{where}{name} observes a {type(found).__name__}; it must be an Observation")
    made = 0 if found.shares is None else found.shares.shape[-1]
    if made != (binning.shares or 0):
        raise ConfigError(
            f"{where}{name} divides each event among {made or 'no'} bins itself; "
            + (f"say `shares: {made}`, without edges" if made else "give `edges`, not `shares`")
        )
    if binning.edges is not None and found.value is None:
        raise ConfigError(f"{where}has edges, but the analysis only counts there; remove them")
    for kind in ("weight", "value"):
        array = getattr(found, kind)
        if (kind == "weight" or array is not None) and shape_of(array) != events:
            raise ConfigError(
                f"{where}{name} observes a {kind} that is {shaped(array)}; it must be a number for each "
                f"event, of shape {events}: make one of the objects' by relax.sum(...), jnp.sum(..., axis=1) or an "
                "index"
            )
    if found.shares is not None and found.shares.shape != (*events, made):
        raise ConfigError(
            f"{where}{name} observes shares that are {shaped(found.shares)}; they must be [events, bins]"
        )
    return found
