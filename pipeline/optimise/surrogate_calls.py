"""Calls of a stage without a derivative around the current parameters, and what they taught so far.

Every epoch calls the stage at the parameters and at the points of a Latin hypercube around them, and learns a generator
from these calls and the latest earlier ones inside the same box. The calls of an epoch are one file, so that a run
that is continued learns from the same ones.
"""

from pathlib import Path

import numpy as np
import scipy.stats
from jaxtyping import Float

from pipeline.analysis import analysis_of
from pipeline.config import Config
from pipeline.data import store
from pipeline.data.record import Counts
from pipeline.errors import InputError
from pipeline.gradient.black_box import draw, joined
from pipeline.gradient.sweeps import Executor, FreeValues
from pipeline.gradient.work import Work
from pipeline.optimise.schedule import annealed
from pipeline.templates.surrogate import Call, LocalSurrogate, Scale, fit


class Calls:
    """The calls of a run, epoch by epoch; in ``folder`` too, where there is one."""

    def __init__(self, config: Config, folder: Path | None = None, fingerprint: str = "") -> None:
        self._config, self._folder, self._fingerprint = config, folder, fingerprint
        self._known: dict[int, list[Call]] = {}
        self._points: dict[int, np.ndarray] = {}  # of every epoch seen, [calls, params]

    def there(self, epoch: int) -> bool:
        """Return whether the calls of an epoch were made already, by this very run."""
        try:
            self._at(epoch)
        except InputError:
            return False
        return True

    def learnt(
        self,
        executor: Executor,
        work: Work,
        epoch: int,
        parameters: FreeValues,
        within: int | None = None,
    ) -> tuple[LocalSurrogate, Counts]:
        """Return the generator at an epoch, learnt from new calls and earlier ones; how many, and of how many events.

        Args:
            within: the epoch within its start, which the size of the box is of; absent: the same.

        Raises:
            InputError: the calls of an earlier epoch are not there any more.
        """
        settings, stage = self._config.surrogate, analysis_of(self._config).simulated
        if settings is None or stage is None:
            raise TypeError("a run without a stage to call")
        box, bounds = region(self._config, epoch if within is None else within, parameters)
        seed = (self._config.optimise.seed, epoch)
        shares = executor.sweep(draw, work, around(box, bounds, settings.points, seed), settings.draws, seed)
        new = [joined(parts) for parts in zip(*shares, strict=True)]
        self._keep(epoch, new)
        chosen = [*new, *self._near(epoch, box, settings.calls - len(new))]
        counts = Counts(calls=len(new), draws=sum(len(c.inputs) for c in new), learnt_from=len(chosen))
        return fit(stage, settings, chosen, box, seed), counts

    def _near(self, epoch: int, box: Scale, number: int) -> list[Call]:
        """Return the latest calls before an epoch inside a box; the others are forgotten where they are in files."""
        found: list[Call] = []
        used = {epoch}
        for before in reversed(range(epoch)):
            if len(found) >= number:
                break
            points = self._points[before] if before in self._points else self._points_of(before)
            inside = np.all(np.abs(box.reduced(points)) <= 1, axis=1)
            if inside.any():
                found += [call for call, near in zip(self._at(before), inside, strict=True) if near]
                used.add(before)
        if self._folder is not None:
            self._known = {known: calls for known, calls in self._known.items() if known in used}
        return found[: max(0, number)]

    def _points_of(self, epoch: int) -> np.ndarray:
        self._points[epoch] = np.stack([call.point for call in self._at(epoch)])
        return self._points[epoch]

    def _keep(self, epoch: int, calls: list[Call]) -> None:
        self._known[epoch] = calls
        if self._folder is not None:
            leaves = {f"{kind}_{i:04d}": a for i, c in enumerate(calls) for kind, a in c._asdict().items()}
            store.write_state(self._path(epoch), leaves, self._header(epoch))

    def _at(self, epoch: int) -> list[Call]:
        if epoch not in self._known:
            leaves, _ = store.read_state(self._path(epoch), self._header(epoch))
            numbers = sorted({name.rpartition("_")[2] for name in leaves})
            self._known[epoch] = [Call(*(leaves[f"{kind}_{n}"] for kind in Call._fields)) for n in numbers]
        return self._known[epoch]

    def _header(self, epoch: int) -> dict[str, str | int]:
        return {"kind": "calls", "epoch": epoch, store.FINGERPRINT: self._fingerprint}

    def _path(self, epoch: int) -> Path:
        if self._folder is None:
            raise InputError(f"the calls of epoch {epoch} were not kept")
        return self._folder / f"epoch_{epoch:06d}.npz"


def region(config: Config, epoch: int, parameters: FreeValues) -> tuple[Scale, np.ndarray]:
    """Return the box around the parameters, middle and half widths; and what is allowed, [2, params]."""
    found = analysis_of(config)
    if config.surrogate is None or found.simulated is None:
        raise TypeError("a run without a stage to call")
    names = found.simulated.parameters
    bounds = np.array([found.parameters[name].bounds for name in names]).T
    half = float(annealed(config, config.surrogate.region, epoch)) * (bounds[1] - bounds[0])
    return Scale(np.array([float(parameters[name]) for name in names]), half), bounds


def around(
    box: Scale, bounds: Float[np.ndarray, "2 params"], number: int, seed: tuple[int, ...]
) -> Float[np.ndarray, "points params"]:
    """Return the middle of a box, and the points of a Latin hypercube in the part of it that is allowed."""
    low, high = (np.asarray(box.middle + sign * box.width) for sign in (-1, 1))
    low, high = np.maximum(low, bounds[0]), np.minimum(high, bounds[1])
    cube = scipy.stats.qmc.LatinHypercube(len(low), rng=np.random.default_rng(seed)).random(number)
    return np.concatenate([np.asarray(box.middle)[None], low + (high - low) * cube])
