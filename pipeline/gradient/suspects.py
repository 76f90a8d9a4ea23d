"""Where to look when a fit does not converge: the bins and variations that are out of the ordinary."""

import numpy as np
from jaxtyping import Float

from pipeline.config.fit.theory import is_component
from pipeline.containers import AnyArray, Templates
from pipeline.data.datasets import NOMINAL
from pipeline.templates.axes import Axes

LARGE = 1.0  # relative change of a bin, all samples together, that no shape uncertainty should have


def suspects(templates: Templates, axes: Axes) -> str:
    """Return which bin is the emptiest, and which variation changes a bin most.

    The variation is named only where it changes that bin by more than everything in it.
    """
    totals = {channel: _total(yields, axes) for channel, yields in templates.yields.items()}
    channel = min(totals, key=lambda name: float(totals[name].min()))
    number = int(np.argmin(totals[channel]))
    found = (
        f"the emptiest bin is bin {number} of channel {channel!r} with {totals[channel][number]:.3g} events"
    )
    changes = [_largest_change(name, np.asarray(yields), axes) for name, yields in templates.yields.items()]
    size, text = max(changes)
    return f"{found}; {text}" if size > LARGE else found


def _total(yields: Float[AnyArray, "samples variations bins"], axes: Axes) -> Float[np.ndarray, " bins"]:
    rows = [np.asarray(yields)[axes.row(process, NOMINAL)] for process in axes.processes]
    return np.asarray(np.sum(rows, axis=0))


def _largest_change(
    channel: str, yields: Float[np.ndarray, "samples variations bins"], axes: Axes
) -> tuple[float, str]:
    """Return the largest change of a sample's bin by a variation that it has, in units of all events there."""
    total = np.maximum(_total(yields, axes), 1e-300)
    found = [(0.0, "")]
    for process in axes.processes:
        nominal = yields[axes.row(process, NOMINAL)]
        for variation in axes.every_variation(process):
            varied = yields[axes.row(process, variation)]
            if is_component(variation) or not varied.any():  # a sample has no row of what does not vary it
                continue
            change = np.abs(varied - nominal) / total
            number = int(np.argmax(change))
            text = (
                f"variation {variation!r} of sample {process!r} changes bin {number} of channel {channel!r} by "
                f"{change[number]:.3g} times the events in it"
            )
            found.append((float(change[number]), text))
    return max(found)
