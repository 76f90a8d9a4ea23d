"""The widths of the relaxed operations at an epoch: how they shrink from the first epoch to the last."""

import jax

from pipeline.config import Anneal, Config
from pipeline.relax import anneal
from pipeline.templates.fill import Widths


def widths_at(config: Config, epoch: int) -> Widths:
    """Return the widths at an epoch.

    They go geometrically from initial to final over the first ``optimise.anneal_fraction`` of the epochs.
    They depend on the epoch alone, so a restart continues them.
    """
    return Widths(
        operations={name: annealed(config, schedule, epoch) for name, schedule in config.widths.items()},
        bandwidths={
            n: annealed(config, c.bandwidth, epoch) for n, c in config.channels.items() if c.bandwidth
        },
    )


def annealed(config: Config, schedule: Anneal, epoch: int) -> jax.Array:
    """Return a width at an epoch; see ``widths``."""
    progress = epoch / (config.optimise.anneal_fraction * config.optimise.epochs)
    return anneal(schedule.initial, schedule.final, progress)
