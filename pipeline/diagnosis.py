"""Where to look when a fit does not converge: the bins and variations that are out of the ordinary."""

import numpy as np
from jaxtyping import Float

from pipeline.containers import AnyArray, Templates
from pipeline.workspace import Axes

LARGE = 1.0  # relative change of a bin, all samples together, that no shape uncertainty should have


def suspects(templates: Templates, axes: Axes) -> str:
    """The emptiest bin, and the variation that changes a bin most where it does so by more than everything in it."""
    totals = {channel: _nominal(yields).sum(axis=0) for channel, yields in templates.yields.items()}
    channel = min(totals, key=lambda name: float(totals[name].min()))
    number = int(np.argmin(totals[channel]))
    found = (
        f"the emptiest bin is bin {number} of channel {channel!r} with {totals[channel][number]:.3g} events"
    )
    changes = [_largest_change(name, np.asarray(yields), axes) for name, yields in templates.yields.items()]
    size, text = max(changes)
    return f"{found}; {text}" if size > LARGE else found


def _nominal(yields: Float[AnyArray, "samples variations bins"]) -> Float[np.ndarray, "samples bins"]:
    return np.asarray(yields)[:, 0]


def _largest_change(
    channel: str, yields: Float[np.ndarray, "samples variations bins"], axes: Axes
) -> tuple[float, str]:
    """The largest relative change of a sample's bin by a variation that it has, in units of all events there."""
    nominal = _nominal(yields)
    there = yields.any(axis=2, keepdims=True)  # a sample has no row of what does not vary it
    change = np.where(there, np.abs(yields - nominal[:, None]), 0) / np.maximum(nominal.sum(axis=0), 1e-300)
    sample, variation, number = np.unravel_index(int(np.argmax(change)), change.shape)
    size = float(change[sample, variation, number])
    return size, (
        f"variation {axes.variations[int(variation)]!r} of sample {axes.samples[int(sample)]!r} changes bin "
        f"{number} of channel {channel!r} by {size:.3g} times the events in it"
    )
