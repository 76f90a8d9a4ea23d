"""Whether the epochs came to an end of their own: what the last of them still gained.

Smooth cuts grow harder from epoch to epoch, which changes the objective too. So two things are asked of the last
epochs: that the objective became better, and that the steps alone, times the gradients, should have made it so.
"""

from collections.abc import Sequence

from pipeline.data.progress import kept
from pipeline.data.record import EpochRecord
from pipeline.gradient.loss import Described

LAST, LEAST = 0.1, 5  # of the epochs of a start, and at least so many
GAINED = 2e-3  # of the objective: what the last epochs gained beyond, more epochs may well give again


def unconverged(objective: Described, records: Sequence[EpochRecord]) -> str | None:
    """Return what is to be said of a run whose last epochs still improved the objective; None of any other."""
    moment = kept(records)
    own = [record for record in records if record.start == moment.start]
    if moment.epoch < len(own):
        return None
    last = own[-max(LEAST, round(LAST * len(own))) :]
    first, end = last[0].objective, last[-1].objective
    least = GAINED * abs(end)
    steps = -sum(record.to_first_order for record in last)
    if steps <= least or not objective.is_better(end, first) or abs(end - first) <= least:
        return None
    return (
        f"The optimisation has not converged: in its last {len(last)} epochs the objective still went from {first:.5g} "
        f"to {end:.5g} (training events); give it more optimise.epochs, or a larger optimise.learning_rate."
    )
