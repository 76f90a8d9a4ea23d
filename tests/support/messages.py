"""What the package logs, as a list of lines."""

import contextlib
import logging


@contextlib.contextmanager
def heard():
    """The lines that are logged meanwhile."""
    lines, logger = [], logging.getLogger("pipeline")
    handler, level = logging.Handler(), logger.level
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
