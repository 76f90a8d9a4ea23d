"""The verb that shows a run while it goes on."""

import logging
from pathlib import Path

import click

from pipeline.cli.options import Whole, of_a_run, verb

logger = logging.getLogger(__name__)


@verb
@of_a_run
@click.option("--every", type=Whole(1), default=5, help="seconds between two looks at the run (default: 5)")
def watch(config: Path, overrides: tuple[str, ...], every: int) -> None:
    """Keep a page with objective and parameters by epoch, results/<run>/watch.html, until the run ends or Ctrl-C."""
    from pipeline import config as configuration
    from pipeline.report.watch import Followed, follow, page_of

    run = configuration.load(config, overrides)

    def told(seen: Followed) -> None:
        epochs = " and ".join(str(len(own)) for own in seen.records)
        logger.info(f"{page_of(run)}: {epochs} epochs{', the optimisation has ended' if seen.ended else ''}")
        if seen.others:
            logger.info(
                f"note: results/{run.run} holds epochs of another configuration, analysis or data set; is a --set "
                "missing here that the run was given?"
            )

    follow(run, every, told=told)
