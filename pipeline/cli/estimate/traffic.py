"""What travels in a sweep, weighed where it would be sent."""

import pickle
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from pipeline.cluster import InProcess
from pipeline.gradient.accumulator import arrays_of
from pipeline.gradient.resident import Resident
from pipeline.gradient.sweeps import NamedSums
from pipeline.gradient.work import Work


class Weighing:
    """This process in place of workers; it notes the seconds of its sweeps, and the bytes that workers would send.

    Attributes:
        sent: bytes that every worker is given.
        shared: bytes of a worker's sums.
        received: bytes of the arrays that come back.
    """

    workers = 1

    def __init__(self, resident: Resident) -> None:
        self._inner, self._resident = InProcess(resident), resident
        self.seconds, self.sent, self.shared, self.received = 0.0, 0, 0, 0

    def sweep(self, function: Callable[..., Any], work: Work, *broadcast: object) -> list[Any]:
        """Return ``[function(resident, group, work, *broadcast) for group in work.groups]``."""
        return self._inner.sweep(function, work, *broadcast)

    def total(
        self, function: Callable[..., NamedSums], work: Work, *broadcast: object, precision: str = "float64"
    ) -> dict[Any, np.ndarray]:
        """Return the arrays of ``function(resident, work.groups, work, *broadcast)``, sums by name."""
        started = time.perf_counter()
        sums = jax.device_get(function(self._resident, work.groups, work, *broadcast))
        found = arrays_of(sums, precision)
        self.seconds += time.perf_counter() - started
        self.sent += _weight(broadcast)
        self.shared += _weight(sums)
        self.received += _weight(found)
        return found


def _weight(content: object) -> int:
    return len(pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL))
