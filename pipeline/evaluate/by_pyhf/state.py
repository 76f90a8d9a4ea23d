"""pyhf as it is needed for one call: NumPy in double precision, a minimiser, no word; afterwards as it was before."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence

import iminuit
import numpy as np
import pyhf

PyhfData = Sequence[float] | np.ndarray  # of a model, its auxiliary data included

SILENT = -1  # of Minuit: its C++ prints errors at 0, warnings at 1, past Python's own standard error
FAILURES = "pyhf.optimize.mixins"  # the logger to which a failed fit gives its traceback before it raises


@contextlib.contextmanager
def pyhf_with(optimizer: object) -> Iterator[None]:
    """Let pyhf compute with NumPy in float64 and minimise with ``optimizer``, silently, within the block.

    Backend, precision and optimiser are global in pyhf, the level of printing is global in Minuit: each is put back,
    also after an exception. A fit that fails says so by its exception, not by a log or a warning.
    """
    backend, before = pyhf.get_backend()
    failures = logging.getLogger(FAILURES)
    level, muted = _level(SILENT), failures.disabled
    try:
        failures.disabled = True
        pyhf.set_backend("numpy", optimizer, precision="64b")
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", RuntimeWarning
            )  # SciPy's and NumPy's, of points beyond the likelihood
            yield
    finally:
        pyhf.set_backend(backend, before)
        failures.disabled = muted
        _level(level)


def minuit(*, strategy: int | None = None) -> pyhf.optimize.minuit_optimizer:
    """Return pyhf's optimiser that minimises with iminuit, silent."""
    chosen = {} if strategy is None else {"strategy": strategy}
    return pyhf.optimize.minuit_optimizer(verbose=SILENT, **chosen)


def _level(new: int) -> int:
    """Set how much Minuit prints; how much it did before."""
    handle = iminuit.Minuit(lambda x: x * x, 0.0)
    before = int(handle.print_level)
    handle.print_level = new
    return before
