"""The values on the arrows of the flow, and the one vocabulary of axis names.

Axis names used in every shape annotation of the package:

==============  ========================================================================
``events``      events of a chunk (padded ones carry weight 0)
``objects``     jets, leptons ... of one event, padded to a fixed number
``samples``     datasets: ``process`` or ``process__variation`` of the manifest
``variations``  systematic variations; index 0 is the nominal
``bins``        bins of one channel
``params``      parameters of the likelihood
==============  ========================================================================
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Real

from pipeline.errors import Failures

AnyArray = Array | np.ndarray  # JAX inside a process, NumPy between processes


class Message(eqx.Module):
    """A module that travels between processes: it is pickled by its fields, and made anew there.

    Pickle would make it without `__init__`. Equinox notes every module that is being made, and forgets it when that is
    done: one without `__init__` it would hold for ever, and with it all arrays of every sweep.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return _made, (type(self), fields)


def _made(kind: type[Message], fields: dict[str, Any]) -> Message:
    return kind(**fields)


class Named(Message):
    """Arrays by name, read as attributes: `c.jet_pt`, `p.lepton_pt`."""

    arrays: dict[str, Any]

    def __getattr__(self, name: str) -> Array:
        if name.startswith("__") or name == "arrays":
            raise AttributeError(name)
        try:
            array: Array = self.arrays[name]
        except KeyError:
            raise AttributeError(f"no {name!r} here; there are: {', '.join(sorted(self.arrays))}") from None
        return array


class Columns(Named):
    """The events of a chunk: arrays [events] or [events, objects], among them `weight`.

    Where the cause of numbers that are not finite is looked for, `failures` takes what functions of NumPy raise that
    are called with these events; they cannot raise through a compiled program.
    """

    failures: Failures | None = eqx.field(static=True, default=None)

    def holding(self, arrays: dict[str, Any]) -> "Columns":
        """The same events with other arrays."""
        return Columns(arrays, self.failures)

    def replace(self, **arrays: Array) -> "Columns":
        """The same with some arrays replaced; a name that is not there yet is an error."""
        for name in arrays:
            getattr(self, name)
        return self.holding({**self.arrays, **arrays})

    def widened(self) -> "Columns":
        """The same, all in the weights' type: where differences of large numbers need more digits than float32 has."""
        return self.holding({name: array.astype(self.weight.dtype) for name, array in self.arrays.items()})


class Parameters(Named):
    """The free parameters of the analysis at one point."""


class Observation(eqx.Module):
    """What an analysis reports for one channel: an observable and a weight per event.

    The weight is the event's own times the (soft) decisions that select it. A counting channel has no value. In place
    of a value an event may have its shares in the bins, as `relax.assign` gives them: no histogram is made then.
    """

    weight: Float[Array, " events"]
    value: Real[Array, " events"] | None = None
    shares: Float[Array, "events bins"] | None = None

    def __check_init__(self) -> None:
        if self.value is not None and self.shares is not None:
            raise ValueError("Observation: value and shares are both given; an event has one or the other")


class Templates(Message):
    """Summed histograms of every channel; templates of disjoint sets of events add.

    `yields[channel]` is [samples, variations, bins] (or without the first axis, for one sample) and
    `sumw2[channel]` the sum of squared nominal weights, [samples, bins].
    """

    yields: Mapping[str, Float[AnyArray, "*samples variations bins"]]
    sumw2: Mapping[str, Float[AnyArray, "*samples bins"]]
